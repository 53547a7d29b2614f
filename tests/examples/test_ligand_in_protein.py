"""The example of OpenMM: a ligand with a model beside a peptide with Amber14."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.pictures import faults

pytest.importorskip("openmmml", reason="needs OpenMM (pip install openmm openmmml)")
Chem = pytest.importorskip("rdkit.Chem", reason="needs RDKit (pip install rdkit)")
AllChem = importlib.import_module("rdkit.Chem.AllChem")

EXAMPLE = Path(__file__).parents[2] / "examples" / "engines" / "ligand_in_protein.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("ligand_in_protein", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def molecule(smiles, shift=0.0):
    made = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(made, randomSeed=1)
    conformer = made.GetConformer()
    for k, place in enumerate(conformer.GetPositions()):
        conformer.SetAtomPosition(k, place + np.array([0, 0, shift]))
    return made


NAMES = ["CH3 ACE", "C   ACE", "O   ACE", "N   ALA", "CA  ALA", "CB  ALA", "C   ALA", "O   ALA", "N   NME", "C   NME"]


def peptide():
    """The heavy atoms of ACE-ALA-NME in the format PDB."""
    places = molecule("CC(=O)N[C@@H](C)C(=O)NC").GetConformer().GetPositions()
    lines = []
    for k, (name, place) in enumerate(zip(NAMES, places[: len(NAMES)], strict=True)):
        residue = ["ACE", "ALA", "NME"].index(name[4:]) + 1
        x, y, z = place
        lines.append(
            f"ATOM  {k + 1:5d}  {name} A{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {name[0]}"
        )
    return "\n".join([*lines, "END", ""])


def test_it_runs(example, tmp_path, monkeypatch, capsys, drawn):
    (tmp_path / "protein.pdb").write_text(peptide())
    Chem.MolToMolFile(Chem.RemoveHs(molecule("CO", 5.0)), str(tmp_path / "ligand.sdf"))
    files = [str(tmp_path / name) for name in ("protein.pdb", "ligand.sdf")]
    monkeypatch.setattr(sys, "argv", ["example", *files, "--ps", "0.05", "--output", str(tmp_path / "run")])
    example.main()
    assert "28 atoms, 6 of them with the model" in capsys.readouterr().out
    assert (tmp_path / "run" / "rmsd.csv").read_text().startswith("# ps,pocket,superposed")
    (figure,) = drawn
    assert not faults(figure)


def test_superposition_removes_a_motion_of_the_whole(example, rng):
    start = rng.normal(size=(9, 3))
    moved = Rotation.from_rotvec([0.3, -1.0, 0.5]).apply(start) + np.array([1.0, 2.0, 3.0])
    there, shape = example.deviations(moved, start)
    assert there > 3
    assert shape == pytest.approx(0, abs=1e-12)
    mirrored = example.deviations(start * [1, 1, -1], start)
    assert mirrored[1] > 0.1  # a mirror image is another shape
    change = 0.1 * rng.normal(size=(9, 3))
    best, *_ = Rotation.align_vectors(
        start - start.mean(0), (start + change) - (start + change).mean(0), return_sensitivity=True
    )
    turned = best.apply(start + change - (start + change).mean(0)) - (start - start.mean(0))
    assert example.deviations(start + change, start)[1] == pytest.approx(np.sqrt((turned**2).sum(1).mean()))


def test_charges_of_the_ligand_sum_to_its_charge(example):
    text = example.force_field_of(molecule("C[NH3+]"))
    charges = [float(part.partition('"')[0]) for part in text.split('charge="')[1:] if part[0] in "-0123456789"]
    assert sum(charges) == pytest.approx(1, abs=1e-6)
    assert example.kind(molecule("CO").GetAtomWithIdx(1)) == "O hydroxyl"
