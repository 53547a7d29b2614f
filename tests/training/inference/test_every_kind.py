"""``eval`` and ``predict`` for a potential, a model of properties and a joint model."""

import csv
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from rdkit import Chem

from ik_e3nn.cli import main
from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import build_graph, build_molecular_graph
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, load_model, save_model
from ik_e3nn.nn import ScalarMLP
from ik_e3nn.targets import KINDS, MECHANICS, Dipole, Intensive, Target
from ik_e3nn.targets.head import Head
from ik_e3nn.training import EvalSettings, PredictSettings, evaluate, predict
from tests.training.test_joint import labeled

SMALL = {"num_channels": 4, "num_layers": 1, "l_max": 1, "correlation": 1}
SMILES = ("CCO", "CC=O", "CN")


class NumberHead(Head):
    def __init__(self, irreps_in, hidden, count) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = ScalarMLP([hidden, hidden, count])

    def forward(self, atoms, molecules):
        return self.mlp(atoms.scalars)


@pytest.fixture
def per_atom():
    """A kind of target that every atom has a value of."""

    class AtomNumber(Target):
        kind, per_atom, head = "atom_number", True, NumberHead

    yield AtomNumber
    del KINDS["atom_number"]


def with_weights(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_()
    return model.eval()


@pytest.fixture
def folder(tmp_path, monkeypatch, per_atom):
    """Models of each kind: ``energies``, ``joint`` and, on graphs of bonds, ``bonds``; labeled structures."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_model(InteratomicPotential(["H", "C", "O"], 4.0, **SMALL).eval(), tmp_path / "energies.safetensors")
    targets = [*MECHANICS[:2], Dipole("mu", "D"), Intensive("gap", "eV"), per_atom("q", "e")]
    joint = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, potential=SMALL)
    save_model(with_weights(joint), tmp_path / "joint.safetensors")
    targets = [Intensive("gap", "eV"), Dipole("mu", "D"), per_atom("q", "e")]
    bonds = MolecularPropertyModel(["H", "C", "N", "O"], targets, steerable={"channels": 4, "num_layers": 1})
    save_model(with_weights(bonds), tmp_path / "bonds.safetensors")
    structures = labeled(6)
    for number, atoms in enumerate(structures):
        atoms.arrays["q"] = np.linspace(-1.0, 1.0, len(atoms))
        if number == 2:
            del atoms.info["gap"]
    write(tmp_path / "data.xyz", structures)
    return tmp_path


def settings(**changes):
    return EvalSettings(**({"model": "joint.safetensors", "data": "data.xyz", "output": "out.xyz"} | changes))


def test_every_target_of_a_joint_model_is_predicted_and_compared(folder) -> None:
    metrics = evaluate(settings(progress=False, device="cpu", dtype="float64"))
    model = load_model("joint.safetensors", "cpu", torch.float64)
    before, after = read("data.xyz", ":"), read("out.xyz", ":")
    differences = {name: [] for name in ("energy", "forces", "mu", "gap", "q")}
    for old, new in zip(before, after, strict=True):
        with torch.no_grad():
            out = model(build_molecular_graph(old, "radius", 4.0, dtype=torch.float64))
        found = {"energy": new.info["IK_energy"], "mu": new.info["IK_mu"], "gap": new.info["IK_gap"]}
        found |= {name: new.arrays[f"IK_{name}"] for name in ("forces", "q")}
        for name, value in found.items():
            np.testing.assert_allclose(value, np.squeeze(out[name].numpy()), rtol=1e-5, atol=1e-6)
            label = (old.arrays if name in ("forces", "q") else old.info).get(name)
            label = old.info["REF_energy"] if name == "energy" else label
            label = old.arrays["REF_forces"] if name == "forces" else label
            if label is not None:
                error = (value - label) / (len(old) if name == "energy" else 1)
                differences[name].append(np.ravel(error))
        assert new.info.get("gap") == old.info.get("gap")
        np.testing.assert_allclose(new.arrays["q"], old.arrays["q"])
        assert "IK_stress" not in new.info
    assert metrics == json.loads((folder / "out_metrics.json").read_text())
    assert metrics["labels"] == {"energy": 6, "forces": 6, "mu": 6, "gap": 5, "q": 6}
    names = {"energy": "energy_mae_meV_per_atom", "forces": "force_mae_meV_per_A", "mu": "mu_mae_D"}
    for name, key in (names | {"gap": "gap_mae_eV", "q": "q_mae_e"}).items():
        mean = np.abs(np.concatenate(differences[name])).mean() * (1000 if "meV" in key else 1)
        assert metrics["errors"][key] == pytest.approx(mean, rel=1e-4)
        assert mean > 1e-3
        assert (folder / f"parity_out_{name}.png").exists()


def test_units_and_keys_of_energies_are_those_asked_for(folder) -> None:
    structures = read("data.xyz", ":")
    for atoms in structures:
        atoms.info["dft"] = atoms.info.pop("REF_energy") / 27.211386245988
    write("hartree.xyz", structures)
    wanted = evaluate(settings(progress=False, plots=False))["errors"]
    found = evaluate(settings(data="hartree.xyz", output="b.xyz", energy_key="dft", energy_unit="Ha", plots=False))
    for name in ("energy_mae_meV_per_atom", "mu_mae_D"):
        assert found["errors"][name] == pytest.approx(wanted[name], rel=1e-5)


def test_properties_of_csv_and_sdf_files_get_their_bonds(folder, caplog) -> None:
    gaps = (5.0, 4.0, 6.0)
    rows = [f"m{k},{text},{gap}" for k, (text, gap) in enumerate(zip(SMILES, gaps, strict=True))]
    (folder / "a.csv").write_text("\n".join(["id,smiles,gap", *rows]) + "\n")
    records = []
    for text, gap in zip(SMILES, gaps, strict=True):
        atoms = molecule_from_smiles(text)
        records.append(Chem.MolToMolBlock(mol_from_atoms(atoms, atoms.info["bonds"])) + f"> <gap>\n{gap}\n\n$$$$\n")
    (folder / "a.sdf").write_text("".join(records))
    model = load_model("bonds.safetensors", "cpu")
    for data in ("a.csv", "a.sdf"):
        metrics = evaluate(settings(model="bonds.safetensors", data=data, output="o.xyz", overwrite=True))
        assert metrics["labels"] == {"gap": 3, "mu": 0, "q": 0}
        assert set(metrics["errors"]) == {"gap_mae_eV", "gap_rmse_eV"}
        after = read("o.xyz", ":")
        errors = []
        for atoms, gap in zip(after, gaps, strict=True):
            with torch.no_grad():
                out = model(build_molecular_graph(atoms, "bonds"))
            assert atoms.info["IK_gap"] == pytest.approx(float(out["gap"]), rel=1e-4)
            np.testing.assert_allclose(atoms.arrays["IK_q"], out["q"].numpy(), rtol=1e-3, atol=1e-4)
            assert atoms.info["gap"] == gap
            errors.append(abs(atoms.info["IK_gap"] - gap))
        assert metrics["errors"]["gap_mae_eV"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert "no errors" not in caplog.text


def test_molecules_that_cannot_be_read_are_errors_or_left_out(folder) -> None:
    (folder / "a.csv").write_text("smiles,gap\nCCO,5.0\nC1,4.0\n")
    with pytest.raises(DataError, match="SMILES 'C1' cannot be read.*or set on_failure to skip"):
        evaluate(settings(model="bonds.safetensors", data="a.csv"))
    assert evaluate(settings(model="bonds.safetensors", data="a.csv", on_failure="skip"))["structures"] == 1


def test_without_values_of_properties_there_are_no_errors(folder, caplog) -> None:
    write("bare.xyz", [molecule("H2O"), molecule("CH4")])
    metrics = evaluate(settings(model="bonds.safetensors", data="bare.xyz"))
    assert metrics["errors"] == {}
    assert "no errors are computed: no structure has a value of gap, mu, q" in caplog.text
    assert np.isfinite(read("out.xyz").info["IK_gap"])
    with pytest.raises(DataError, match="has IK_gap, IK_mu, IK_q already, .* choose another prefix"):
        evaluate(settings(model="bonds.safetensors", data="out.xyz", output="b.xyz"))


@pytest.mark.parametrize("kind", ["energies", "joint"])
def test_energies_are_a_column_and_forces_are_not(folder, capsys, kind) -> None:
    (folder / "new.csv").write_text("smiles,note\nCCO,one\nCF,unknown\nC=O,three\n")
    assert main(["predict", f"{kind}.safetensors", "new.csv", "-o", "p.csv", "--progress=false", "--device=cpu"]) == 0
    captured = capsys.readouterr()
    assert "2 of 3 molecules predicted: p.csv" in captured.out
    left_out = "forces, stress" if kind == "energies" else "forces, q"
    assert f"values of {left_out} do not fit into a table of molecules; `ik-e3nn eval` writes them" in captured.err
    rows = list(csv.DictReader((folder / "p.csv").read_text().splitlines()))
    columns = ["gap_eV"] if kind == "joint" else []
    assert {"energy_eV", *columns} <= set(rows[0])
    assert ("mu_x_D" in rows[0]) == (kind == "joint")
    assert not any(name.startswith(("forces", "stress", "q")) for name in rows[0])
    model = load_model(f"{kind}.safetensors", "cpu")
    for row, text in ((rows[0], "CCO"), (rows[2], "C=O")):
        atoms = molecule_from_smiles(text)
        with torch.no_grad():
            out = model(build_graph(atoms, 4.0, bonds=[]))
        assert float(row["energy_eV"]) == pytest.approx(float(out["energy"]), rel=1e-5)
        for name in columns:
            assert float(row[name]) == pytest.approx(float(out[name.removesuffix("_eV")]), rel=1e-4)
    assert "F, which the model does not know" in rows[1]["problem"]


def test_a_broken_geometry_costs_one_row_of_energies(folder) -> None:
    good = molecule("CH3CH2OH")
    heap = Atoms(good.numbers, np.zeros((9, 3)))
    write("some.xyz", [good, heap])
    assert "1 of 2" in predict(PredictSettings("energies.safetensors", "some.xyz", "p.csv", progress=False))
    rows = list(csv.DictReader((folder / "p.csv").read_text().splitlines()))
    assert [bool(row["energy_eV"]) for row in rows] == [True, False]
    assert "atoms are on top of each other" in rows[1]["problem"]


def test_a_committee_of_potentials_has_a_standard_deviation(folder) -> None:
    torch.manual_seed(1)
    save_model(InteratomicPotential(["H", "C", "O"], 4.0, **SMALL).eval(), folder / "second.safetensors")
    names = ["energies.safetensors", "second.safetensors"]
    predict(PredictSettings(names, "data.xyz", "p.csv", progress=False, device="cpu"))
    models = [load_model(name, "cpu") for name in names]
    rows = csv.DictReader((folder / "p.csv").read_text().splitlines())
    for row, atoms in zip(rows, read("data.xyz", ":"), strict=True):
        energies = [float(model(build_graph(atoms, 4.0))["energy"]) for model in models]
        assert float(row["energy_eV"]) == pytest.approx(np.mean(energies), rel=1e-5)
        assert float(row["energy_std_eV"]) == pytest.approx(np.std(energies, ddof=1), rel=1e-4)
    with pytest.raises(DataError, match="models of a committee must have the same targets, got"):
        predict(PredictSettings(["energies.safetensors", "joint.safetensors"], "data.xyz", "q.csv"))


def test_what_fits_into_no_table_is_said(folder, per_atom) -> None:
    model = MolecularPropertyModel(["H", "C", "O"], [per_atom("q", "e")], edges="radius", potential=SMALL)
    save_model(model, folder / "q.safetensors")
    with pytest.raises(ConfigError, match="values of q do not fit into a table of molecules; `ik-e3nn eval`"):
        predict(PredictSettings("q.safetensors", "data.xyz", "q.csv"))
