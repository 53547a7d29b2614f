r"""Spherical harmonics of edge vectors that stay finite, with their gradients, at zero length."""

import torch
from e3nn import o3
from torch import Tensor


def spherical_irreps(l_max: int, mul: int = 1) -> o3.Irreps:
    """``mul`` copies of every irrep of the spherical harmonics up to l_max.

    Example:
        >>> spherical_irreps(2, 16)
        16x0e+16x1o+16x2e
    """
    return o3.Irreps([(mul, (l, (-1) ** l)) for l in range(l_max + 1)])


def distances(vectors: Tensor) -> Tensor:
    """Lengths (..., 1) of vectors (..., 3); value and all derivatives are 0 for a zero vector."""
    squared = vectors.square().sum(-1, keepdim=True)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def harmonics(vectors: Tensor, l_max: int, *, normalize: bool = True) -> Tensor:
    r"""Spherical harmonics up to l_max, in e3nn's order and "component" normalisation.

    .. math:: Y_l(r/|r|) \;\text{with}\; |Y_l|^2 = 2l+1, \qquad \text{or the polynomials}\; |r|^l \, Y_l(r/|r|)

    Args:
        vectors: (..., 3).
        l_max: Largest degree.
        normalize: False gives the homogeneous polynomials of the paper's appendix B.1.

    Returns:
        Tensor (..., (l_max+1)^2). At r = 0 all of it but l = 0 is zero, and the gradient is finite.

    Example:
        >>> harmonics(torch.zeros(1, 3), 1)
        tensor([[1., 0., 0., 0.]])
    """
    if normalize:
        length = distances(vectors)
        vectors = vectors / torch.where(length == 0, 1.0, length)
    return o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=False, normalization="component")
