"""Features of an edge vector for a kernel, and the window that limits the kernel in space."""

from abc import ABC, abstractmethod

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis.harmonics import distances, harmonics, spherical_irreps
from ik_e3nn.basis.radial import BesselBasis, GaussianBasis, GaussianShell, smooth_envelope


class EdgeBasis(nn.Module, ABC):
    """Steerable features of an edge vector r, and a scalar window w(|r|) that multiplies the kernel.

    Attributes:
        irreps_out: Type of the features, in irreps of O(3), so that every subgroup can use them.
    """

    irreps_out: o3.Irreps

    @abstractmethod
    def forward(self, edge_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Features (E, irreps_out.dim) and window (E, 1) of edge vectors (E, 3), in A."""


class RadialHarmonicBasis(EdgeBasis):
    r"""Products of every radial function with every harmonic, and an envelope that is exactly zero at the cutoff.

    .. math:: f_{nlm}(r) = b_n(|r|) \, Y_{lm}(r/|r|), \qquad w = u(|r|/r_{max})

    Args:
        radial: Basis of functions of the distance.
        l_max: Largest degree of the harmonics.

    Example:
        >>> basis = RadialHarmonicBasis(BesselBasis(5.0, 8), l_max=1)
        >>> basis.irreps_out
        8x0e+8x1o
        >>> [x.shape for x in basis(torch.randn(7, 3))]
        [torch.Size([7, 32]), torch.Size([7, 1])]
    """

    def __init__(self, radial: BesselBasis | GaussianBasis, l_max: int = 2) -> None:
        super().__init__()
        if l_max < 0:
            raise ValueError(f"l_max must be 0 or more; got {l_max}")
        self.radial = radial
        self.l_max = l_max
        self.irreps_out = spherical_irreps(l_max, radial.num_basis)

    def forward(self, edge_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        length = distances(edge_vectors)
        shells = self.radial(length)
        Y = harmonics(edge_vectors, self.l_max)
        blocks = [
            (shells[:, :, None] * Y[:, None, l * l : (l + 1) ** 2]).flatten(1) for l in range(self.l_max + 1)
        ]  # flat layout: multiplicity outside, m inside
        return torch.cat(blocks, 1), smooth_envelope(length / self.radial.r_max)


class PolynomialBasis(EdgeBasis):
    r"""Homogeneous polynomials up to degree l_max, and a learnable Gaussian as window: the input used in the paper.

    .. math:: f_{lm}(r) = |r|^l \, Y_{lm}(r/|r|), \qquad w = \exp(-\tfrac12 |r|^2/\sigma^2)

    Args:
        l_max: Largest degree.
        sigma: Initial width of the Gaussian (A).

    Reference:
        Zhdanov et al., NeurIPS 2023, appendix B.1.

    Example:
        >>> PolynomialBasis(3).irreps_out
        1x0e+1x1o+1x2e+1x3o
    """

    def __init__(self, l_max: int = 3, *, sigma: float = 1.0) -> None:
        super().__init__()
        if l_max < 0:
            raise ValueError(f"l_max must be 0 or more; got {l_max}")
        self.l_max = l_max
        self.shell = GaussianShell(sigma)
        self.irreps_out = spherical_irreps(l_max)

    def forward(self, edge_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        return harmonics(edge_vectors, self.l_max, normalize=False), self.shell(distances(edge_vectors))
