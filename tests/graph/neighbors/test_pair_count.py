"""Searches that would exhaust the memory or crash are refused; large, dense and small real structures are not."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list as ase_neighbor_list

from ik_e3nn.errors import DataError
from ik_e3nn.graph import SkinList, build_graph, neighbor_list, search_cell
from ik_e3nn.graph.neighbors.pair_count import MOST_PAIRS, check_pair_count, estimated_pairs
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators import IKCalculator


def cube(length, pbc=True):
    return Atoms("Cu", cell=np.eye(3) * length, pbc=pbc)


@pytest.mark.parametrize("length", [1e300, 1e200, 1e9])
def test_huge_cells(length):
    with pytest.raises(DataError, match=r"a cell vector has a component of 1.0e\+\d+ A; expected at most 1e\+08 A"):
        build_graph(cube(length), 5.0)
    atoms = cube(length)
    atoms.calc = IKCalculator(InteratomicPotential(["Cu"], num_channels=2), device="cpu")
    with pytest.raises(DataError, match="or set pbc to False"):
        atoms.get_potential_energy()
    assert build_graph(cube(length, pbc=False), 5.0)["edge_index"].shape == (2, 0)  # a dummy cell is not looked at


@pytest.mark.parametrize(
    ("length", "r_max", "pairs"), [(0.1, 5.0, "5.2e[+]05"), (0.01, 5.0, "5.2e[+]08"), (1.0, 80.0, "2.1e[+]06")]
)
def test_tiny_cells(length, r_max, pairs):
    """4/3 pi r^3 over the volume."""
    message = rf"1 atom\(s\) in the cell .* have about {pairs} pairs within {r_max:g} A, {pairs} per atom; expected at"
    with pytest.raises(DataError, match=message):
        neighbor_list(np.zeros((1, 3)), cube(length).cell.array, True, r_max)


@pytest.mark.parametrize("pbc", [False, True])
def test_huge_cutoffs(pbc):
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = pbc
    with pytest.raises(DataError, match=r"the cutoff is 1e\+06 A \(r_max and the skin .* expected at most 100 A"):
        build_graph(atoms, 1e6)
    with pytest.raises(DataError, match=r"the cutoff is 1e\+09 A"):
        SkinList(5.0, 1e9).update(atoms)


def test_crowded_molecules():
    points = np.random.default_rng(0).random((20000, 3))
    with pytest.raises(DataError, match=r"20000 atom\(s\) have about 2.1e\+08 pairs within 5 A"):
        neighbor_list(points, np.zeros((3, 3)), False, 5.0)


REAL = {
    "primitive": (bulk("Cu"), 10.0),
    "skewed": (Atoms("Cu", cell=[[2.5, 0, 0], [20.0, 2.5, 0], [0, -15.0, 2.6]], pbc=True), 6.0),
    "compressed": (Atoms("Fe", cell=np.ones((3, 3)) * 1.0 - np.eye(3) * 2.0, pbc=True), 8.0),
    "chain": (Atoms("C", cell=[1.3, 0, 0], pbc=(True, False, False)), 10.0),
    "sheet": (Atoms("C", cell=[1.5, 1.5, 0], pbc=(True, True, False)), 40.0),
    "wide": (Atoms("Cu3", [[0, 0, 0], [2, 0, 0], [0, 40, 3]]), 90.0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_structures_and_estimates(name):
    """Lists are those of ASE, and estimates are of their order."""
    atoms, r_max = REAL[name]
    edge_index, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
    expected = len(ase_neighbor_list("i", atoms, r_max))
    assert edge_index.shape[1] == expected
    box = search_cell(atoms.cell.array, atoms.pbc)
    assert expected / 4 < estimated_pairs(atoms.positions, box, atoms.pbc, r_max) + len(atoms) < 4 * expected + 10


@pytest.mark.parametrize("kind", ["crystal", "cluster", "slab", "compressed"])
def test_a_hundred_thousand_atoms(kind):
    """Not searched here, only counted: 134 neighbors within 6.5 A of copper at 0.9 of its lattice constant, 91 at 1."""
    atoms = bulk("Cu", cubic=True) * (29, 29, 29)
    if kind == "compressed":
        atoms.set_cell(0.7 * atoms.cell, scale_atoms=True)
    if kind == "cluster":
        atoms.pbc = False
    if kind == "slab":
        atoms.cell[2] *= 3
        atoms.pbc = (True, True, False)
    box = search_cell(atoms.cell.array, atoms.pbc)
    check_pair_count(atoms.positions, box, atoms.pbc, 6.5)
    density = 4 / (0.7 * 3.61 if kind == "compressed" else 3.61) ** 3
    expected = len(atoms) * density * 4 / 3 * np.pi * 6.5**3
    assert expected < MOST_PAIRS / 2
    assert estimated_pairs(atoms.positions, box, atoms.pbc, 6.5) == pytest.approx(expected, rel=0.15)
