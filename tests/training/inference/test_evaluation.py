import csv
import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from ik_e3nn.errors import ConfigError, DataError, ModelFileError, UnknownSpeciesError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, load_model, save_model
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.targets import Intensive
from ik_e3nn.training import EvalSettings, PredictSettings, evaluate, predict
from tests.training.helpers import structures


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = InteratomicPotential([1, 8, 29], r_max=4.0, num_channels=4, num_layers=1, correlation=1)
    save_model(model, tmp_path / "model.safetensors")
    some = structures(7)
    del some[0].info["REF_energy"]
    del some[1].arrays["REF_forces"]
    write(tmp_path / "data.xyz", some)
    return tmp_path


def settings(folder, **changes):
    base = {"model": "model.safetensors", "data": "data.xyz", "output": "out.xyz"} | changes
    paths = {name: str(folder / base[name]) for name in ("model", "data", "output")}
    return EvalSettings(**(base | paths | {"progress": False, "device": "cpu"}))


def test_predictions_are_the_models_and_the_labels_stay(folder) -> None:
    metrics = evaluate(settings(folder, batch_size=3))
    model = load_model(folder / "model.safetensors")
    before, after = read(folder / "data.xyz", ":"), read(folder / "out.xyz", ":")
    assert len(after) == 7
    for old, new in zip(before, after, strict=True):
        out = model(build_graph(old, model.r_max), stress=True)
        assert new.info["IK_energy"] == pytest.approx(float(out["energy"]), rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(new.arrays["IK_forces"], out["forces"].numpy(), rtol=1e-3, atol=1e-6)
        assert ("IK_stress" in new.info) == old.pbc.all()
        if old.pbc.all():
            np.testing.assert_allclose(new.info["IK_stress"], out["stress"][0].numpy(), rtol=1e-3, atol=1e-7)
        assert new.info.get("REF_energy") == old.info.get("REF_energy")
        np.testing.assert_allclose(new.positions, old.positions)
    assert any(np.abs(atoms.arrays["IK_forces"]).max() > 1e-3 for atoms in after)
    assert metrics == json.loads((folder / "out_metrics.json").read_text())
    assert metrics["labels"] == {"energy": 6, "forces": 6, "stress": 2}


def test_a_table_is_no_data_for_a_potential(folder) -> None:
    (folder / "a.csv").write_text("smiles,REF_energy\nO,-1.0\n")
    message = "a.csv is a table of molecules without geometries, .* Tables are read by `ik-e3nn predict` for all models"
    with pytest.raises(DataError, match=message):
        evaluate(settings(folder, data="a.csv"))


def test_a_table_of_smiles_with_labels_is_evaluated_like_its_geometries(folder) -> None:
    torch.manual_seed(0)
    model = MolecularPropertyModel(["H", "C", "O"], [Intensive("gap", "eV")])
    save_model(model, folder / "gap.safetensors")
    (folder / "a.csv").write_text("smiles,gap\nO,7.0\nCO,3.0\nC,\n")
    found = evaluate(settings(folder, model="gap.safetensors", data="a.csv"))
    assert (found["structures"], found["labels"]) == (3, {"gap": 2})
    predicted = [atoms.info["IK_gap"] for atoms in read(folder / "out.xyz", ":")]
    assert found["errors"]["gap_mae_eV"] == pytest.approx(
        np.abs(np.subtract(predicted[:2], [7.0, 3.0])).mean(), rel=1e-5
    )


def test_an_impossible_charge_is_named_with_its_structure(folder) -> None:
    some = structures(4)
    some[2].info["charge"] = "one"
    write(folder / "odd.xyz", some)
    message = r"structure 2 of .*odd.xyz.*: atoms.info\[.charge.\] must be one finite number; got 'one'"
    with pytest.raises(DataError, match=message):
        evaluate(settings(folder, data="odd.xyz"))


def test_predictions_of_molecules_with_impossible_bonds_are_left_out(folder) -> None:
    some = [molecule("H2O") for _ in range(3)]
    some[1].info["bonds"] = [0, 9, 1]
    write(folder / "odd.xyz", some)
    predict(PredictSettings(str(folder / "model.safetensors"), str(folder / "odd.xyz"), str(folder / "t.csv")))
    with (folder / "t.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [bool(row["energy_eV"]) for row in rows] == [True, False, True]
    assert "a bond refers to atom 9, but the structure has 3 atoms" in rows[1]["problem"]


def test_batches_are_bounded_by_structures_atoms_and_edges(folder, monkeypatch) -> None:
    predict, seen = InteratomicPotential.forward, []

    def watched(self, graph, *args, **options):
        seen.append((len(graph["cell"]), len(graph["positions"]), graph["edge_index"].shape[1]))
        return predict(self, graph, *args, **options)

    monkeypatch.setattr(InteratomicPotential, "forward", watched)
    errors = []
    for column, limits in enumerate(({"batch_size": 2}, {"max_atoms": 7}, {"max_edges": 50})):
        seen.clear()
        (most,) = limits.values()
        errors.append(evaluate(settings(folder, overwrite=True, **limits))["errors"])
        assert sum(one[0] for one in seen) == 7
        assert all(one[column] <= most or one[0] == 1 for one in seen)
        assert max(one[0] for one in seen) == 2
    assert errors[1:] == [pytest.approx(errors[0], rel=1e-4)] * 2
    for name in ("batch_size", "max_atoms", "max_edges"):
        with pytest.raises(ConfigError, match=f"{name} is 0, but it must be at least 1"):
            settings(folder, **{name: 0})


def test_errors_equal_those_of_the_written_file(folder) -> None:
    errors = evaluate(settings(folder))["errors"]
    after = read(folder / "out.xyz", ":")
    labeled = [atoms for atoms in after if "REF_forces" in atoms.arrays]
    differences = np.concatenate([(a.arrays["IK_forces"] - a.arrays["REF_forces"]).ravel() for a in labeled])
    assert errors["force_mae_meV_per_A"] == pytest.approx(1000 * np.abs(differences).mean(), rel=1e-4)
    assert errors["force_rmse_meV_per_A"] == pytest.approx(1000 * np.sqrt((differences**2).mean()), rel=1e-4)
    energies = [(a.info["IK_energy"] - a.info["REF_energy"]) / len(a) for a in after if "REF_energy" in a.info]
    assert errors["energy_mae_meV_per_atom"] == pytest.approx(1000 * np.abs(energies).mean(), rel=1e-4)
    stress = [a.info["IK_stress"] - a.info["REF_stress"] for a in after if "REF_stress" in a.info]
    assert errors["stress_mae_meV_per_A3"] == pytest.approx(1000 * np.abs(stress).mean(), rel=1e-4)
    plots = {path.name for path in folder.glob("*.png")}
    assert plots == {f"parity_out_{label}.png" for label in ("energy", "forces", "stress")}


@pytest.mark.parametrize("output", ["o.xyz", "o.extxyz", "o.xyz.gz", "O.XYZ"])
def test_every_format_that_is_taken_gives_predictions_back(folder, output) -> None:
    """From a file whose labels are results of a calculator and whose info is awkward."""
    some = read(folder / "data.xyz", ":")
    for atoms in some:
        atoms.info |= {"note": "a b", "nothing": None, "parts": [[1, 2], [3, 4]], "energy": 3.5}
        atoms.calc = SinglePointCalculator(atoms, energy=-1.25, forces=0.5 * np.ones((len(atoms), 3)))
        atoms.arrays["tensor"] = np.arange(9.0 * len(atoms)).reshape(-1, 3, 3)
    write(folder / "some.traj", some)
    evaluate(
        settings(folder, data="some.traj", output=output, energy_key="energy", forces_key="forces", dtype="float64")
    )
    model = load_model(folder / "model.safetensors", dtype=torch.float64)
    for old, new in zip(some, read(folder / output, ":"), strict=True):
        out = model(build_graph(old, model.r_max, dtype=torch.float64), stress=True)
        assert new.info["IK_energy"] == pytest.approx(float(out["energy"]), abs=1e-6)
        np.testing.assert_allclose(new.arrays["IK_forces"], out["forces"].numpy(), atol=1e-6)
        if old.pbc.all():
            np.testing.assert_allclose(new.info["IK_stress"], out["stress"][0].numpy(), atol=1e-6)
        np.testing.assert_allclose(new.get_forces(), 0.5)
        assert (new.info["note"], new.info["nothing"]) == ("a b", None)
        np.testing.assert_allclose(new.positions, old.positions, atol=1e-8)
        assert new.calc.results["energy"] == 3.5


@pytest.mark.parametrize("output", ["o.traj", "o.db", "o.json", "o.cif", "o.pdb", "o.csv", "o.npz", "o.vasp", "o"])
def test_what_cannot_hold_predictions_is_refused_before_the_work(folder, output) -> None:
    with pytest.raises(DataError, match=r"output must be an extxyz file, ending in \.xyz or \.extxyz"):
        settings(folder, output=output)


def test_predictions_replace_nothing(folder) -> None:
    evaluate(settings(folder))
    with pytest.raises(
        DataError, match="structure 0 of .*out.xyz has IK_energy, IK_forces already, .* choose another prefix"
    ):
        evaluate(settings(folder, data="out.xyz", output="b.xyz"))
    evaluate(settings(folder, data="out.xyz", output="b.xyz", prefix="second"))
    assert {"IK_energy", "second_energy"} <= set(read(folder / "b.xyz").info)
    with pytest.raises(DataError, match="data.xyz is read by this command, and would be replaced"):
        evaluate(settings(folder, output="data.xyz", overwrite=True))


def test_without_labels_there_are_predictions_and_no_errors(folder, caplog) -> None:
    write(folder / "bare.xyz", [Atoms("H2O", [[0, 0, 0], [1, 0, 0], [0, 1, 0]]), Atoms("H")])
    metrics = evaluate(settings(folder, data="bare.xyz", prefix="MODEL"))
    assert metrics["errors"] == {}
    assert "no errors are computed: none of 2 structures has the energy label 'REF_energy'" in caplog.text
    atoms = read(folder / "out.xyz", ":")
    assert np.isfinite(atoms[1].info["MODEL_energy"])
    np.testing.assert_allclose(atoms[1].arrays["MODEL_forces"], 0.0)


def test_labels_in_other_units(folder) -> None:
    some = read(folder / "data.xyz", ":")
    for atoms in some:
        if "REF_energy" in atoms.info:
            atoms.info["REF_energy"] /= units.Hartree
        if "REF_forces" in atoms.arrays:
            atoms.arrays["REF_forces"] /= units.Hartree / units.Bohr
        atoms.info.pop("REF_stress", None)
    write(folder / "atomic.xyz", some)
    usual = evaluate(settings(folder))["errors"]
    other = evaluate(settings(folder, data="atomic.xyz", output="b.xyz", energy_unit="Ha", length_unit="bohr"))[
        "errors"
    ]
    assert other == pytest.approx({name: usual[name] for name in other}, rel=1e-4)


def test_other_precision_and_no_plots(folder) -> None:
    single = evaluate(settings(folder, output="a.xyz"))["errors"]
    double = evaluate(settings(folder, output="b.xyz", dtype="float64", plots=False))["errors"]
    assert double == pytest.approx(single, rel=1e-3)
    assert list(folder.glob("parity_a_*"))
    model = load_model(folder / "model.safetensors", dtype=torch.float64)
    errors = {"a.xyz": [], "b.xyz": []}
    for name, found in errors.items():
        for atoms in read(folder / name, ":"):
            exact = model(build_graph(atoms, model.r_max, dtype=torch.float64))["forces"].numpy()
            found.append(np.abs(atoms.arrays["IK_forces"] - exact).max())
    assert max(errors["b.xyz"]) < 1.01e-8  # eight digits are written
    assert 1.01e-8 < max(errors["a.xyz"]) < 1e-4
    assert not list(folder.glob("parity_b_*"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"output": "data.xyz"}, DataError, "data.xyz exists already"),
        ({"data": "neon.xyz"}, UnknownSpeciesError, "structure 0 of .*neon.xyz has Ne, which the model does not know"),
        ({"model": "data.xyz"}, ModelFileError, "not a readable model file"),
        ({"model": "no.safetensors"}, FileNotFoundError, "no model file"),
        ({"data": "no.xyz"}, DataError, "there is no file"),
        ({"output": "data.xyz/out.xyz"}, (DataError, OSError), "cannot write to the folder|Not a directory"),
    ],
)
def test_mistakes_are_clear_errors_and_change_no_file(folder, changes, error, message) -> None:
    write(folder / "neon.xyz", Atoms("Ne"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(error, match=message):
        evaluate(settings(folder, **changes))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_second_run_needs_overwrite(folder) -> None:
    evaluate(settings(folder))
    with pytest.raises(DataError, match="exists already"):
        evaluate(settings(folder))
    evaluate(settings(folder, overwrite=True))


def test_impossible_settings() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0, but it must be at least 1"):
        EvalSettings("m", "d", "o", batch_size=0)
    with pytest.raises(ConfigError, match="prefix 'REF' would overwrite the labels"):
        EvalSettings("m", "d", "o", prefix="REF")
    with pytest.raises(ConfigError, match="prefix is 'a b', but it must be letters"):
        EvalSettings("m", "d", "o", prefix="a b")


@pytest.mark.parametrize(("key", "value"), [("charge", -1), ("spin", 3)])
def test_charges_that_the_model_does_not_see_are_said(folder, caplog, key, value) -> None:
    some = read(folder / "data.xyz", ":")
    some[2].info[key] = value
    for usual in some[3:5]:
        usual.info.update(charge=0, spin=1)
    write(folder / "data.xyz", some)
    evaluate(settings(folder, plots=False))
    assert "1 of 7 structures are charged or have unpaired electrons (the first: structure 2)" in caplog.text


def test_structures_unlike_the_training_data_are_counted(folder, caplog) -> None:
    model = load_model(folder / "model.safetensors")
    model.trained_on = Domain(max_atoms=100)
    save_model(model, folder / "model.safetensors", overwrite=True)
    evaluate(settings(folder, plots=False))
    crystals = sum(atoms.pbc.any() for atoms in read(folder / "data.xyz", ":"))
    assert f"{crystals} of 7 structures are unlike those that the model was trained on" in caplog.text
