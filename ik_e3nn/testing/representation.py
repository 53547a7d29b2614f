"""Representation matrices of direct sums of irreps."""

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.symmetry import representation_matrix


def representation(irreps: o3.Irreps | str, g: Tensor) -> Tensor:
    r"""Matrix :math:`D(g)` of features in e3nn's flat layout, exact in float64.

    Args:
        irreps: Type of the features.
        g: Orthogonal matrix (3, 3).

    Returns:
        Tensor (irreps.dim, irreps.dim), float64.

    Example:
        >>> g = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
        >>> representation("0o + 1o", g).diagonal().round()
        tensor([-1.,  1.,  1., -1.], dtype=torch.float64)
    """
    blocks = [torch.zeros(0, 0, dtype=torch.float64)]
    for mul, ir in o3.Irreps(irreps):
        blocks += [representation_matrix(ir.l, ir.p, g)] * mul
    return torch.block_diag(*blocks)
