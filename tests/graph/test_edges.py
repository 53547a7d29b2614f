"""Edge vectors are differentiable, and a strain acts on them as on the structure."""

import torch
from ase.build import bulk

from ik_e3nn.graph import build_graph, edge_vectors


def test_a_strain_of_positions_and_cell_strains_the_edges():
    graph = build_graph(bulk("Cu") * (1, 1, 2), 4.0, dtype=torch.float64)
    strain = torch.eye(3, dtype=torch.float64) + 0.1 * torch.arange(9, dtype=torch.float64).reshape(3, 3) / 9
    arguments = graph.edge_index, graph.edge_shifts
    plain = edge_vectors(graph.positions, *arguments, graph.cell, graph.batch)
    strained = edge_vectors(graph.positions @ strain, *arguments, graph.cell @ strain, graph.batch)
    assert torch.allclose(strained, plain @ strain, atol=1e-12)


def test_gradients_reach_positions_and_cell():
    graph = build_graph(bulk("NaCl", "rocksalt", a=5.6), 4.0, dtype=torch.float64)
    inputs = graph.positions.requires_grad_(), graph.cell.requires_grad_()

    def total(positions, cell):
        return edge_vectors(positions, graph.edge_index, graph.edge_shifts, cell, graph.batch).square().sum(dim=1)

    assert torch.autograd.gradcheck(total, inputs)


def test_no_edges():
    empty = torch.zeros(2, 0, dtype=torch.long)
    vectors = edge_vectors(
        torch.zeros(1, 3), empty, torch.zeros(0, 3), torch.zeros(1, 3, 3), torch.zeros(1, dtype=torch.long)
    )
    assert vectors.shape == (0, 3)
