"""Bonds survive files and find their edges."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph, check_bonds, edge_vectors, get_bonds, set_bonds

BOND_LISTS = [
    [],
    [[0, 1, 1]],
    [[0, 1, 1], [1, 2, 2]],
    [[0, 1, 1], [1, 2, 2], [2, 3, 1]],
    [[0, i, 1] for i in range(1, 5)],
]


@pytest.mark.parametrize("bonds", BOND_LISTS, ids=len)
@pytest.mark.parametrize("suffix", ["xyz", "traj"])
def test_round_trip_through_files(tmp_path, bonds, suffix):
    atoms = molecule("CH4")
    set_bonds(atoms, bonds)
    atoms.info["charge"] = 0
    path = tmp_path / f"one.{suffix}"
    write(path, [atoms, atoms])
    for copy in read(path, ":"):
        assert get_bonds(copy).tolist() == bonds
        assert copy.info["charge"] == 0


def test_plain_lists_and_files_written_by_hand(tmp_path):
    path = tmp_path / "hand.xyz"
    path.write_text('2\nProperties=species:S:1:pos:R:3 bonds="0 1 3" pbc="F F F"\nN 0 0 0\nN 0 0 1.1\n')
    assert get_bonds(read(path)).tolist() == [[0, 1, 3]]
    assert get_bonds(Atoms("N2", info={"bonds": [[0, 1, 3]]})).tolist() == [[0, 1, 3]]


@pytest.mark.parametrize(
    ("bonds", "message"),
    [
        ([0, 1], "must be triples"),
        ([0, 5, 1], "refers to atom 5, but the structure has 2 atoms"),
        ([-1, 1, 1], "refers to atom -1"),
        ([0, 1, 7], "bond types must be 0 to 4"),
        ([0, 1, 1.5], "must be whole numbers"),
        ("0-1", "must be whole numbers"),
        ([0, 1, 1, 1, 0, 2], "contains a pair of atoms twice"),
    ],
)
def test_errors(bonds, message):
    with pytest.raises(DataError, match=message):
        check_bonds(bonds, 2)


def test_types_stand_on_both_directions_of_the_bonded_edges():
    atoms = molecule("C2H4")
    set_bonds(atoms, [[0, 1, 2], [0, 2, 1], [3, 0, 1], [1, 4, 1], [1, 5, 1]])
    graph = build_graph(atoms, 5.0)
    found = {(int(j), int(i)): int(t) for (j, i), t in zip(graph.edge_index.T, graph.bond_types, strict=True)}
    assert found[0, 1] == found[1, 0] == 2
    assert found[3, 0] == found[0, 3] == 1
    assert found[2, 4] == 0
    assert (graph.bond_types > 0).sum() == 10


def test_only_the_shortest_image_is_bonded():
    atoms = Atoms("HF", positions=[[0.1, 0, 0], [2.9, 0, 0]], cell=[3.8, 4, 4], pbc=True)
    set_bonds(atoms, [[0, 1, 1]])
    graph = build_graph(atoms, 6.0)
    bonded = graph.bond_types > 0
    vectors = edge_vectors(graph.positions, graph.edge_index, graph.edge_shifts, graph.cell, graph.batch)
    assert bonded.sum() == 2
    assert np.allclose(vectors[bonded].norm(dim=1), 1.0, atol=1e-5)
    assert (vectors[bonded].sum(dim=0)).abs().max() < 1e-6


def test_equally_long_images_are_chosen_alike_in_both_directions():
    atoms = Atoms("HF", positions=[[0, 0, 0], [1.5, 0, 0]], cell=[3, 3, 3], pbc=True)
    set_bonds(atoms, [[0, 1, 1]])
    graph = build_graph(atoms, 2.0)
    bonded = graph.bond_types > 0
    assert bonded.sum() == 2
    assert graph.edge_shifts[bonded].sum(dim=0).tolist() == [0.0, 0.0, 0.0]


def test_a_bond_to_an_own_image():
    atoms = Atoms("C", cell=[1.5, 9, 9], pbc=[True, False, False])
    set_bonds(atoms, [[0, 0, 1]])
    graph = build_graph(atoms, 4.0)
    assert sorted(graph.edge_shifts[graph.bond_types > 0][:, 0].tolist()) == [-1.0, 1.0]


def test_bonds_longer_than_the_cutoff_are_no_edges():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 9]])
    set_bonds(atoms, [[0, 1, 1]])
    assert build_graph(atoms, 5.0).bond_types.shape == (0,)
