import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import build_graph, build_molecular_graph, set_bonds

WATER = Atoms("OHH", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]], info={"bonds": [0, 1, 1, 0, 2, 1]})


def test_edges_are_the_bonds_both_ways_sorted_by_receiver() -> None:
    graph = build_molecular_graph(WATER, "bonds")
    assert graph["edge_index"].T.tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]]
    assert graph["bond_types"].tolist() == [1] * 4


def test_both_is_the_radius_graph_and_the_bonds_that_are_longer_than_the_cutoff() -> None:
    long = Atoms("H3", [[0, 0, 0], [0, 0, 0.7], [0, 0, 4.0]])
    set_bonds(long, [0, 2, 2])
    graph = build_molecular_graph(long, "both", 1.0)
    assert graph["edge_index"].T.tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]]
    assert graph["bond_types"].tolist() == [0, 2, 0, 2]
    wide = build_molecular_graph(long, "both", 5.0)
    same = build_graph(long, 5.0)
    assert np.array_equal(wide["edge_index"], same["edge_index"])
    assert np.array_equal(wide["bond_types"], same["bond_types"])


def test_bonds_that_are_missing_or_cannot_be_are_errors() -> None:
    with pytest.raises(DataError, match='H2O has no stored bonds: .*edges="radius"'):
        build_molecular_graph(molecule("H2O"), "both")
    with pytest.raises(ConfigError, match="edges must be one of bonds, radius, both; got 'all'"):
        build_molecular_graph(WATER, "all")
    crystal = bulk("Si")
    crystal.info["bonds"] = [0, 1, 1]
    with pytest.raises(DataError, match="is for molecules, but this structure is periodic"):
        build_molecular_graph(crystal, "bonds")
    assert build_molecular_graph(Atoms("He"), "bonds")["edge_index"].shape == (2, 0)
