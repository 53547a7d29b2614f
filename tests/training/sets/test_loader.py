import pytest
import torch
from ase import Atoms

from ik_e3nn.errors import DataError
from ik_e3nn.graph import batch_graphs
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.sets.loader import BatchLoader, collate, sizes_of
from ik_e3nn.training.sets.sampler import EpochSampler
from tests.training.helpers import graphs, structures


def test_collate_equals_pyg() -> None:
    alone = Atoms("H", info={"REF_energy": 0.0})
    alone.arrays["REF_forces"] = [[0.0, 0.0, 0.0]]
    mixed = graphs([*structures(3), alone, *structures(1)])
    fast, slow = collate([graph.to_dict() for graph in mixed]), batch_graphs(mixed)
    assert fast["edge_index"].shape[1] > 20
    for key, value in fast.items():
        torch.testing.assert_close(value, slow[key], equal_nan=True)
    assert {"energy", "forces", "stress", "bond_types", "batch", "pbc"} <= set(fast)


def test_the_graphs_stay_as_they_are() -> None:
    mixed = graphs(structures(3))
    before = [graph["edge_index"].clone() for graph in mixed]
    list(BatchLoader(mixed, EpochSampler(sizes_of(mixed), BatchLimits(3))))
    assert all(torch.equal(graph["edge_index"], old) for graph, old in zip(mixed, before, strict=True))


def test_uneven_inputs_are_an_error() -> None:
    mixed = graphs(structures(2))
    mixed[1]["total_charge"] = torch.zeros(1)
    with pytest.raises(DataError, match=r"structures 0 and 1 do not have the same inputs \(total_charge\)"):
        BatchLoader(mixed, EpochSampler(sizes_of(mixed), BatchLimits(2)))
