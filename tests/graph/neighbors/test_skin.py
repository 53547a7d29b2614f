"""A skin list gives the same pairs as a fresh search, and searches only when it must."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ik_e3nn.errors import DataError
from ik_e3nn.graph import SkinList, neighbor_list


def assert_fresh(pairs, atoms, r_max):
    edge_index, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
    assert np.array_equal(pairs.edge_index, edge_index)
    assert np.array_equal(pairs.shifts, shifts)


@pytest.mark.parametrize(
    "atoms",
    [molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", a=5.6), fcc111("Pt", (2, 2, 2), vacuum=4.0)],
    ids=["molecule", "crystal", "slab"],
)
def test_same_pairs_along_a_random_walk(atoms):
    rng = np.random.default_rng(5)
    pairs = SkinList(r_max=4.0, skin=0.6)
    for step in range(120):
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        if step == 60:
            atoms.set_cell(atoms.cell.array * 1.01)
        if step == 90:
            atoms.numbers[0] += 1
        assert_fresh(pairs.update(atoms), atoms, 4.0)
    assert 3 <= pairs.num_rebuilds < 60


def test_no_search_when_nothing_moved():
    atoms, pairs = bulk("Cu", cubic=True), SkinList(r_max=4.0)
    assert pairs.update(atoms).rebuilt
    for _ in range(3):
        assert not pairs.update(atoms.copy()).rebuilt
    assert pairs.num_rebuilds == 1


def test_searches_after_half_the_skin():
    atoms, pairs = bulk("Cu", cubic=True), SkinList(r_max=4.0, skin=0.5)
    pairs.update(atoms)
    atoms.positions[0, 1] += 0.249
    assert not pairs.update(atoms).rebuilt
    atoms.positions[0, 1] += 0.002
    assert pairs.update(atoms).rebuilt


@pytest.mark.parametrize("change", ["cell", "pbc", "species", "number"])
def test_searches_when_the_structure_changed(change):
    atoms, pairs = bulk("Cu", cubic=True), SkinList(r_max=4.0)
    pairs.update(atoms)
    if change == "cell":
        atoms.cell[0, 0] += 3.0
    elif change == "pbc":
        atoms.pbc = [True, True, False]
    elif change == "species":
        atoms.numbers[2] = 28
    else:
        del atoms[0]
    found = pairs.update(atoms)
    assert found.rebuilt
    assert_fresh(found, atoms, 4.0)


def test_atoms_moved_into_the_cell_are_found_again():
    atoms, pairs = bulk("Cu", cubic=True), SkinList(r_max=4.0)
    atoms.rattle(0.1, seed=1)
    pairs.update(atoms)
    atoms.wrap()
    assert_fresh(pairs.update(atoms), atoms, 4.0)


def test_nan_positions_are_refused_also_after_a_good_list():
    atoms, pairs = molecule("H2O"), SkinList(r_max=4.0)
    pairs.update(atoms)
    atoms.positions[0] = np.nan
    for _ in range(2):
        with pytest.raises(DataError, match="positions hold NaN"):
            pairs.update(atoms)


def test_no_skin_and_one_atom():
    pairs = SkinList(r_max=4.0, skin=0.0)
    assert pairs.update(Atoms("H")).edge_index.shape == (2, 0)
    assert not pairs.update(Atoms("H")).rebuilt


@pytest.mark.parametrize(("r_max", "skin"), [(0.0, 0.5), (-1.0, 0.5), (4.0, -0.1), (np.nan, 0.5)])
def test_lengths_are_checked(r_max, skin):
    with pytest.raises(DataError, match="r_max must be positive and skin not negative"):
        SkinList(r_max=r_max, skin=skin)


@pytest.mark.parametrize("shift", [0.0, 3.0], ids=["in the cell", "through its boundary"])
def test_atoms_in_the_same_place_are_named(shift):
    atoms = Atoms("CHCO", positions=[[0, 0, 0], [1, 0, 0], [0, 1.2, 0], [shift, 1.2, 0]], cell=[3.0] * 3, pbc=True)
    with pytest.raises(DataError, match=r"atoms 2 \(C\) and 3 \(O\) are in the same place"):
        SkinList(r_max=2.0).update(atoms)


def wire():
    return Atoms(
        "NaCl", positions=[[0, 0, 0], [2.6, 0.3, 0]], cell=[[5.0, 0.4, 0], [0, 0, 0], [0, 0, 0]], pbc=[1, 0, 0]
    )


@pytest.mark.parametrize("follow", [True, False], ids=["atoms follow the cell", "atoms stay"])
@pytest.mark.parametrize(
    "atoms",
    [bulk("NaCl", "rocksalt", a=5.6), fcc111("Pt", (2, 2, 2), vacuum=4.0), wire()],
    ids=["crystal", "slab", "wire"],
)
def test_same_pairs_while_the_cell_is_strained(atoms, follow):
    """As a barostat does it: strained and sheared a little in every step, atoms moving too."""
    rng = np.random.default_rng(7)
    pairs = SkinList(r_max=5.0, skin=0.6)
    for _ in range(150):
        periodic = atoms.cell.array[atoms.pbc]
        onto = np.linalg.pinv(periodic) @ periodic
        strain = onto @ rng.normal(scale=0.003, size=(3, 3)) @ onto
        if follow:
            atoms.positions = atoms.positions @ (np.eye(3) + strain)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain))
        atoms.positions += rng.normal(scale=0.01, size=atoms.positions.shape)
        assert_fresh(pairs.update(atoms), atoms, 5.0)
    assert 2 <= pairs.num_rebuilds < 40


def test_a_turned_or_shifted_crystal_needs_no_search():
    atoms, pairs = bulk("NaCl", "rocksalt", a=5.6) * (2, 2, 2), SkinList(r_max=5.0, skin=0.5)
    pairs.update(atoms)
    atoms.rotate(40.0, (1, 2, 3), rotate_cell=True)
    atoms.positions += 0.7
    found = pairs.update(atoms)
    assert not found.rebuilt
    assert found.edge_index.shape[1] == SkinList(r_max=5.0).update(atoms).edge_index.shape[1]


def test_the_search_comes_before_a_pair_is_missed():
    """Two atoms of a chain just outside of r_max + skin come inside of r_max by compression alone."""
    atoms, pairs = (
        Atoms("H2", positions=[[0, 0, 0], [4.6, 0, 0]], cell=[9.2, 20, 20], pbc=True),
        SkinList(4.0, skin=0.5),
    )
    assert pairs.update(atoms).edge_index.shape[1] == 0
    for scale in np.linspace(1.0, 0.8, 40):
        atoms.set_cell([9.2 * scale, 20, 20], scale_atoms=True)
        assert_fresh(pairs.update(atoms), atoms, 4.0)
    assert pairs.update(atoms).edge_index.shape[1] == 4
