r"""Forces and stress as derivatives of the energy.

.. math:: F_i = -\frac{\partial E}{\partial r_i}, \qquad
          \sigma_{\alpha\beta} = \frac{1}{V} \frac{\partial E}{\partial \epsilon_{\alpha\beta}}, \quad
          r \mapsto r (1 + \epsilon), \; h \mapsto h (1 + \epsilon), \; \epsilon = \epsilon^T

with V = |det h|, as in ASE: eV/A^3, tension positive. The cell is never changed or completed: where it has no volume,
the stress is NaN.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ik_e3nn.conv import segment_sum


class Derivatives(NamedTuple):
    """Derivatives of the energy; absent where not asked for.

    Attributes:
        forces: (N, 3), eV/A.
        stress: (B, 3, 3), eV/A^3.
        atomic_virials: (N, 3, 3), eV: every edge's dE/d(strain) shared by its two atoms; they sum to stress times
            volume.
    """

    forces: Tensor | None
    stress: Tensor | None
    atomic_virials: Tensor | None


def strained(positions: Tensor, cell: Tensor, strain: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and cells under a strain (B, 3, 3), which is symmetrised so that rotations drop out."""
    symmetric = 0.5 * (strain + strain.mT)
    moved = positions + torch.bmm(positions[:, None], symmetric.index_select(0, batch)).squeeze(1)
    return moved, cell + torch.bmm(cell, symmetric)


def differentiate(
    energy: Tensor,
    positions: Tensor,
    *,
    strain: Tensor | None = None,
    cell: Tensor | None = None,
    edges: tuple[Tensor, Tensor] | None = None,
    create_graph: bool = False,
) -> Derivatives:
    """Differentiate the total energy.

    Args:
        energy: (B,), in eV.
        positions: (N, 3), part of the energy's graph.
        strain: (B, 3, 3), zero, part of the energy's graph; gives the stress.
        cell: Unstrained cells (B, 3, 3), in A; needed for the stress.
        edges: Edge vectors (E, 3), part of the energy's graph, and edge_index (2, E); gives the atomic virials.
        create_graph: Keep what is needed to differentiate the result again.
    """
    wanted = [positions] + ([] if strain is None else [strain]) + ([] if edges is None else [edges[0]])
    grads = list(
        torch.autograd.grad(energy.sum(), wanted, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    )
    forces = -grads.pop(0)
    stress = None
    if strain is not None and cell is not None:
        volume = torch.linalg.det(cell).abs()[:, None, None]
        has_volume = volume > 0
        stress = torch.where(has_volume, grads.pop(0) / torch.where(has_volume, volume, 1.0), torch.nan)
    virials = None
    if edges is not None:
        virials = _atomic_virials(edges[0], grads.pop(0), edges[1], positions.shape[0])
    return Derivatives(forces, stress, virials)


def _atomic_virials(vectors: Tensor, gradient: Tensor, edge_index: Tensor, num_nodes: int) -> Tensor:
    virial = vectors[:, :, None] * gradient[:, None, :]
    virial = 0.25 * (virial + virial.mT)  # symmetric, and half for either atom
    return segment_sum(virial, edge_index[0], num_nodes) + segment_sum(virial, edge_index[1], num_nodes)
