"""The recipe of the base model: frames and labels are what they should be, and it runs from molecules to a card."""

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces
from ase.io import read

from ik_e3nn.data import conformers

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def frames(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("base_model.frames")


@pytest.mark.parametrize("smiles", ["CCO", "C[N+](=O)[O-]", "C[Si](C)=O"])  # UFF for the last
def test_the_force_field_that_moves_atoms_has_the_forces_of_its_energy(frames, smiles):
    atoms = conformers(smiles, 1)[0]
    atoms.calc = frames.ForceField(atoms)
    for seed in range(2):  # RDKit has been seen to take distances from the structure before
        atoms.rattle(0.03, seed=seed)
        np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, 1e-4), atol=1e-4)


def test_atoms_apart_have_no_forces_and_the_sum_of_their_energies(frames):
    alone = [Atoms(symbol, info={"REF_energy": energy}) for symbol, energy in (("H", -10.0), ("C", -40.0))]
    pairs = frames.atoms_apart(alone, copies=2)
    assert sorted(pair.info["REF_energy"] for pair in pairs) == [-80, -80, -50, -50, -20, -20]
    assert min(pair.get_distance(0, 1) for pair in pairs) > 5
    assert not any(pair.arrays["REF_forces"].any() for pair in pairs)


def test_frames_of_a_molecule(frames):
    tblite = pytest.importorskip("tblite.ase")
    plan = frames.Plan()
    found = frames.frames_of("CCCO", plan)
    kinds = [atoms.info["config_type"] for atoms in found]
    assert set(kinds) <= {*(f"md {t} K" for t in (300, 600, 1000)), "minimum", "force field", "on the way", "rattled",
                          "stretched", "scaled"}  # fmt: skip
    assert kinds.count("force field") == 2  # conformers
    by_kind = dict(zip(kinds, found, strict=True))
    for atoms in (by_kind["md 300 K"], by_kind["stretched"]):
        again = Atoms(atoms.numbers, atoms.positions, calculator=tblite.TBLite(method="GFN2-xTB", verbosity=0))
        assert again.get_potential_energy() == pytest.approx(atoms.info["REF_energy"], abs=1e-5)
        np.testing.assert_allclose(again.get_forces(), atoms.arrays["REF_forces"], atol=1e-4)
    tested = frames.frames_of("CCCO", plan.for_tests())
    [minimum] = [atoms for atoms in tested if atoms.info["config_type"] == "minimum"]
    assert np.abs(minimum.arrays["REF_forces"]).max() < 0.03
    assert minimum.info["REF_energy"] == min(atoms.info["REF_energy"] for atoms in tested)
    assert sum(atoms.info["config_type"] == "md 300 K" for atoms in tested) == 2


@pytest.mark.slow
def test_it_runs_from_molecules_to_a_card(tmp_path):
    pytest.importorskip("tblite")
    words = ["--molecules", "12", "--max-atoms", "7", "--checks", "2", "--picoseconds", "0.005", "--processes", "1"]
    model = ["--model.num_channels=4", "--model.num_layers=1", "--run.compile=false", "--run.max_epochs=1"]
    command = [sys.executable, str(EXAMPLES / "08_base_model.py"), "--work", str(tmp_path), *words, "--", *model]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["data"]["molecules"] == 12
    assert card["dynamics"]["molecules"] == card["relaxations"]["molecules"] == min(2, card["data"]["held_out"])
    assert "held-out molecules kept all bonds" in printed
    learned = Counter(atoms.positions.tobytes() for atoms in read(tmp_path / "train.xyz", ":"))
    sizes = {size: {n for key, n in learned.items() if len(key) == 24 * size} for size in (3, 4, 5, 6, 7)}
    assert set.union(*(sizes[size] for size in (3, 4, 5, 6))) == {10}  # small molecules are few
    assert sizes[7] == {1}
