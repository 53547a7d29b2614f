"""Positions relative to local centers: their definition, and what makes moments of far fragments add up."""

import pytest
import torch
from ase import Atoms

from ik_e3nn.graph import build_graph, edge_vectors
from ik_e3nn.targets.places import local_places


def places_of(atoms, r_max, positions=None):
    graph = build_graph(atoms, r_max, dtype=torch.float64)
    positions = graph["positions"] if positions is None else positions
    edges = graph["edge_index"]
    vectors = edge_vectors(positions, edges, graph["edge_shifts"], graph["cell"], graph["batch"])
    return local_places(vectors, edges[0], edges[1], len(positions), r_max)


@pytest.mark.parametrize("bonds", [False, True])
def test_places_are_relative_to_averages_of_averages(bonds) -> None:
    """c = W^4 r with the matrix written out, for atoms somewhere in space."""
    r = 2.0 * torch.randn(7, 3, dtype=torch.float64) + 50.0
    distances = torch.cdist(r, r)
    near = (distances < 3.0) & ~torch.eye(7, dtype=torch.bool)
    u = near.double() if bonds else near * (1 - (distances / 3.0) ** 2) ** 2
    W = (u + torch.eye(7)) / (1 + u.sum(1, keepdim=True))
    expected = r - torch.linalg.matrix_power(W, 4) @ r
    receivers, senders = near.nonzero().T
    found = local_places(r[receivers] - r[senders], senders, receivers, 7, None if bonds else 3.0)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    single = local_places((r[receivers] - r[senders]).float(), senders, receivers, 7, None if bonds else 3.0)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


def test_an_atom_without_neighbors_is_its_own_center() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert torch.equal(local_places(torch.zeros(0, 3), none, none, 2, 3.0), torch.zeros(2, 3))
    assert torch.equal(local_places(torch.zeros(0, 3), none, none, 2, None), torch.zeros(2, 3))


def test_edges_longer_than_the_cutoff_do_not_count() -> None:
    """A graph of bonds and neighbors has bonds that are longer than the cutoff, and these are no neighbors."""
    vectors = torch.tensor([[-4.0, 0, 0], [4.0, 0, 0]])
    assert torch.equal(local_places(vectors, torch.tensor([1, 0]), torch.tensor([0, 1]), 2, 3.0), torch.zeros(2, 3))


def test_images_of_atoms_are_neighbors_as_atoms_are() -> None:
    """Atoms in other cells, and a cell twice as large, are the same crystal."""
    atoms = Atoms("HOC", [[0.2, 0, 0], [1.1, 0.4, 0], [2.3, 1.0, 0.7]], cell=[3.0, 3.2, 3.4], pbc=True)
    one = places_of(atoms, 3.0)
    moved = atoms.copy()
    moved.positions[1] += 2 * atoms.cell[0] - atoms.cell[2]
    assert one.abs().max() > 0.1
    torch.testing.assert_close(places_of(moved, 3.0), one, rtol=0, atol=1e-12)
    torch.testing.assert_close(places_of(atoms * (2, 1, 1), 3.0), torch.cat([one, one]), rtol=0, atol=1e-12)


def test_values_and_derivatives_are_continuous_where_a_neighbor_crosses_the_cutoff() -> None:
    """What jumps at the cutoff does not shrink with the distance from it; here both jumps do."""

    def at(distance):
        atoms = Atoms("OHH", [[0, 0, 0], [0.9, 0, 0], [0, distance, 0]])
        edges = build_graph(atoms, 3.0)["edge_index"].shape[1]
        positions = torch.tensor(atoms.positions, requires_grad=True)
        value = places_of(atoms, 3.0, positions)[0, 1]
        (gradient,) = torch.autograd.grad(value, positions)
        return edges, value.detach(), gradient

    jumps = []
    for h in (1e-3, 1e-4):
        (more, v, g), (fewer, w, k) = at(3.0 - h), at(3.0 + h)
        assert more > fewer
        jumps.append((float((v - w).abs()), float((g - k).abs().max())))
    assert 0 < jumps[1][0] < 0.02 * jumps[0][0]  # of second order
    assert 0 < jumps[1][1] < 0.2 * jumps[0][1]  # of first order
    assert jumps[0][1] < 0.02
