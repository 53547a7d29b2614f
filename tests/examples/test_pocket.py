"""The benchmark of a ligand in a pocket: the cut, the stand-in, the labels, and the page."""

import gzip
import importlib

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from tests.pictures import faults

pytestmark = pytest.mark.usefixtures("benchmarks")


def module(name):
    return importlib.import_module(f"pocket.{name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A peptide, and pyrimidinamine beside the acid of its glutamic acid, as a complex without hydrogens."""
    path = tmp_path_factory.mktemp("1xyz")
    peptide = Chem.AddHs(Chem.MolFromSequence("AEFG"))
    rdDistGeom.EmbedMolecule(peptide, randomSeed=1)
    peptide = Chem.RemoveHs(peptide)
    with gzip.open(path / "1xyz_protein.pdb.gz", "wt") as file:
        file.write(Chem.MolToPDBBlock(peptide))
    places = peptide.GetConformer().GetPositions()
    names = [atom.GetPDBResidueInfo().GetName().strip() for atom in peptide.GetAtoms()]
    acid = [places[names.index(name)] for name in ("CG", "CD", "OE1", "OE2")]
    ligand = Chem.MolFromSmiles("Nc1ncccn1")
    rdDistGeom.EmbedMolecule(ligand, randomSeed=1)
    own = ligand.GetConformer().GetPositions()
    far = own.mean(axis=0) - own[[0, 2]].mean(axis=0)  # from the amine and a nitrogen of the ring to the rest
    out = (acid[1] - acid[0]) / np.linalg.norm(acid[1] - acid[0])
    rotation, _ = Rotation.align_vectors([out, acid[2] - acid[3]], [far, own[0] - own[2]])
    moved = rotation.apply(own - own[[0, 2]].mean(axis=0)) + 0.5 * (acid[2] + acid[3]) + 2.6 * out
    ligand.GetConformer().SetPositions(moved)
    (path / "1xyz_ligand.sdf").write_text(Chem.MolToMolBlock(ligand) + "$$$$\n")
    return path


def test_pockets_are_complete_neutral_and_in_place(folder):
    pocket = module("cut").cut(folder)
    assert Chem.GetFormalCharge(pocket.molecule) == Chem.GetFormalCharge(pocket.ligand) == 0
    assert sum(pocket.host.numbers) % 2 == 0
    assert all(atom.GetNumRadicalElectrons() == 0 for atom in pocket.molecule.GetAtoms())
    middle = pocket.ligand.GetConformer().GetPositions().mean(axis=0)
    np.testing.assert_allclose(middle, 0, atol=1e-3)
    crystal = Chem.MolFromMolFile(str(folder / "1xyz_ligand.sdf")).GetConformer().GetPositions()
    placed = pocket.ligand.GetConformer().GetPositions()[: len(crystal)]
    shift = (crystal - placed).mean(axis=0)
    np.testing.assert_allclose(placed + shift, crystal, atol=1e-3)
    text = gzip.decompress((folder / "1xyz_protein.pdb.gz").read_bytes()).decode()
    known = Chem.MolFromPDBBlock(text).GetConformer().GetPositions()
    heavy = pocket.host.positions[pocket.host.numbers > 1] + shift
    assert cdist(heavy, known).min(axis=1).max() < 2e-3
    acid = pocket.molecule.GetSubstructMatch(Chem.MolFromSmarts("O=C[OX2][#1]"))
    hydrogen = pocket.host.positions[acid[-1]]
    nitrogens = np.array([atom.GetAtomicNum() == 7 for atom in pocket.ligand.GetAtoms()])
    ligand = pocket.ligand.GetConformer().GetPositions()
    assert np.linalg.norm(ligand[nitrogens] - hydrogen, axis=1).min() < 2.3  # it is in a hydrogen bond


def test_pieces_end_at_saturated_carbons():
    peptide = Chem.MolFromSmiles("CC(NC(=O)C)C(=O)NCCc1ccccc1")
    found = sorted(Chem.MolFragmentToSmiles(peptide, piece) for piece in module("cut").pieces(peptide))
    assert found == sorted(["C", "CNC=O", "C", "CNC=O", "C", "c1ccccc1"])


def test_forces_of_the_stand_in_are_derivatives(folder):
    frames, pocket = module("frames"), module("cut").cut(folder)
    calculator = frames.StandIn(pocket, frames.ForceField(pocket.ligand))
    pose = frames.random_pose(pocket, np.random.default_rng(0))
    pose.calc = calculator
    forces, step = pose.get_forces(), 1e-4
    for atom, axis in [(0, 0), (3, 1), (len(pose) - 1, 2)]:
        energies = []
        for sign in (1, -1):
            moved = frames.bare(pose)
            moved.positions[atom, axis] += sign * step
            moved.calc = calculator
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-4)


def test_labels_are_those_of_the_ligand_and_resume(tmp_path):
    frames = module("frames")
    host, ligand = Atoms("Ar2", [[0, 0, 0], [3.0, 0, 0]]), Atoms("Ar", [[1.5, 2.5, 0.3]])
    made = []

    def make():
        made.append(LennardJones(sigma=2.5, epsilon=0.1, rc=20.0))
        return made[-1]

    ligands = [ligand, Atoms("Ar", [[1.0, 3.5, 0.3]])]
    labeled = frames.Labels(host, make)(ligands, tmp_path / "a.xyz")
    both = host + ligand
    both.calc = LennardJones(sigma=2.5, epsilon=0.1, rc=20.0)
    host.calc = LennardJones(sigma=2.5, epsilon=0.1, rc=20.0)
    difference = both.get_potential_energy() - host.get_potential_energy()
    assert labeled[0].info["REF_energy"] == pytest.approx(difference, abs=1e-12)
    assert labeled[0].info["interaction"] == pytest.approx(difference, abs=1e-12)
    np.testing.assert_allclose(labeled[0].arrays["REF_forces"], both.get_forces()[2:], atol=1e-12)
    ase.io.write(tmp_path / "b.partial.xyz", labeled[:1], format="extxyz")
    again = frames.Labels(host, make)(ligands, tmp_path / "b.xyz")
    assert [a.info["REF_energy"] for a in again] == pytest.approx([a.info["REF_energy"] for a in labeled], abs=1e-6)
    assert len(ase.io.read(tmp_path / "b.xyz", ":")) == 2


def test_the_page_has_every_model_and_every_pose(tmp_path, drawn):
    report = module("report")
    errors = dict.fromkeys(report.ERRORS, 123.4)
    there = dict.fromkeys([*report.SPREADS, "interaction_mean_meV"], 200.0) | {"frames": 12}
    pose = {"above_lowest_meV": 3.2, "fmax_eV_per_A": 0.04, "calls": 31, "rmsd_A": 0.5}
    single = {"binding_eV": -1.0, "rmsd_to_crystal_A": 4.6, "reference_above_lowest_meV": 812.3}
    found = {
        "poses": 8, "converged": 7, "distinct": 3, "outside": 1,
        "distinct_poses": [single, single | {"binding_eV": -0.5}],
        "crystal": pose, "model": [{"rank": 2} | pose], "reference": [],
    }  # fmt: skip
    content = {
        "complex": "1xyz", "ligand_atoms": 12, "host_atoms": 98, "labels": 300, "of_first": 160, "minutes": 1.0,
        "test": {"dynamics": there, "random": there}, "search": found,
        "errors": [{"model": "base", "dynamics": errors, "random": errors},
                   {"model": "surroundings_C1_degree6", "dynamics": errors, "random": errors}],
    }  # fmt: skip
    report.write(content, tmp_path / "pocket.json", tmp_path / "pocket.md")
    page = (tmp_path / "pocket.md").read_text()
    assert page.count("| surroundings_C1_degree6 | 123 |") == 2
    assert "| crystal | 3 | 0.50 | 0.04 | 31 |" in page
    assert "| 2 | -0.50 | 812 | 4.60 |" in page
    assert "| rank 2 by the model | 3 |" in page
    (figure,) = drawn
    assert not faults(figure)
