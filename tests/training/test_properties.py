"""Training of properties: one YAML, the same engine, model files, predictions."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from rdkit import Chem

from ik_e3nn.cli import main
from ik_e3nn.data import conformers, molecule_from_smiles, read_properties, with_bonds
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import ConfigError, DataError, UnknownSpeciesError
from ik_e3nn.graph import build_molecular_graph
from ik_e3nn.models import load_model, read_model_info, with_uncertainty
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.targets import Dipole, Extensive, Intensive
from ik_e3nn.training import (
    CalibrationSettings,
    DataConfig,
    LossConfig,
    TrainConfig,
    calibrate,
    read_config,
    train,
    write_config,
)
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.objective.metrics import ErrorSums
from ik_e3nn.training.sets.loader import collate
from ik_e3nn.training.sets.prepare import prepare_data
from ik_e3nn.training.uncertainty.calibration import errors_and_stds
from tests.data.molecule_sets import SMILES

CONFIG = """
data:
  train: train.xyz
  targets: {size: extensive eV, heteroatoms: intensive, moment: dipole D}
  valid: 4
  test: 3
model: {steerable: {channels: 4, num_layers: 1, kernel_fields: 4}}
optimizer: {lr: 0.02, warmup_steps: 2}
run: {output: out, max_epochs: 6, batch_size: 4, device: cpu, progress: false}
"""


def write_xyz(table):
    """The molecules of a table with vectors, in their geometries, in an extxyz file beside it."""
    with table.open() as file:
        rows = list(csv.DictReader(file))
    structures = [molecule_from_smiles(row["smiles"]) for row in rows]
    for atoms, row in zip(structures, rows, strict=True):
        atoms.info |= {name: text for name, text in row.items() if text}
    write(table.with_suffix(".xyz"), structures)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rows = ["id,smiles,size,heteroatoms,moment"]
    for k, text in enumerate(SMILES):
        size = "" if k == 2 else str(len(text) + 0.5)
        rows.append(f"m{k},{text},{size},{sum(c in 'NO' for c in text)},0.1 {k} 0.3")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    write_xyz(tmp_path / "train.csv")
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_yaml_trains_and_one_command_predicts(folder, capsys) -> None:
    assert main(["train", "config.yaml", "--run.seed=3"]) == 0
    captured = capsys.readouterr()
    assert "model: out/model.safetensors" in captured.out
    assert "valid size_mae_eV" in captured.out
    assert "split " in captured.err
    files = {path.name for path in (folder / "out").iterdir()}
    assert files >= {"config.yaml", "metrics.json", "loss.png", "model.safetensors", "parity_test_size.png"}
    rows = [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    info = read_model_info(folder / "out/model.safetensors")
    data = info["training"]["data"]
    assert data["bonds"]["train"] == {"given": 9}
    assert len(data["split_hash"]) == 16
    assert {name: one["structures"] for name, one in data["sets"].items()} == {"train": 9, "valid": 4, "test": 3}
    assert main(["info", "out/model.safetensors"]) == 0
    assert "split_hash" in capsys.readouterr().out

    (folder / "new.csv").write_text("smiles,note\nCCO,one\nC1,broken\nCF,unknown\nC=O,four\n")
    assert main(["predict", "out/model.safetensors", "new.csv", "-o", "p.csv", "--progress=false"]) == 0
    captured = capsys.readouterr()
    assert "2 of 4 molecules predicted: p.csv" in captured.out
    assert "2 molecules have no prediction; column 'problem' has the reasons" in captured.err
    with (folder / "p.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        "smiles", "note", "size_eV", "heteroatoms", "moment_x_D", "moment_y_D", "moment_z_D", "problem",
    ]  # fmt: skip
    assert [row["note"] for row in table] == ["one", "broken", "unknown", "four"]
    assert all(math.isfinite(float(table[k]["size_eV"])) for k in (0, 3))
    assert table[1]["size_eV"] == ""
    assert "SMILES 'C1' cannot be read" in table[1]["problem"]
    assert "F, which the model does not know" in table[2]["problem"]
    assert main(["predict", "out/model.safetensors", "new.csv", "-o", "p.csv"]) == 2
    assert "p.csv" in capsys.readouterr().err
    (folder / "NEW.CSV").write_text("note, smiles\none,CCO\n")
    assert main(["predict", "out/model.safetensors", "NEW.CSV", "-o", "n.csv", "--progress=false"]) == 0
    assert "1 of 1 molecules predicted" in capsys.readouterr().out
    (folder / "bad.smi").write_text("C1\n")
    assert main(["predict", "out/model.safetensors", "bad.smi", "-o", "b.csv", "--progress=false"]) == 0
    assert "0 of 1 molecules predicted" in capsys.readouterr().out


def test_predictions_of_a_file_are_those_of_the_model(folder, capsys) -> None:
    assert main(["train", "config.yaml", "--run.max_epochs=1"]) == 0
    structures = [molecule_from_smiles(text) for text in ("CCO", "CC#N")]
    write(folder / "two.xyz", structures)
    assert main(["predict", "out/model.safetensors", "two.xyz", "-o", "p.csv", "--progress=false"]) == 0
    with (folder / "p.csv").open() as file:
        table = list(csv.DictReader(file))
    model = load_model(folder / "out/model.safetensors")
    for row, atoms in zip(table, structures, strict=True):
        with torch.no_grad():
            out = model(build_molecular_graph(atoms, model.edges, model.r_max))
        assert float(row["size_eV"]) == pytest.approx(float(out["size"]), rel=1e-4)
        assert float(row["moment_y_D"]) == pytest.approx(float(out["moment"][0, 1]), rel=1e-3, abs=1e-4)
    for atoms, text in zip(structures, ("CCO", "CC#N"), strict=True):
        atoms.info = {"smiles": text}
    write(folder / "bare.xyz", structures)
    words = ["predict", "out/model.safetensors", "bare.xyz", "-o", "q.csv", "--progress=false", "--bonds=smiles"]
    assert main(words) == 0
    with (folder / "q.csv").open() as file:
        for row, wanted in zip(csv.DictReader(file), table, strict=True):
            assert float(row["size_eV"]) == pytest.approx(float(wanted["size_eV"]), rel=1e-4)


def test_one_broken_geometry_loses_no_table(folder, capsys) -> None:
    from ase import Atoms
    from rdkit import Chem

    from ik_e3nn.data.structures.molecules import mol_from_atoms

    assert main(["train", "config.yaml", "--run.max_epochs=1"]) == 0
    good = molecule_from_smiles("CCO")
    nan, heap = good.copy(), Atoms(good.numbers, np.zeros((9, 3)))
    nan.positions[2, 1] = np.nan
    write(folder / "some.xyz", [good, nan, heap, good, Atoms()])
    (folder / "some.csv").write_text("smiles\nCCO\nC.C\n")
    drawing = good.copy()
    drawing.positions[:, 2] = 0
    blocks = [Chem.MolToMolBlock(mol_from_atoms(atoms, good.info["bonds"])) for atoms in (good, drawing)]
    record, flat = (f"{block}> <id>\na{{}}\n\n$$$$\n" for block in blocks)
    flat = flat.format(3).replace(" 3D", " 2D")
    rubbish = "rubbish\n\n\n  no counts\nM  END\n$$$$\n"
    (folder / "some.sdf").write_text(record.format(0) + rubbish + record.format(2) + flat + rubbish)
    tables = {}
    for kind in ("xyz", "csv", "sdf"):
        words = ["predict", "out/model.safetensors", f"some.{kind}", "-o", f"{kind}.csv", "--progress=false"]
        assert main(words) == 0, capsys.readouterr().err
        with (folder / f"{kind}.csv").open() as file:
            tables[kind] = list(csv.DictReader(file))
    known = {kind: [row["size_eV"] != "" for row in table] for kind, table in tables.items()}
    assert known == {
        "xyz": [True, False, False, True, False],
        "csv": [True, False],
        "sdf": [True, False, True, False, False],
    }
    assert "NaN" in tables["xyz"][1]["problem"]
    assert "atoms are on top of each other (H-H 0.00 A)" in tables["xyz"][2]["problem"]
    assert "are 2 molecules, whose relative positions are not known" in tables["csv"][1]["problem"]
    assert tables["xyz"][4]["problem"] == "it has no atoms"
    assert [row["molecule"] for row in tables["sdf"]] == ["0", "1", "2", "3", "4"]
    assert [row["id"] for row in tables["sdf"]] == ["a0", "", "a2", "", ""]
    assert tables["sdf"][1]["problem"] == "molecule 1 of some.sdf cannot be read"
    assert "molecule 3 of some.sdf is a flat drawing" in tables["sdf"][3]["problem"]
    assert main(["predict", "out/model.safetensors", "some.csv", "-o", "n.csv", "--seed=-1"]) == 2
    assert "seed is -1, but it must be between 0 and 4294967295" in capsys.readouterr().err


def test_predictions_replace_nothing_and_fit_every_row(folder, capsys) -> None:
    one = '--data.targets={"a/b": {"kind": "extensive", "unit": "eV"}}'
    (folder / "train.csv").write_text((folder / "train.csv").read_text().replace("size", "a/b"))
    assert main(["train", "config.yaml", "--data.train=train.csv", "--run.max_epochs=1", one]) == 0
    assert (folder / "out/parity_test_a_b.png").exists()
    (folder / "in.smi").write_text("CO\nCCO ethanol\n")
    words = ["predict", "out/model.safetensors", "in.smi", "-o", "new/p.csv", "--conformers=2", "--progress=false"]
    assert main(words) == 0
    with (folder / "new/p.csv").open() as file:
        assert [(row["name"], row["a/b_eV"] != "") for row in csv.DictReader(file)] == [("", True), ("ethanol", True)]
    (folder / "in.csv").write_text("smiles,a/b_eV\nCO,1.0\n")
    for data, message in (
        ("in.csv", "the input has a column a/b_eV, which is the name of a column of predictions; rename it"),
        ("in.*", "data is 2 files with in.csv among them, but only one table of SMILES can be predicted"),
    ):
        assert main(["predict", "out/model.safetensors", data, "-o", "q.csv"]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "conformers:" not in said  # nothing is made in vain
        assert not (folder / "q.csv").exists()


def test_vectors_are_not_averaged_over_orientations(folder, capsys) -> None:
    assert main(["train", "config.yaml", "--run.max_epochs=1"]) == 0
    assert main(["predict", "out/model.safetensors", "train.csv", "-o", "q.csv", "--conformers=2"]) == 2
    assert "conformers is 2, but the model predicts moment, which turn with the molecule" in capsys.readouterr().err


def test_places_of_positions_are_chosen_on_the_command_line(folder, capsys) -> None:
    assert main(["train", "config.yaml", "--run.max_epochs=1"]) == 0
    assert load_model("out/model.safetensors").config["places"] == "local"
    assert main(["train", "config.yaml", "--run.max_epochs=1", "--run.output=old", "--model.places=center"]) == 0
    assert load_model("old/model.safetensors").config["places"] == "center"
    capsys.readouterr()
    assert main(["train", "config.yaml", "--run.output=new", "--model.places=middle"]) == 2
    said = capsys.readouterr().err
    assert "places" in said
    assert "middle" in said


def test_targets_of_a_command_line_are_those_of_a_file(folder, caplog) -> None:
    targets = read_config("config.yaml").data.targets
    train(read_config("config.yaml", ["--run.max_epochs=1"]))
    again = read_config("config.yaml", [f"--data.targets={json.dumps(targets)}", "--run.max_epochs=2"])
    assert train(again, resume=True).metrics["epochs"] == 2
    assert "resuming with a change" not in caplog.text


def test_configurations_survive_a_round_trip_and_mistakes_are_named(folder) -> None:
    config = read_config("config.yaml")
    assert isinstance(config, TrainConfig)
    write_config(config, folder / "again.yaml")
    assert read_config(folder / "again.yaml") == config
    with pytest.raises(ConfigError, match="unknown setting 'model.stearable'; did you mean 'model.steerable'"):
        read_config("config.yaml", ["--model.stearable={}"])
    for bad, message in (
        ({"valid": 1.5}, "data.valid is 1.5, but it must be a whole number or a fraction between 0 and 1"),
        ({"test": 0}, "data.test is 0, but it must be at least 1 or a fraction between 0 and 1"),
        ({"train_size": 0}, "data.train_size is 0, but it must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            DataConfig("a.csv", targets=["mu"], **bad)
    with pytest.raises(ConfigError, match=r"loss.huber_delta is 0.0, but it must be positive"):
        LossConfig(huber_delta=0.0)
    with pytest.raises(
        ConfigError, match=r"loss.weights is .*, but it must be a mapping in which 'mu' is zero or positive"
    ):
        LossConfig(weights={"mu": -1.0})
    with pytest.raises(ConfigError, match="run.compile is true, but models of properties cannot be compiled"):
        train(read_config("config.yaml", ["--run.compile=true"]))
    with pytest.raises(
        ConfigError,
        match=r"unknown setting 'model.potential.size'; did you mean|unknown setting 'model.potential.size'; there are",
    ):
        train(
            read_config(
                "config.yaml", ["--model.steerable=null", '--model.potential={"size": 3}', "--model.edges=both"]
            )
        )


def test_what_the_data_lack_is_said(folder) -> None:
    def prepared(**options):
        data = DataConfig("train.csv", targets={"size": "extensive eV"}, **options)
        return prepare_data(TrainConfig(data, run=read_config("config.yaml").run))

    with pytest.raises(DataError, match="there are only 16 in all"):
        prepared(valid=16)
    with pytest.raises(DataError, match="data.train_size is 14, but only 12 structures are left"):
        prepared(valid=4, train_size=14)
    with pytest.raises(ConfigError, match="data.valid must be a number of molecules with data.split 'paper'"):
        prepared(valid=0.2, split="paper")
    (folder / "other.csv").write_text("smiles,size\nCF,1.0\n")
    with pytest.raises(UnknownSpeciesError, match="data.valid has F, which no training structure has"):
        prepared(valid="other.csv")
    (folder / "other.csv").write_text("smiles,size\nCO,1.0\n")
    with pytest.raises(DataError, match="data.train_size is 17, but only 16 structures are left"):
        prepared(valid="other.csv", train_size=17)
    few = prepared(valid="other.csv", train_size=5).sets["train"]
    assert few.ids == [f"m{k}" for k in range(5)]
    assert {name: len(one) for name, one in prepared(valid="other.csv", test=3).sets.items()} == {
        "train": 13, "valid": 1, "test": 3,
    }  # fmt: skip
    assert set(prepared(valid=2, split="paper").sets) == {"train", "valid"}
    assert set(prepared(valid=2, test=1, split="paper").sets) == {"train", "valid", "test"}
    same = [prepared(valid=4, test=2).split_hash for _ in range(2)]
    assert same[0] == same[1] != prepared(valid=5, test=2).split_hash


TARGETS = [Extensive("a", "eV"), Dipole("b", "D"), Intensive("c")]


def batch_and_outputs(rng):
    targets = rng.normal(size=(5, 5))
    targets[1, 0] = targets[2, 1:4] = np.nan
    targets[:, 4] = np.nan  # c is missing in the whole batch
    outputs = {
        "a": torch.tensor(rng.normal(size=5), requires_grad=True),
        "b": torch.tensor(rng.normal(size=(5, 3)), requires_grad=True),
        "c": torch.tensor(rng.normal(size=5), requires_grad=True),
    }
    return {"targets": torch.tensor(targets)}, outputs


SPREADS = {"a": 2.0, "b": 0.5}


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_the_loss_is_the_weighted_mean_over_targets_of_known_values(rng, kind) -> None:
    batch, outputs = batch_and_outputs(rng)
    loss = Loss(
        LossConfig(kind=kind, huber_delta=0.3 if kind == "huber" else None, weights={"b": 3.0}), TARGETS, SPREADS
    )
    value = loss.combine(loss.terms(outputs, batch))
    value.backward()

    def penalty(x):
        x = np.abs(x)
        return {"mse": x**2, "mae": x, "huber": np.where(x < 0.3, x**2 / 2, 0.3 * (x - 0.15))}[kind]

    reference = batch["targets"].numpy()
    a = (outputs["a"].detach().numpy() - reference[:, 0]) / 2.0
    b = (outputs["b"].detach().numpy() - reference[:, 1:4]) / 0.5
    wanted = (np.nanmean(penalty(a)) + 3 * np.nanmean(penalty(b))) / 5  # 1 + 3 + 1, c has no values
    assert float(value.detach()) == pytest.approx(wanted, rel=1e-12)
    for name, rows in (("a", [1]), ("b", [2]), ("c", range(5))):
        gradient = outputs[name].grad
        assert bool(torch.isfinite(gradient).all())
        assert all(float(gradient[row].abs().sum()) == 0 for row in rows)


def test_errors_add_up_over_batches_in_the_targets_units(rng) -> None:
    loss = Loss(LossConfig(weights={"c": 0.0}), TARGETS, SPREADS)
    errors, residuals = ErrorSums(loss=loss), []
    for _ in range(3):
        batch, outputs = batch_and_outputs(rng)
        errors.add(outputs, batch)
        residuals.append(outputs["a"].detach().numpy() - batch["targets"].numpy()[:, 0])
    found = errors.compute()
    a = np.concatenate(residuals)
    assert found["a_mae_eV"] == pytest.approx(np.nanmean(np.abs(a)))
    assert found["a_rmse_eV"] == pytest.approx(np.sqrt(np.nanmean(a**2)))
    assert found["mean_mae_over_spread"] == pytest.approx((found["a_mae_eV"] / 2 + found["b_mae_D"] / 0.5) / 2)
    assert not any(name.startswith("c_") for name in found)
    with pytest.raises(ConfigError, match="loss.weights names z; the properties are a, b, c"):
        Loss(LossConfig(weights={"z": 1.0}), TARGETS)
    with pytest.raises(ConfigError, match="loss.weights are all zero"):
        Loss(LossConfig(weights=dict.fromkeys("abc", 0.0)), TARGETS)


def test_an_element_without_a_value_of_a_target_has_no_reference(folder, capsys) -> None:
    """Molecules with N have one property and not the other, which sums over atoms: nothing says what N adds to it."""
    rows = ["CCO,9,1", "CC,8,0", "C,5,0", "CO,6,1", "CCC,11,0", "O,3,1", "C=O,4,1", "CN,,1", "CCN,,1", "C#N,,1"]
    (folder / "gaps.csv").write_text("\n".join(["smiles,size,heteroatoms", *rows]) + "\n")
    words = ["train", "config.yaml", "--data.train=gaps.csv", "--data.valid=valid.csv", "--run.max_epochs=1"]
    words += ["--data.targets={size: extensive eV, heteroatoms: intensive}"]
    (folder / "valid.csv").write_text("smiles,size,heteroatoms\nCOC,9,1\nCNC,,1\n")
    assert main(words) == 0, capsys.readouterr().err
    assert "a value of size contains N: predictions of it are NaN" in capsys.readouterr().err
    (folder / "new.csv").write_text("smiles\nCCN\nCCO\n")
    assert main(["predict", "out/model.safetensors", "new.csv", "-o", "p.csv", "--progress=false"]) == 0
    with (folder / "p.csv").open() as file:
        with_n, without = csv.DictReader(file)
    assert with_n["size_eV"] == "" != with_n["heteroatoms"]
    assert "the prediction of size is not finite: the model has no reference" in with_n["problem"]
    assert math.isfinite(float(without["size_eV"]))
    (folder / "valid.csv").write_text("smiles,size,heteroatoms\nCOC,9,1\nCNC,10,1\n")
    assert main([*words, "--run.overwrite=true"]) == 2
    assert "data.valid has N with a value of size, which no training structure has" in capsys.readouterr().err


def test_standard_deviations_are_calibrated_and_predicted(folder, capsys, drawn) -> None:
    for seed in (0, 1):
        assert main(["train", "config.yaml", f"--run.seed={seed}", f"--run.output=run_{seed}"]) == 0
    calibrations = {
        "last.safetensors": ("run_0/model.safetensors", ["--train=known.xyz"], "last_layer"),
        "both.safetensors": ("run_*/model.safetensors", [], "committee"),
    }
    (folder / "known.csv").write_text("smiles,size,heteroatoms,moment\nCCOC,4.5,1,0 1 0\nCC(N)=O,7.5,2,1 0 0\n")
    write_xyz(folder / "known.csv")
    (folder / "new.csv").write_text("smiles\nCCO\nC=O\n")
    for name, (model, options, kind) in calibrations.items():
        words = ["calibrate", model, "train.xyz", *options, "-o", name, "--progress=false"]
        assert main(words) == 0
        assert f"{kind}: {name}" in capsys.readouterr().out
        stem = name.removesuffix(".safetensors")
        metrics = json.loads((folder / f"{stem}_metrics.json").read_text())
        assert metrics["calibrated_on"] == metrics["tested_on"] == 8
        assert (folder / f"{stem}_calibration.png").stat().st_size > 10_000
        members = [load_model(path) for path in sorted(folder.glob(model))]
        uncertain = with_uncertainty(members, folder / name)
        data, _ = with_bonds(read_properties("train.xyz", uncertain.targets), "auto", "error")
        for error, std in errors_and_stds(uncertain, data.select(range(0, 16, 2))).values():
            assert np.sqrt(np.mean((error / std) ** 2)) == pytest.approx(1.0, rel=1e-4)
        words = ["predict", model, "new.csv", "-o", f"{stem}.csv", "--uncertainty", name, "--progress=false"]
        assert main(words) == 0
        with (folder / f"{stem}.csv").open() as file:
            row = next(csv.DictReader(file))
        assert list(row)[1:5] == ["size_eV", "size_std_eV", "heteroatoms", "heteroatoms_std"]
        graph = build_molecular_graph(molecule_from_smiles("CCO"), "bonds", 5.0)
        outputs = uncertain(collate([graph if isinstance(graph, dict) else graph.to_dict()]))
        assert float(row["size_eV"]) == pytest.approx(outputs["size"].item(), rel=1e-5)
        assert float(row["size_std_eV"]) == pytest.approx(outputs["size_std"].item(), rel=1e-4)
        capsys.readouterr()
    assert main(["predict", "run_*/model.safetensors", "new.csv", "-o", "raw.csv", "--progress=false"]) == 0
    assert "standard deviations of a committee are not calibrated" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="energy_key has no effect on the uncertainty of properties; leave it out"):
        calibrate(CalibrationSettings("run_0/model.safetensors", "train.xyz", output="e", energy_key="energy"))
    with pytest.raises(ConfigError, match="needs its training data; give --train FILE"):
        calibrate(CalibrationSettings("run_0/model.safetensors", "train.xyz", output="e"))
    with pytest.raises(DataError, match="all structures of train are in data too"):
        calibrate(CalibrationSettings("run_0/model.safetensors", "train.xyz", "train.xyz", output="e", progress=False))
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "other.csv").write_text("\n".join([*lines, "new,CF,1,0,0 0 0"]) + "\n")
    write_xyz(folder / "other.csv")
    with pytest.raises(UnknownSpeciesError, match=r"molecule \d+ of other.xyz \(new\) has F, which the model does not"):
        calibrate(CalibrationSettings("run_*/model.safetensors", "other.xyz", output="e", progress=False))
    (folder / "few.csv").write_text("\n".join(lines[:4]) + "\n")
    write_xyz(folder / "few.csv")
    with pytest.raises(DataError, match="one half has 1 structures with the label size; at least 2 are needed in each"):
        calibrate(CalibrationSettings("run_*/model.safetensors", "few.xyz", output="e"))


def test_molecules_that_are_set_aside_are_files_of_the_run(folder, caplog) -> None:
    result = train(read_config("config.yaml"))
    targets = load_model(result.model).targets
    asked = prepare_data(read_config("config.yaml")).sets
    for name in ("valid", "test"):
        found, wanted = read_properties(result.folder / f"set_aside/{name}.xyz", targets), asked[name]
        assert found.ids == wanted.ids
        for key, values in wanted.values.items():
            np.testing.assert_array_equal(found.values[key], values)
        for one, other in zip(found.structures, wanted.structures, strict=True):
            np.testing.assert_allclose(one.positions, other.positions, atol=1e-7)
            np.testing.assert_array_equal(one.info["bonds"], other.info["bonds"])
    calibrate(
        CalibrationSettings(
            str(result.model), "out/set_aside/valid.xyz", "train.xyz", output="u.safetensors", progress=False
        )
    )
    assert "4 of 16 structures of train are in data too and are left out of train" in caplog.text


def test_charges_that_the_model_does_not_see_are_said(folder, caplog) -> None:
    with (folder / "train.csv").open("a") as file:
        file.write("ion,C[NH3+],6.5,1,0 0 1\n")
    write_xyz(folder / "train.csv")
    train(read_config("config.yaml", ["--data.valid=train.xyz", "--run.max_epochs=1"]))
    assert "the data have charge, but the model does not use them: its inputs lack total_charge" in caplog.text
    assert not (folder / "out/set_aside/valid.xyz").exists()


def test_a_file_of_the_users_in_the_runs_folder_stays_as_it_is(folder) -> None:
    (folder / "out").mkdir()
    (folder / "out/valid.xyz").write_text("mine")
    for options in ([], ["--run.overwrite=true"]):
        train(read_config("config.yaml", ["--run.max_epochs=1", *options]))
        assert (folder / "out/valid.xyz").read_text() == "mine"
        assert (folder / "out/set_aside/valid.xyz").exists()


def test_targets_of_the_command_line_and_rows_that_cannot_be_read(folder, capsys) -> None:
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text + "bad,c1ccccc,1.0,0,0 0 1\n")
    words = [
        "train",
        "config.yaml",
        "--data.train=train.csv",
        "--run.max_epochs=1",
        "--data.targets={size: extensive eV, heteroatoms: intensive}",
    ]
    assert main(words) == 2
    assert "row 17 of train.csv: SMILES 'c1ccccc' cannot be read" in (error := capsys.readouterr().err)
    assert "or set data.on_failure to skip" in error
    assert main([*words, "--data.on_failure=skip"]) == 0
    assert "row 17 of train.csv is left out" in capsys.readouterr().err
    assert [t.name for t in load_model(folder / "out/model.safetensors").targets] == ["size", "heteroatoms"]
    (folder / "ions.csv").write_text("smiles\nC[NH3+]\n[CH2]C\nC[NH2+]\nCC\n")
    assert main(["predict", "out/model.safetensors", "ions.csv", "-o", "ions_out.csv", "--progress=false"]) == 0
    assert "3 molecules are charged or have unpaired electrons" in capsys.readouterr().err
    problems = [line.rpartition(",")[2] for line in (folder / "ions_out.csv").read_text().splitlines()[1:]]
    unseen = [f"the model does not use its {what}" for what in ("charge", "spin", "charge and spin")]
    assert problems == [*unseen, ""]


@pytest.mark.parametrize("kind", ["sdf", "mol", "xyz", "pdb"])
def test_predict_says_what_is_no_whole_molecule_in_every_kind_of_file(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.chdir(tmp_path)
    files = {}
    for name, text, keep in (("whole", "CCO", 99), ("bare", "CCO", 3), ("radical", "[CH2]CO", 99)):
        atoms = conformers(text, 1)[0]
        molecule = Chem.RWMol(mol_from_atoms(atoms, atoms.info["bonds"]))
        for index in range(len(atoms) - 1, keep - 1, -1):
            molecule.RemoveAtom(index)
        for atom in molecule.GetAtoms():
            atom.SetNoImplicit(keep == 99)
            if keep == 3:
                atom.SetNumRadicalElectrons(0)
        files[name] = f"{name}.{kind}"
        if kind in ("sdf", "mol"):
            Path(files[name]).write_text(Chem.MolToMolBlock(molecule) + "$$$$\n" * (kind == "sdf"))
        else:
            del atoms.info["bonds"], atoms.info["spin"]
            write(files[name], atoms[:keep])
    rows = {}
    for name, file in files.items():
        assert main(["predict", "base-properties", file, "-o", f"{name}.csv", "--progress=false"]) == 0
        [rows[name]] = csv.DictReader(Path(f"{name}.csv").read_text().splitlines())
    assert rows["whole"]["problem"] == ""
    assert float(rows["whole"]["gap_eV"])
    if kind in ("sdf", "mol"):
        assert "C2O lacks 6 hydrogens" in rows["bare"]["problem"]
        assert rows["bare"]["gap_eV"] == ""
        assert rows["radical"]["problem"] == "the model does not use its spin"
    else:
        assert "no bonds fit the geometry of C2O" in rows["bare"]["problem"]
        assert "an odd number of electrons" in rows["radical"]["problem"]


def test_predict_says_what_the_model_has_never_seen(tmp_path, monkeypatch, capsys) -> None:
    """In a table and in a structure file; of a crystal there is no number, because it would mean nothing."""
    monkeypatch.chdir(tmp_path)
    dimer = molecule("C6H6") + molecule("C6H6")
    dimer.positions[12:, 2] += 3.6
    glycine, dodecane = (molecule_from_smiles(text) for text in ("[NH3+]CC(=O)[O-]", "CCCCCCCCCCCC"))
    structures = [bulk("C"), dimer, molecule("CH3"), molecule("CH2_s1A1d"), molecule("H2O")]
    structures += [Atoms(one.numbers, one.positions) for one in (glycine, dodecane)]
    write("a.xyz", structures, format="extxyz")
    Path("a.csv").write_text("smiles\n[NH3+]CC(=O)[O-]\nCCCCCCCCCCCC\nO\n")
    rows = {}
    for name in ("a.xyz", "a.csv"):
        assert main(["predict", "base-properties", name, "-o", "o.csv", "--overwrite", "--progress=false"]) == 0
        rows[name] = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
        assert "are unlike those that the model was trained on" in capsys.readouterr().err
    reasons = [
        "it has charged groups (it is a zwitterion, a salt or an ion)",
        "it has a molecule of 38 atoms, and the model was trained on at most 22",
    ]
    assert [row["problem"] for row in rows["a.csv"]] == [*reasons, ""]
    problems = [row["problem"] for row in rows["a.xyz"]]
    assert problems[0].startswith("it is periodic, but the model was trained only on molecules")
    assert problems[1] == "it is 2 separate molecules or atoms"
    assert problems[2].startswith("it has an odd number of electrons (9)")
    assert problems[3] == "its bonds leave 2 electrons unpaired: a radical, or it lacks hydrogens"
    assert problems[4:] == ["", *reasons]
    assert [bool(row["gap_eV"]) for row in rows["a.xyz"]] == [False, True, True, True, True, True, True]


def test_bonds_that_do_not_fit_cost_one_row(folder, capsys) -> None:
    train(read_config("config.yaml", ["--run.max_epochs=1"]))
    assert load_model(folder / "out/model.safetensors").trained_on == Domain(max_atoms=11)
    good = molecule_from_smiles("CCO")
    far, beyond = (Atoms(good.numbers, good.positions, info={"bonds": bonds}) for bonds in ([0, 8, 1], [0, 99, 1]))
    write("a.xyz", [good, far, beyond, good])
    assert main(["predict", "out/model.safetensors", "a.xyz", "-o", "o.csv", "--progress=false"]) == 0
    capsys.readouterr()
    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    assert [bool(row["size_eV"]) for row in rows] == [True, False, False, True]
    assert "the bonds do not fit the structure" in rows[1]["problem"]
    assert "a bond refers to atom 99, but the structure has 9 atoms" in rows[2]["problem"]


def test_a_warning_names_molecules_that_two_sets_share(folder, caplog) -> None:
    """Ethanol is OCC and C(O)C; at another geometry of a structure file it is still the same molecule."""

    def prepared(text):
        caplog.clear()
        (folder / "valid.csv").write_text(text)
        data = DataConfig("two.csv", targets={"size": "extensive eV"}, valid="valid.csv")
        prepare_data(TrainConfig(data, run=read_config("config.yaml").run))
        return caplog.text

    (folder / "two.csv").write_text("id,smiles,size\na,OCC,1.0\nb,CC(=O)C,2.0\nc,C[C@H](F)Cl,3.0\n")
    said = prepared("smiles,size\nC(O)C,1.0\nCCCO,1.5\n")
    assert "1 structures (by SMILES or geometry) are both in data.train and in data.valid" in said
    assert "(the first: row 1 of two.csv (a) and row 1 of valid.csv)" in said
    assert "are both in" not in prepared("smiles,size\nCCCO,1.5\nC[C@@H](F)Cl,3.0\n")


def test_all_molecules_with_elements_to_learn_nothing_of_are_named(folder) -> None:
    (folder / "other.csv").write_text("id,smiles,size\na,CF,1.0\nb,CO,1.0\n,BrCCl,1.0\n")
    data = DataConfig("train.csv", targets={"size": "extensive eV"}, valid="other.csv")
    with pytest.raises(
        UnknownSpeciesError,
        match=r"data.valid has F, Cl, Br, which no training structure has \(row 1 of other.csv \(a\) has F; row 3 of "
        r"other.csv has Cl, Br\); add such structures to data.train, leave these out",
    ):
        prepare_data(TrainConfig(data, run=read_config("config.yaml").run))


def test_placeholders_are_named_before_a_training(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    rows = [f"{'C' * (k + 1)}O,{-999 if k < 5 else 1 + 0.1 * k}" for k in range(17)]
    Path("a.csv").write_text("\n".join(["smiles,y", *rows]) + "\n")
    prepare_data(TrainConfig(DataConfig(train="a.csv", targets={"y": "intensive"}, valid=3)))
    assert "data.train: 5 of 17 structures (the first is row 1 of a.csv) have the same y, -999, far from" in caplog.text
