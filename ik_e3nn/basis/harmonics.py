r"""Spherical harmonics of edge vectors; they and their gradients are finite at zero length."""

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.constants import ExactModule


def spherical_irreps(l_max: int, mul: int = 1) -> o3.Irreps:
    """``mul`` copies of every irrep of the spherical harmonics up to l_max.

    Example:
        >>> spherical_irreps(2, 16)
        16x0e+16x1o+16x2e
    """
    return o3.Irreps([(mul, (l, (-1) ** l)) for l in range(l_max + 1)])


def distances(vectors: Tensor) -> Tensor:
    """Lengths (..., 1) of vectors (..., 3); for a zero vector, the length and all its derivatives are 0."""
    squared = vectors.square().sum(-1, keepdim=True)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def harmonics(vectors: Tensor, l_max: int, *, normalize: bool = True) -> Tensor:
    r"""Spherical harmonics up to l_max, in e3nn's order and "component" normalization.

    .. math:: Y_l(r/|r|) \;\text{with}\; |Y_l|^2 = 2l+1, \qquad \text{or the polynomials}\; |r|^l \, Y_l(r/|r|)

    Args:
        vectors: (..., 3).
        l_max: Largest degree.
        normalize: False gives the homogeneous polynomials of the paper's appendix B.1.

    Returns:
        Tensor (..., (l_max+1)^2). At r = 0 only the component of l = 0 is not zero, and the gradient is finite.

    Example:
        >>> harmonics(torch.zeros(1, 3), 1)
        tensor([[1., 0., 0., 0.]])
    """
    if normalize:
        length = distances(vectors)
        vectors = vectors / torch.where(length == 0, 1.0, length)
    return o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=False, normalization="component")


class Harmonics(ExactModule):
    r""":func:`harmonics` by recursion: a few matrix products instead of e3nn's long polynomials.

    .. math:: Y_l = C_l \, (Y_{l-1} \otimes Y_1)

    with C_l the coupling constants, scaled to "component" normalization. The values are the same: the harmonics of unit
    vectors, and the homogeneous polynomials :math:`|r|^l Y_l(r/|r|)` of others. The recursion is faster for small
    systems and in compiled code.

    Args:
        l_max: Largest degree.

    Example:
        >>> Harmonics(2)(torch.tensor([[0.0, 0.0, 1.0]])).shape
        torch.Size([1, 9])
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        sample = torch.nn.functional.normalize(torch.randn(8, 3, dtype=torch.float64, generator=_generator()), dim=1)
        for l in range(2, l_max + 1):
            below, first, wanted = (o3.spherical_harmonics(k, sample, False, "component") for k in (l - 1, 1, l))
            coupling = o3.wigner_3j(l - 1, 1, l, dtype=torch.float64)
            found = torch.einsum("ni,nj,ijk->nk", below, first, coupling)
            scale = (wanted * found).sum() / found.square().sum()
            self.register_exact(f"coupling_{l}", coupling.flatten(0, 1) * scale)

    def forward(self, vectors: Tensor) -> Tensor:
        """Polynomials (E, (l_max+1)^2) of vectors (E, 3), which are harmonics for unit vectors."""
        first = vectors * 3**0.5
        parts = [torch.ones_like(vectors[:, :1]), first][: self.l_max + 1]
        for l in range(2, self.l_max + 1):
            products = (parts[-1][:, :, None] * first[:, None]).flatten(1)
            parts.append(products @ getattr(self, f"coupling_{l}"))
        return torch.cat(parts, 1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
