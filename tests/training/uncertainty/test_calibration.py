import dataclasses
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from safetensors.torch import load_file

from ik_e3nn.cli import main
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, load_model, save_model, with_uncertainty
from ik_e3nn.targets import MECHANICS, Dipole
from ik_e3nn.training import CalibrationSettings, calibrate
from ik_e3nn.training.sets.prepare import read_set
from ik_e3nn.training.uncertainty.calibration import errors_and_stds, read_labeled
from ik_e3nn.training.uncertainty.quality import factors_of, quality_of, warn_of_doubts
from tests.training.helpers import MODEL, structures
from tests.training.test_joint import POTENTIAL, labeled


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "train.xyz", structures(12, crystals=False))
    write(tmp_path / "valid.xyz", structures(30, seed=4, crystals=False))
    for seed in range(3):
        torch.manual_seed(seed)
        model = InteratomicPotential(["H", "O"], **MODEL)
        model.set_scale(0.05)
        save_model(model, tmp_path / f"model_{seed}.safetensors")
    return tmp_path


def settings(folder, model="model_0.safetensors", **options):
    chosen = {"output": str(folder / "u.safetensors"), "device": "cpu", "progress": False} | options
    return CalibrationSettings(str(folder / model), str(folder / "valid.xyz"), **chosen)


@pytest.mark.parametrize("kind", ["committee", "last_layer"])
def test_missing_bonds_are_named_once(files, kind, caplog) -> None:
    for seed in range(2):
        save_model(
            InteratomicPotential(["H", "O"], inputs=["bond_types"], **MODEL), files / f"bonds_{seed}.safetensors"
        )
    if kind == "committee":
        calibrate(settings(files, "bonds_*.safetensors"))
        count = 30
    else:
        calibrate(settings(files, "bonds_0.safetensors", train=str(files / "train.xyz"), members=4))
        count = 42
    said = [message for message in caplog.messages if "the model uses bonds" in message]
    assert len(said) == 1
    assert f"but {count} of {count} structures are molecules without bonds (first: structure 0 of" in said[0]


@pytest.mark.parametrize("kind", ["committee", "last_layer"])
def test_calibrated_stds_are_the_errors_of_the_calibrating_half(files, kind, drawn) -> None:
    if kind == "committee":
        chosen = settings(files, "model_*.safetensors")
    else:
        chosen = settings(files, train=str(files / "train.xyz"), members=4)
    result = calibrate(chosen)
    assert result.kind == kind
    paths = sorted(files.glob("model_*.safetensors"))[: 3 if kind == "committee" else 1]
    potential = with_uncertainty([load_model(path) for path in paths], files / "u.safetensors")
    data = read_set(str(files / "valid.xyz"), chosen.keys)
    half = data.select(range(0, 30, 2))
    for label, (error, std) in errors_and_stds(potential, half).items():
        assert np.sqrt(np.mean((error / std) ** 2)) == pytest.approx(1.0, rel=1e-4), label
    metrics = json.loads((files / "u_metrics.json").read_text())
    assert metrics["calibrated_on"] == metrics["tested_on"] == 15
    other = errors_and_stds(potential, data.select(range(1, 30, 2)))
    error, std = other["energy"]
    assert metrics["quality"]["energy"]["within_std"] == pytest.approx(np.mean(np.abs(error) < std))
    assert metrics["quality"]["energy"]["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert (files / "u_calibration.png").stat().st_size > 10_000


def test_the_command(files, capsys, monkeypatch) -> None:
    monkeypatch.chdir(files)
    words = ["calibrate", "model_*.safetensors", "valid.xyz", "-o", "new/c.safetensors", "--progress=false"]
    assert main(words) == 0
    assert "committee: " in capsys.readouterr().out
    for name in ("c.safetensors", "c_metrics.json", "c_calibration.png"):
        assert main(words) == 2
        assert f"{name} exists already" in capsys.readouterr().err
        (files / "new" / name).unlink()


def _without(atoms, label):
    atoms = atoms.copy()
    atoms.info.pop(f"REF_{label}", None)
    atoms.arrays.pop(f"REF_{label}", None)
    return atoms


def test_what_symmetry_forbids_is_no_question_of_chance(files) -> None:
    """Single atoms have no error to speak of, and straight molecules no forces across."""
    straight = structures(8, seed=5, crystals=False)
    for number, atoms in enumerate(straight):
        atoms.positions = [[0, 0, 0], [0, 0, 0.9 + 0.02 * number], [0, 0, -1.0]]
        atoms.arrays["REF_forces"][:, :2] = 0.0
    alone = Atoms("O", info={"REF_energy": -3.0, "config_type": "IsolatedAtom"})
    alone.arrays["REF_forces"] = np.zeros((1, 3))
    write(files / "valid.xyz", [*straight, alone, alone])
    result = calibrate(settings(files, "model_*.safetensors"))
    assert np.isfinite([*result.factors.values(), result.quality["forces"]["spearman"]]).all()
    metrics = json.loads((files / "u_metrics.json").read_text())
    assert metrics["calibrated_on"] == metrics["tested_on"] == 4
    potential = with_uncertainty(
        [load_model(path) for path in sorted(files.glob("model_*.safetensors"))], files / "u.safetensors"
    )
    half = read_set(str(files / "valid.xyz"), settings(files).keys).select(range(0, 8, 2))
    error, std = errors_and_stds(potential, half)["forces"]
    assert len(std) == 4 * 3
    assert np.sqrt(np.mean((error / std) ** 2)) == pytest.approx(1.0, rel=1e-4)


def test_what_cannot_be_trusted_is_said(caplog) -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.1, 1.0, 4000)
    good = (std * rng.normal(size=4000), std)
    warn_of_doubts({"gap": good}, {"gap": quality_of(*good)})
    assert not caplog.text

    # the scatter of the factor from few values is what the warning says
    factors = [factors_of({"gap": (std[:8] * rng.normal(size=8), std[:8])})["gap"] for _ in range(2000)]
    assert np.std(factors) == pytest.approx(0.25, rel=0.1)
    few, blind = tuple(x[:8] for x in good), (3 * rng.normal(size=4000), std)
    warn_of_doubts({"gap": few}, {"gap": quality_of(*blind)})
    assert "gap: calibrated on 8 values only, so its factor is uncertain by 25 %" in caplog.text
    assert "times the expected size" in caplog.text
    assert "hardly rank the errors" in caplog.text


def test_structures_without_labels_make_nothing_surer(files) -> None:
    labeled = structures(12, crystals=False)
    bare = [_without(_without(atoms, "energy"), "forces") for atoms in structures(12, seed=9, crystals=False)]
    covariances = []
    for name, frames in (("a", labeled), ("b", [*labeled, *bare])):
        write(files / "train.xyz", frames)
        calibrate(settings(files, train=str(files / "train.xyz"), output=str(files / f"{name}.safetensors")))
        root = load_file(files / f"{name}.safetensors")["root.energy"]
        covariances.append(root @ root.T)
    torch.testing.assert_close(*covariances)


def test_mistakes_are_clear_errors(files) -> None:
    with pytest.raises(
        ConfigError, match=r"single model \(.*model_0.safetensors\) needs its training data; give --train"
    ):
        calibrate(settings(files))
    write(files / "valid.xyz", structures(3, crystals=False))
    with pytest.raises(
        DataError, match="one half has 1 structures with the label energy; at least 2 are needed in each. Give more"
    ):
        calibrate(settings(files, "model_*.safetensors"))
    frames = structures(8, crystals=False)
    write(files / "valid.xyz", [_without(atoms, "energy") if k % 2 else atoms for k, atoms in enumerate(frames)])
    with pytest.raises(
        DataError,
        match="one half has 0 structures with the label energy; at least 2 are needed in each. .* mix them with the",
    ):
        calibrate(settings(files, "model_*.safetensors"))
    write(files / "valid.xyz", frames)
    same = settings(files)
    with pytest.raises(DataError, match="no labeled energy has a standard deviation above zero: .*are the same"):
        calibrate(dataclasses.replace(same, model=[same.model, same.model]))
    write(files / "bare.xyz", [_without(_without(atoms, "energy"), "forces") for atoms in frames])
    with pytest.raises(
        DataError, match="train has no labels: no structure, isolated atoms aside, has REF_energy or REF_for"
    ):
        calibrate(settings(files, train=str(files / "bare.xyz")))
    with pytest.raises(ConfigError, match="members is 0, but it must be at least 1"):
        settings(files, members=0)


@pytest.mark.parametrize("kind", ["committee", "last_layer"])
def test_energies_and_properties_of_one_body_are_calibrated_together(tmp_path, kind) -> None:
    """As the energies of the potential in it are by themselves, and the dipoles as those of any model."""
    write(tmp_path / "train.xyz", labeled(12))
    write(tmp_path / "valid.xyz", labeled(16, seed=5))
    for seed in range(2):
        torch.manual_seed(seed)
        targets = [*MECHANICS, Dipole("mu", "D")]
        model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, potential=POTENTIAL)
        model.potential.set_scale(0.05)
        torch.nn.init.normal_(model.heads["dipole"].mlp.weights[-1])
        save_model(model, tmp_path / f"joint_{seed}.safetensors")
        save_model(model.potential, tmp_path / f"alone_{seed}.safetensors")
    some = "*" if kind == "committee" else "0"
    train = None if kind == "committee" else str(tmp_path / "train.xyz")
    results = {}
    for name in ("joint", "alone"):
        chosen = settings(tmp_path, f"{name}_{some}.safetensors", train=train, output=str(tmp_path / f"{name}.u"))
        results[name] = calibrate(chosen)
    assert set(results["joint"].factors) == {"energy", "forces", "mu"}
    for name in ("energy", "forces"):
        assert results["joint"].factors[name] == pytest.approx(results["alone"].factors[name], rel=1e-3)
        assert results["joint"].quality[name] == pytest.approx(results["alone"].quality[name], rel=1e-3, abs=1e-3)
    models = [load_model(path) for path in sorted(tmp_path.glob(f"joint_{some}.safetensors"))]
    ensemble = with_uncertainty(models, tmp_path / "joint.u")
    half = read_labeled(str(tmp_path / "valid.xyz"), models[0], settings(tmp_path)).select(range(0, 16, 2))
    for name, (error, std) in errors_and_stds(ensemble, half).items():
        assert np.sqrt(np.mean((error / std) ** 2)) == pytest.approx(1.0, rel=1e-3), name
    assert "mu " in results["joint"].text()
    bare = [atoms.copy() for atoms in labeled(12)]
    for atoms in bare:
        del atoms.info["REF_energy"], atoms.arrays["REF_forces"], atoms.info["mu"]
    write(tmp_path / "bare.xyz", bare)
    if kind == "last_layer":
        with pytest.raises(DataError, match="isolated atoms aside, has REF_energy or REF_forces or mu; give the"):
            calibrate(settings(tmp_path, "joint_0.safetensors", train=str(tmp_path / "bare.xyz")))
