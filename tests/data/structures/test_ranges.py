"""Extreme distances of structures, against those that ASE measures."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from ik_e3nn.data.structures.ranges import GeometryRanges


def test_contacts_are_of_atoms_that_no_three_bonds_join():
    """In a pair of ethanol molecules they are those between them, and of H and O in one no others."""
    one, other = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    other.positions += [0, 0, 3.0]
    ranges = GeometryRanges.of([one + other])
    distances = (one + other).get_all_distances()
    numbers = (one + other).numbers
    between = np.zeros((18, 18), dtype=bool)
    between[:9, 9:] = True
    for name, first, second in (("C-H", 6, 1), ("H-O", 1, 8), ("H-H", 1, 1)):
        of_pair = np.equal.outer(numbers, [first]) & np.equal.outer([second], numbers)[0]
        of_pair |= of_pair.T
        assert ranges.contacts[name] == pytest.approx(distances[between & of_pair].min())
    assert ranges.bonds["C-C"] == pytest.approx(one.get_distance(0, 1))
    assert ranges.bonds.keys() == {"C-C", "C-H", "C-O", "H-O"}
    assert GeometryRanges.of([one]).contacts.keys() <= {
        "H-H"
    }  # those of the methyl and hydroxyl groups, four bonds apart


def test_images_of_crystals_count():
    copper = bulk("Cu", "fcc", a=3.6)
    assert GeometryRanges.of([copper]).bonds["Cu-Cu"] == pytest.approx(3.6 / np.sqrt(2))
    argon = bulk("Ar", "fcc", a=5.3)
    assert GeometryRanges.of([argon]).contacts["Ar-Ar"] == pytest.approx(5.3 / np.sqrt(2))


def test_heights_are_measured_along_the_normal_from_the_origin():
    low, tilted = Atoms("OH", [[0, 0, 3.0], [0, 0, 2.5]]), Atoms("O", [[7.0, 1.0, 0.0]])
    tilted.info |= {"surface_normal": [2.0, 0, 0], "surface_origin": [1.0, 0, 0]}
    ranges = GeometryRanges.of([low, tilted], surface=True)
    assert ranges.heights == {"O": (3.0, 6.0), "H": (2.5, 2.5)}
    assert GeometryRanges.of([low, tilted]).heights == {}


def test_what_a_model_file_keeps_comes_back():
    ranges = GeometryRanges({"C-H": 1.05}, {"C-H": 2.5}, {"C": (2.0, 9.0)})
    assert GeometryRanges.from_json(ranges.to_json()) == ranges
    more = ranges.joined(GeometryRanges({"C-H": 1.0, "C-O": 1.4}, {}, {"C": (3.0, 10.0)}))
    assert more == GeometryRanges({"C-H": 1.0, "C-O": 1.4}, {"C-H": 2.5}, {"C": (2.0, 10.0)})


@pytest.mark.parametrize("stored", [None, {}, [], {"bonds": {}, "contacts": {"C-H": "x"}, "heights": {}}])
def test_old_and_broken_entries_are_no_ranges(stored):
    assert GeometryRanges.from_json(stored) is None


def test_nothing_and_single_atoms_have_no_distances():
    assert GeometryRanges.of([]) == GeometryRanges.of([Atoms("He")]) == GeometryRanges()
