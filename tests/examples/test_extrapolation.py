"""Parts of the benchmark of extrapolation."""

import importlib

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from rdkit import Chem

pytestmark = pytest.mark.usefixtures("benchmarks")


def module(name):
    return importlib.import_module(f"extrapolation.{name}")


def frame(name, energy):
    atoms = Atoms("HF", [[0, 0, 0], [0, 0, 0.9]])
    atoms.info = {"config_type": name, "REF_energy": energy}
    atoms.arrays["REF_forces"] = np.zeros((2, 3))
    return atoms


@pytest.fixture
def test_file(tmp_path):
    frames = [frame("600 K", 0.0), frame("600 K", 1.0), frame("minimum", 0.0), frame("turn", 0.5), frame("turn", 1.5)]
    write(tmp_path / "test.xyz", frames, format="extxyz")
    return tmp_path / "test.xyz"


def test_a_constant_error_of_energies_counts_for_frames_but_not_for_scans(test_file):
    found = module("errors").errors_by_set(
        test_file, np.array([0.0, 1.0, 0.0, 0.5, 1.5]) + 0.01, np.full((10, 3), 0.002)
    )
    assert found["600 K"] == pytest.approx(
        {"force_rmse_meV_per_A": 2.0, "energy_rmse_meV": 10.0, "energy_largest_meV": 10.0}
    )
    assert found["turn"]["energy_largest_meV"] == pytest.approx(0.0, abs=1e-9)


def test_scans_have_mean_and_largest_errors_of_all_points_and_of_the_low_ones(test_file):
    found = module("errors").errors_by_set(test_file, np.array([0.0, 1.0, 0.0, 0.52, 1.44]), np.zeros((10, 3)))["turn"]
    assert found["energy_mae_meV"] == pytest.approx(40.0)
    assert found["energy_largest_meV"] == pytest.approx(60.0)
    assert found["low_energy_mae_meV"] == found["low_energy_largest_meV"] == pytest.approx(20.0)


@pytest.mark.parametrize("name", ["acac", "alkane", "biaryl", "peptide"])
def test_scans_move_one_side_of_a_bond_that_is_not_in_a_ring(name):
    molecules = module("molecules")
    molecule = molecules.MOLECULES[name]
    graph = Chem.AddHs(Chem.MolFromSmiles(molecule.smiles))
    matches = [molecules._first_match(graph, pattern) for pattern in (*molecule.dihedrals, *molecule.bonds)]
    assert [len(match) for match in matches] == [4] * len(molecule.dihedrals) + [2] * len(molecule.bonds)
    for match in matches:
        near, far = match[len(match) // 2 - 1 : len(match) // 2 + 1]
        assert graph.GetBondBetweenAtoms(near, far) is not None
        one, other = molecules._beyond(graph, near, far), molecules._beyond(graph, far, near)
        assert sorted(one + other) == list(range(graph.GetNumAtoms()))


def test_fitted_energies_reproduce_the_mean_of_one_composition():
    frames = [frame("x", energy) for energy in (-3.0, -5.0)]
    assert sum(module("molecules").fitted_energies(frames).values()) == pytest.approx(-4.0)


def result(molecule, model, seed, force):
    errors = {f"{kelvin} K": {"force_rmse_meV_per_A": force, "energy_rmse_meV": 1.0} for kelvin in (300, 600, 1000)}
    scan = {"energy_mae_meV": 2.0, "energy_largest_meV": 3.0}
    return {
        "molecule": molecule, "model": model, "seed": seed, "minutes": 4.0,
        "errors": errors | {"turn 1": scan, "stretch 1": scan},
    }  # fmt: skip


def test_means_are_of_seeds_with_all_molecules(tmp_path):
    (tmp_path / "results").mkdir()
    output, report = tmp_path / "results" / "extrapolation.json", module("report")
    done = [("acac", "mace", 0, 10.0), ("alkane", "mace", 0, 30.0), ("acac", "mace", 1, 50.0), ("acac", "ours", 0, 5.0)]
    for case in done:  # as they are finished
        report.add([result(*case)], output)
    over_all, acac, alkane = (tmp_path / "extrapolation.md").read_text().split("## ")[1:]
    assert "| mace | 1 | 20 (20 to 20) |" in over_all
    assert "ours" not in over_all
    assert "| mace | 2 | 30 (10 to 50) |" in acac
    assert "| ours | 1 | 5 (5 to 5) |" in acac
    assert "| mace | 1 | 30 (30 to 30) |" in alkane
