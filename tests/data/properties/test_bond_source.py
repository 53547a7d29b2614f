"""Bonds from SMILES, files and geometries, and what happens where they are not found."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from rdkit import Chem

from ik_e3nn.data import bonds_from_smiles, molecule_from_smiles, perception_counts, with_bonds
from ik_e3nn.data.bonds.mapping import connected_pairs
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import remove_bonds
from tests.data.molecule_sets import property_set

HARD = (
    "CC(=O)[O-]",
    "c1ccncc1",
    "C1CC2CC1O2",
    "N#CC#N",
    "OC12CC1C2",
    "[NH3+]CC([O-])=O",
    "FC(F)F",
    "C1=CC=C1",
    "CNC(=O)C#C",
)


@pytest.mark.parametrize("smiles", HARD)
def test_bonds_of_a_shuffled_geometry_make_the_molecule_of_the_smiles(smiles, rng) -> None:
    atoms = molecule_from_smiles(smiles)
    shuffled = atoms[rng.permutation(len(atoms))]
    remove_bonds(shuffled)
    rows = bonds_from_smiles(shuffled, smiles)
    found = mol_from_atoms(shuffled, rows)
    wanted = Chem.MolFromSmiles(smiles)
    for one in (found, wanted):  # charges aside: in rings and zwitterions they are not told by bonds alone
        for atom in one.GetAtoms():
            atom.SetFormalCharge(0)
    key = [Chem.MolToSmiles(Chem.RemoveHs(one, sanitize=False), isomericSmiles=False) for one in (found, wanted)]
    assert (
        key[0].replace("[", "").replace("]", "") == key[1].replace("[", "").replace("]", "")
        or len(rows) == len(atoms.info["bonds"]) // 3
    )
    lengths = np.linalg.norm(shuffled.positions[rows[:, 0]] - shuffled.positions[rows[:, 1]], axis=1)
    assert lengths.min() > 0.9
    assert lengths.max() < 1.7


def test_of_several_matches_the_short_bonds_are_the_multiple_ones() -> None:
    # cyclobutadiene drawn as a rectangle: by its graph alone all four bonds of the ring are alike
    a, b, h = 0.67, 0.79, 0.76
    ring = [[a, b, 0], [-a, b, 0], [-a, -b, 0], [a, -b, 0]]
    outer = [[a + h, b + h, 0], [-a - h, b + h, 0], [-a - h, -b - h, 0], [a + h, -b - h, 0]]
    atoms = Atoms("C4H4", ring + outer)
    double = [tuple(row[:2]) for row in bonds_from_smiles(atoms, "C1=CC=C1").tolist() if row[2] == 2]
    assert double == [(0, 1), (2, 3)]


def test_pairs_closer_than_bonds_of_a_cage_do_not_count() -> None:
    cage = molecule_from_smiles("C1C2CC1C2")  # the bridgeheads are 1.9 A apart
    remove_bonds(cage)
    assert len(bonds_from_smiles(cage, "C1C2CC1C2")) == len(cage) + 1  # two rings


def test_what_does_not_match_is_said() -> None:
    with pytest.raises(DataError, match="has other atoms than the geometry"):
        bonds_from_smiles(molecule("CH4"), "CC")
    with pytest.raises(DataError, match="are not those of the SMILES"):
        bonds_from_smiles(molecule("CH3OCH3"), "CCO")
    with pytest.raises(DataError, match="SMILES 'C1' cannot be read"):
        bonds_from_smiles(molecule("CH4"), "C1")
    with pytest.raises(DataError, match="bonds can be found for molecules only"):
        connected_pairs(bulk("Si"))
    assert bonds_from_smiles(molecule("H2"), "[H][H]").tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(("source", "used"), [("auto", "smiles"), ("smiles", "smiles"), ("perceived", "perceived")])
def test_all_sources_agree_on_easy_molecules_and_change_no_input(source, used) -> None:
    bare = property_set(bonds=False)
    found, report = with_bonds(bare, source)
    assert report.sources == {used: len(bare)}
    assert not any("bonds" in atoms.info for atoms in bare.structures)
    again, second = with_bonds(found)
    assert second.sources == {"given": len(bare)}
    reference = with_bonds(bare, "smiles")[0]
    for one, two in zip(again.structures, reference.structures, strict=True):
        rows = [np.sort(np.reshape(atoms.info["bonds"], (-1, 3)), axis=0).tolist() for atoms in (one, two)]
        assert rows[0] == rows[1]


def test_the_three_choices_for_molecules_without_bonds(caplog) -> None:
    good = molecule_from_smiles("CO")
    remove_bonds(good)
    broken = LabeledSet([good, molecule("CH3OCH3")], (), {}, ["a", "b"], ["CO", "CCO"])
    with pytest.raises(DataError, match=r"molecule b: .*on_failure: skip.*on_failure: single"):
        with_bonds(broken)
    skipped, report = with_bonds(broken, on_failure="skip")
    assert skipped.ids == ["a"]
    assert report.sources == {"smiles": 1, "skipped": 1}
    assert "bonds of 1 of 2 molecules were not found: skip" in caplog.text
    single, report = with_bonds(broken, on_failure="single")
    assert set(np.reshape(single.structures[1].info["bonds"], (-1, 3))[:, 2]) == {1}
    assert len(single.structures[1].info["bonds"]) // 3 == 8
    with pytest.raises(DataError, match="no bonds were found for any"):
        with_bonds(broken.select([1]), on_failure="skip")
    with pytest.raises(DataError, match="the file has no bonds"):
        with_bonds(broken, "given")
    with pytest.raises(DataError, match="the file has no SMILES"):
        with_bonds(LabeledSet([good], (), {}, ["a"]), "smiles")
    with pytest.raises(ConfigError, match="bonds must be one of auto, given"):
        with_bonds(broken, "guess")
    assert with_bonds(broken, "none")[0] is broken


def test_perception_is_counted_against_the_published_smiles() -> None:
    structures = [molecule_from_smiles(text) for text in ("CC=O", "CO")] + [molecule("CH3OCH3")]
    counts = perception_counts(structures, ["CC=O", "CO", "CCO"])
    assert counts == {"right": 2, "wrong": 1, "failed": 0, "mapped": 2}
