r"""Forces, stress and atomic virials from the derivatives of the energy with respect to the edge vectors.

.. math:: g_e = \frac{\partial E}{\partial r_e}, \qquad
          F_i = -\frac{\partial E}{\partial r_i} = \sum_{e: \text{from } i} g_e - \sum_{e: \text{to } i} g_e, \qquad
          \sigma = \frac{1}{V} \frac{\partial E}{\partial \epsilon} = \frac{1}{V} \sum_e \mathrm{sym}(r_e \otimes g_e)

with the strain :math:`r \mapsto r (1 + \epsilon), h \mapsto h (1 + \epsilon)` and V = |det h|, as in ASE: eV/A^3,
tension positive. All derivatives of the model are linear functions of the same g. The cell is never changed or
completed: if it has no volume, the stress is NaN. In surroundings such as a surface, only strains along free directions
are defined; the other components are zero.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ik_e3nn.conv import segment_sum


def leaves(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Those of the named tensors that are present, as leaves of a new autograd graph."""
    return {name: tensors[name].detach().requires_grad_(True) for name in names if name in tensors}


def gradients(energy: Tensor, variables: Mapping[str, Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
    """Derivatives of an energy () with respect to variables, of their shapes; zero where it does not depend on one."""
    return torch.autograd.grad(
        energy,
        list(variables.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def forces(gradient: Tensor, senders: Tensor, receivers: Tensor, num_nodes: int) -> Tensor:
    """Forces (N, 3), eV/A, from dE/d(edge vectors) (E, 3)."""
    return segment_sum(gradient, senders, num_nodes) - segment_sum(gradient, receivers, num_nodes)


def edge_virials(vectors: Tensor, gradient: Tensor) -> Tensor:
    """Contributions of edges to dE/d(strain), (E, 3, 3), in eV; symmetrized, because rotations cost no energy."""
    virials = vectors[:, :, None] * gradient[:, None, :]
    return 0.5 * (virials + virials.mT)


def projected(virials: Tensor, projectors: Tensor, structures: Tensor) -> Tensor:
    """Virials (E, 3, 3) for strains along some directions only.

    Args:
        virials: (E, 3, 3).
        projectors: Projectors on these directions, (B, 3, 3), or (1, 3, 3) for all structures.
        structures: Structure of every edge, (E,).
    """
    P = projectors if projectors.shape[0] == 1 else projectors.index_select(0, structures)
    return P @ virials @ P


def stress(virials: Tensor, structures: Tensor, cell: Tensor) -> Tensor:
    """Stress (B, 3, 3), eV/A^3, from the virials (E, 3, 3) and structures (E,) of the edges."""
    volume = torch.linalg.det(cell).abs()[:, None, None]
    total = segment_sum(virials, structures, cell.shape[0])
    return torch.where(volume > 0, total / torch.where(volume > 0, volume, 1.0), torch.nan)


def atomic_virials(virials: Tensor, senders: Tensor, receivers: Tensor, num_nodes: int) -> Tensor:
    """Virials of atoms (N, 3, 3), in eV: each edge contributes half to both atoms; they sum to stress times volume."""
    return 0.5 * (segment_sum(virials, senders, num_nodes) + segment_sum(virials, receivers, num_nodes))
