"""Neighbor lists equal ASE's on cells made to break them."""

import gc
import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.neighborlist import neighbor_list as ase_neighbor_list
from scipy.spatial import KDTree

from ik_e3nn.errors import DataError
from ik_e3nn.graph import neighbor_list
from ik_e3nn.graph.neighbors.search import search_cell

CELLS = {
    "cubic": np.diag([4.0, 4.0, 4.0]),
    "tilted": np.array([[4.0, 0.0, 0.0], [3.5, 2.0, 0.0], [-3.0, 2.5, 3.0]]),
    "left-handed": np.array([[0.0, 4.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.5, 6.0]]),
    "tiny": np.diag([1.3, 1.7, 1.1]),
    "flat": np.diag([1.5, 30.0, 3.0]),
    "dummy": np.diag([50.0, 50.0, 50.0]),
    "rotated": np.array([[0.1, 2.9, 0.4], [-3.1, 0.2, 0.6], [0.5, 0.1, -4.2]]),
    "zero": np.zeros((3, 3)),
    "zero third vector": np.array([[3.0, 0.2, 0.0], [0.4, 4.0, 0.0], [0.0, 0.0, 0.0]]),
    "zero middle vector": np.array([[3.0, 0.2, 0.0], [0.0, 0.0, 0.0], [0.4, 1.0, 4.0]]),
}
PBC = list(itertools.product((False, True), repeat=3))
# ASE takes seconds on these, and they add nothing.
SLOW = {("dummy", pbc) for pbc in PBC if sum(pbc) in (1, 2)} | {("flat", (False, True, False))}
USABLE = [(name, pbc) for name in CELLS for pbc in PBC if all(CELLS[name].any(axis=1) | ~np.array(pbc))]
USABLE = [case for case in USABLE if case not in SLOW]


def ours(atoms, r_max):
    """Pairs (i, j, S) with S as ASE defines it, after checking order and lengths."""
    edge_index, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
    vectors = atoms.positions[edge_index[1]] - atoms.positions[edge_index[0]] + shifts @ atoms.cell.array
    assert np.all(np.linalg.norm(vectors, axis=1) <= r_max)
    assert np.all(np.diff(edge_index[1]) >= 0)
    rows = np.c_[edge_index.T, shifts].astype(int)
    pairs = set(map(tuple, rows.tolist()))
    assert len(pairs) == len(rows)
    return pairs


def theirs(atoms, r_max):
    i, j, shifts = ase_neighbor_list("ijS", atoms, r_max)
    return set(map(tuple, np.c_[i, j, shifts].tolist()))


@pytest.mark.parametrize(
    ("name", "pbc"), USABLE, ids=lambda value: value if isinstance(value, str) else "".join("FT"[x] for x in value)
)
def test_equal_to_ase(name, pbc):
    rng = np.random.default_rng(17)
    found = 0
    for count, spread in itertools.product((1, 2, 9), (0.0, 12.0)):
        positions = rng.uniform(-1, 5, (count, 3)) + spread * rng.normal(size=(count, 3))
        atoms = Atoms(f"H{count}", positions=positions, cell=CELLS[name], pbc=pbc)
        for r_max in (1.0, 2.7, 5.5):
            expected = theirs(atoms, r_max)
            assert ours(atoms, r_max) == expected
            found += len(expected)
    assert found > 0


def test_equal_to_ase_on_a_slab_and_a_crystal():
    slab = fcc111("Pt", (2, 2, 3), vacuum=None)
    slab.rattle(0.05, seed=1)
    slab.cell[2] = 0.0
    slab.pbc = [True, True, False]
    crystal = bulk("Cu") * (3, 1, 2)
    crystal.rattle(0.05, seed=2)
    crystal.positions += [30.0, -40.0, 7.0]
    for atoms in (slab, crystal):
        assert ours(atoms, 6.0) == theirs(atoms, 6.0)


def test_cutoff_larger_than_the_cell_sees_own_images():
    edge_index, shifts = neighbor_list([[0.3, 0.2, 0.1]], np.eye(3), True, 1.1)
    assert edge_index.tolist() == [[0] * 6, [0] * 6]
    assert np.array_equal(np.unique(np.abs(shifts).sum(axis=1)), [1.0])


def test_both_directions_are_listed():
    rng = np.random.default_rng(3)
    edge_index, shifts = neighbor_list(rng.uniform(0, 4, (20, 3)), CELLS["tilted"], True, 3.0)
    forward = set(map(tuple, np.c_[edge_index.T, shifts].astype(int).tolist()))
    backward = set(map(tuple, np.c_[edge_index[::-1].T, -shifts].astype(int).tolist()))
    assert forward == backward


def test_same_list_twice():
    positions = np.random.default_rng(4).uniform(0, 9, (50, 3))
    first, second = (neighbor_list(positions, np.zeros((3, 3)), False, 4.0) for _ in range(2))
    assert np.array_equal(first[0], second[0])


@pytest.mark.parametrize("pbc", [(False, False, False), (False, True, False), (False, True, True)])
def test_far_apart_atoms_do_not_crash_the_search(pbc):
    rng = np.random.default_rng(8)
    cluster = rng.uniform(0, 4, (6, 3))
    atoms = Atoms("H12", positions=np.r_[cluster, cluster], cell=np.diag([3.0, 4.0, 5.0]), pbc=pbc)
    near = ours(atoms[:6], 2.5)
    atoms.positions[6:, 0] += 1e7
    expected = near | {(i + 6, j + 6, *shift) for i, j, *shift in near}
    assert near
    assert ours(atoms, 2.5) == expected


def test_inputs_are_left_alone():
    positions, cell, pbc = (
        np.array([[0.0, 0, 0], [7.0, 0, 0]]),
        np.diag([5.0, 0.0, 0.0]),
        np.array([True, False, False]),
    )
    copies = positions.copy(), cell.copy(), pbc.copy()
    neighbor_list(positions, cell, pbc, 3.0)
    assert all(np.array_equal(a, b) for a, b in zip((positions, cell, pbc), copies, strict=True))


def test_no_atoms_no_pairs():
    edge_index, shifts = neighbor_list(np.zeros((0, 3)), np.eye(3), True, 3.0)
    assert edge_index.shape == (2, 0)
    assert shifts.shape == (0, 3)


def test_nothing_is_left_behind_however_many_searches():
    rng = np.random.default_rng(0)
    objects, counts = [], set()
    for _ in range(2):
        for number in range(20, 60):
            counts.add(neighbor_list(rng.uniform(0, 8, (number, 3)), 8 * np.eye(3), True, 3.0)[0].shape[1])
        gc.collect()
        objects.append(len(gc.get_objects()))
    assert len(counts) > 60
    assert objects[1] - objects[0] < 20


def test_search_cell_keeps_periodic_vectors():
    box = search_cell(CELLS["zero third vector"], [True, True, False])
    assert np.array_equal(box[:2], CELLS["zero third vector"][:2])
    assert np.allclose(box[:2] @ box[2], 0.0)


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "r_max", "message"),
    [
        ([[0, 0, np.nan]], np.eye(3), True, 1.0, r"positions hold NaN or infinite values in row\(s\) \[0\]"),
        ([[0, 0, 0]], np.full((3, 3), np.inf), True, 1.0, "cell vectors hold NaN or infinite"),
        ([[0, 0, 0]], np.diag([1.0, 1.0, 0.0]), True, 1.0, "periodic along cell vector 3, but that vector is zero"),
        ([[0, 0, 0]], np.ones((3, 3)), True, 1.0, "linearly dependent"),
        (
            [[0, 0, 1e9]],
            np.eye(3),
            True,
            1.0,
            r"a coordinate is 1.0e\+09 A; expected at most 1e\+08 A: the structure has exploded",
        ),
        ([[0, 0, 0]], np.eye(3), True, 0.0, "must be a positive length"),
        ([[0, 0, 0]], np.eye(3), True, np.nan, "must be a positive length"),
    ],
)
def test_errors(positions, cell, pbc, r_max, message):
    with pytest.raises(DataError, match=message):
        neighbor_list(positions, cell, pbc, r_max)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, False), (True, False, False), (True, True, True)])
@pytest.mark.parametrize("width", [1000.0, 1100.0, 1200.0, 1e4])
def test_wide_and_thin_structures_have_all_their_pairs(width, pbc):
    # grids of more than 1e5 cubes that are one cube thick ended the process with SIGFPE
    points = np.random.default_rng(0).uniform(0.0, 1.0, (4000, 3)) * [width, width, 5.0]
    points[1::2] = points[::2] + np.array([1.0, 1.0, 0.5])
    box = np.array([width, width, 30.0])
    edge_index, _ = neighbor_list(points, np.diag(box), pbc, 3.5)
    periods = np.where(pbc, box, 1e9)
    tree = KDTree(points % periods, boxsize=periods)
    assert edge_index.shape[1] == 2 * len(tree.query_pairs(3.5)) > 4000


@pytest.mark.parametrize(
    "cell", [(5, 5, 1e6), (20, 1e4, 1e4), (1, 1e4, 1e4), (5, 1e3, 1e6), (3, 1e5, 1e5), (5, 5, 1e8)]
)
@pytest.mark.parametrize("tilt", [0.0, 1.5])
def test_long_and_thin_cells_have_the_pairs_of_shorter_ones(cell, tilt):
    points = np.array([[0.1, 0.2, 0.3], [1.2, 0.4, 0.9], [0.2, 1.0, -0.5]])
    long, short = np.diag(cell), np.diag(np.minimum(cell, 100.0))
    long[2, 0] = short[2, 0] = tilt
    wraps = np.array([[0, 0, 0], [2, 0, -1], [0, 1, 0]])
    found = neighbor_list(points + wraps @ long, long, True, 6.0)
    expected = neighbor_list(points + wraps @ short, short, True, 6.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_absurdly_uneven_cells_are_refused():
    message = "a structure of 1 atoms that is 9000 A wide and 0.01 A thin is too uneven for a search within 5.5 A"
    with pytest.raises(DataError, match=message):
        neighbor_list(np.zeros((1, 3)), np.diag([0.01, 9e3, 9e3]), True, 5.5)


def test_atoms_a_million_cells_away_are_found():
    # this ended the process with SIGFPE
    cell = np.array([[4e6, 7e5, -1e5], [3.0, 0.0, 0.0], [-5e5, 6e5, 4e6]])
    near = np.array([[0.5, 3.6, 1.6], [1.0, 2.0, 3.0], [0.1, 0.7, 3.1]])
    away = np.array([[0, 0, 0], [0, 1_200_000, 0], [0, -70_000, 0]])
    for pbc in ((False, True, True), (False, True, False), (True, True, True)):
        (edges, shifts), (expected, images) = (
            neighbor_list(points, cell, pbc, 3.5) for points in (near + away @ cell, near)
        )
        np.testing.assert_array_equal(edges, expected)
        np.testing.assert_array_equal(shifts, images + (away[edges[0]] - away[edges[1]]))
