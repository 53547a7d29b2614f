"""Positions of atoms relative to a center of their surroundings, so that moments of far fragments add up."""

from typing import Final, Literal

import torch
from torch import Tensor

from ik_e3nn.conv import gather, segment_sum

Places = Literal["local", "center"]  # what positions in dipoles and polarizabilities are relative to
STEPS: Final = 4


def local_places(vectors: Tensor, senders: Tensor, receivers: Tensor, count: int, r_max: float | None) -> Tensor:
    r"""Positions relative to local centers, :math:`d_i = r_i - c_i` with :math:`c = W^4 r`.

    W averages over an atom and its neighbors, with weight 1 of the atom itself:

    .. math:: W_{ij} = \frac{u(r_{ij})}{1 + \sum_k u(r_{ik})}, \qquad u(r) = \big(1 - (r / r_\mathrm{max})^2\big)^2

    The dipole :math:`q_i d_i` is that of a charge at the atom and of an opposite charge spread over its surroundings.
    The sum of these dipoles does not depend on the origin, whatever the charges are, and fragments without edges
    between them add up. u and its first derivative are zero at the cutoff. Edge vectors suffice, also in periodic
    structures: from :math:`d = 0`, each of four steps is

    .. math:: d_i \leftarrow \frac{d_i + \sum_j u(r_{ij}) (r_i - r_j + d_j)}{1 + \sum_j u(r_{ij})}

    Args:
        vectors: Edge vectors :math:`r_i - r_j` from sender j to receiver i, (E, 3), in A.
        senders: Sender of every edge, (E,).
        receivers: Receiver of every edge, (E,).
        count: Number of atoms, N.
        r_max: Cutoff in A; None for graphs of bonds alone, where u is 1.

    Returns:
        Places, (N, 3), in A, in the dtype of the vectors; zero for an atom without edges.

    Example:
        Two atoms at x = 0 and x = 2 with a bond have the same center, x = 1:

        >>> vectors = torch.tensor([[-2.0, 0, 0], [2.0, 0, 0]])
        >>> local_places(vectors, torch.tensor([1, 0]), torch.tensor([0, 1]), 2, None)[:, 0].tolist()
        [-1.0, 1.0]
    """
    if r_max is None:
        weights = torch.ones_like(vectors[:, :1])
    else:
        weights = (1 - (vectors.square().sum(1, keepdim=True) / r_max**2).clamp(max=1)).square()
    total = 1 + segment_sum(weights, receivers, count)
    places = vectors.new_zeros(count, 3)
    for _ in range(STEPS):
        places = (places + segment_sum(weights * (vectors + gather(places, senders)), receivers, count)) / total
    return places
