"""Tiles have every receiver once, with all its edges, and neighbors in a tile are near each other."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from ik_e3nn.graph import build_graph, fields
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.models.networks.tiles import order_in_space, tile_size, tiles

CUTOFF = 3.0


def prepared(atoms, max_edges=64):
    torch.manual_seed(0)
    model = InteratomicPotential([29, 10], CUTOFF, preset="small").eval()
    model.max_edges = max_edges
    return model.prepare(build_graph(atoms, CUTOFF, dtype=torch.float64))


def crystal(seed=None):
    """Copper, the atoms in random order and moved by random numbers of cells, and far away one atom without edges."""
    atoms = bulk("Cu", cubic=True).repeat(8)
    atoms.pbc = [True, True, False]
    if seed is not None:
        order = torch.randperm(len(atoms), generator=torch.Generator().manual_seed(seed))
        atoms = atoms[order.numpy()]
        atoms.positions[:, :2] += atoms.cell.lengths()[:2] * torch.randint(-3, 4, (len(atoms), 2)).numpy()
    return atoms + Atoms("Ne", positions=[[0, 0, 90]])


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_every_receiver_is_in_one_tile_with_all_its_edges(size):
    edges = prepared(crystal(0), size)
    number = edges[fields.SPECIES].shape[0]
    found = list(tiles(edges, size, edges[fields.ORDER]))
    receivers = torch.cat([tile.receivers for tile in found])
    torch.testing.assert_close(receivers, edges[fields.ORDER])
    torch.testing.assert_close(receivers.sort().values, torch.arange(number))
    blocks = torch.cat([tile.blocks for tile in found])
    torch.testing.assert_close(blocks.sort().values, torch.arange(edges[fields.OWNERS].shape[0]))
    for tile in found:
        torch.testing.assert_close(tile.atoms[tile.senders], edges[fields.SENDERS][tile.blocks])
        torch.testing.assert_close(tile.receivers[tile.owners], edges[fields.OWNERS][tile.blocks])
        assert len(tile.atoms.unique()) == len(tile.atoms)
        assert tile.num_receivers == 1 or tile.senders.numel() <= size


def test_a_tile_has_few_other_atoms_in_any_order():
    """As many as a crystal in its own order, where in random order nearly all atoms would send to each tile."""

    def others(atoms, order=None):
        edges = prepared(atoms, 1000)
        order = edges[fields.ORDER] if order is None else order
        return sum(len(tile.atoms) - tile.num_receivers for tile in tiles(edges, 1000, order)) / len(atoms)

    found = others(crystal(0))
    assert found < 1.2 * others(crystal())
    assert found < 0.5 * others(crystal(0), torch.arange(2049))


def test_structures_of_a_batch_follow_each_other():
    positions, batch = torch.randn(40, 3, dtype=torch.float64), torch.arange(40) // 10
    order = order_in_space(positions, torch.zeros(4, 3, 3, dtype=torch.float64), batch, 1.0)
    torch.testing.assert_close(batch[order], batch)


def test_few_edges_are_treated_in_one_piece():
    atoms, cpu = bulk("Cu", cubic=True), torch.device("cpu")
    assert fields.ORDER not in prepared(atoms, None)
    assert fields.ORDER in prepared(atoms, 8)
    assert tile_size(1000, cpu, None) is tile_size(1000, cpu, 1000) is None
    assert tile_size(1000, cpu, 999) == 999
    many = 10**7
    assert tile_size(many, cpu, None) == tile_size(many, cpu, 10**6) == 8192 * torch.get_num_threads()
    assert tile_size(many, cpu, 1000) == 1000
    assert tile_size(many, torch.device("cuda"), None) is None
    assert tile_size(many, torch.device("cuda"), 10**6) == 10**6
