"""Grids on the sphere made of rings about the y axis, the polar axis of e3nn's harmonics."""

from dataclasses import dataclass

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor


@dataclass(frozen=True)
class SphereRings:
    r"""Points at equal steps of azimuth on rings of constant polar angle.

    .. math:: x_{jk} = (\sin\beta_j \sin\alpha_k, \; \cos\beta_j, \; \sin\beta_j \cos\alpha_k),
              \qquad \alpha_k = 2 \pi k / A

    .. math:: \frac{1}{4\pi} \int f \, d\Omega = \sum_j w_j \, \frac{1}{A} \sum_k f(x_{jk})

    The second line is exact for polynomials up to ``degree``.

    Attributes:
        polar: Angles :math:`\beta_j` (B,) from the pole (0, 1, 0) in radian, float64.
        weights: Weights :math:`w_j` (B,) of whole rings; they sum to 1.
        azimuths: Number A of points on a ring.
        degree: Largest degree that is integrated exactly.

    Example:
        >>> gauss_legendre_rings(5).shape, equiangular_rings(5).shape
        ((3, 6), (6, 6))
    """

    polar: Tensor
    weights: Tensor
    azimuths: int
    degree: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rings B and of points on each ring A, as (B, A)."""
        return len(self.polar), self.azimuths

    @property
    def azimuth(self) -> Tensor:
        r"""Angles :math:`\alpha_k` (A,) in radian."""
        return 2 * torch.pi * torch.arange(self.azimuths, dtype=torch.float64) / self.azimuths

    def points(self) -> Tensor:
        """Unit vectors (B, A, 3)."""
        beta, alpha = torch.meshgrid(self.polar, self.azimuth, indexing="ij")
        return torch.stack([beta.sin() * alpha.sin(), beta.cos(), beta.sin() * alpha.cos()], -1)

    def quadrature(self) -> tuple[Tensor, Tensor]:
        """Points (B A, 3) and their weights (B A,), in the form that ``sphere_grid`` returns."""
        return self.points().flatten(0, 1), (self.weights / self.azimuths).repeat_interleave(self.azimuths)


def equiangular_rings(degree: int) -> SphereRings:
    r"""Rings at equal steps of the polar angle (Driscoll and Healy's grid), midpoints, without the poles.

    .. math:: \beta_j = \pi (j + \tfrac12)/B, \qquad
              w_j = \frac{1}{B} \Big( 1 - 2 \sum_{k=1}^{\lfloor B/2 \rfloor} \frac{\cos 2k\beta_j}{4k^2-1} \Big)

    With B = degree + 1 rings these weights (Fejer's first rule) are exact up to the degree. For functions of bandwidth
    b (degrees l < b), take degree = 2b - 1: the usual 2b x 2b points.

    Args:
        degree: Largest degree that must be exact, 0 or more.

    Raises:
        ValueError: A negative degree.

    Reference:
        Driscoll and Healy, Adv. Appl. Math. 15 (1994) 202, whose rings lie half a step higher and include a pole;
        Kostelec and Rockmore, J. Fourier Anal. Appl. 14 (2008) 145, for the midpoints.

    Example:
        >>> rings = equiangular_rings(7)
        >>> rings.shape, round(float(rings.weights.sum()), 12)
        ((8, 8), 1.0)
    """
    count = _checked(degree) + 1
    polar = torch.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    k = torch.arange(1, count // 2 + 1, dtype=torch.float64)
    weights = (1 - 2 * ((2 * k * polar[:, None]).cos() / (4 * k**2 - 1)).sum(1)) / count
    return SphereRings(polar, weights, count, degree)


def gauss_legendre_rings(degree: int) -> SphereRings:
    r"""Rings at the zeros of a Legendre polynomial: half as many rings as an equiangular grid needs.

    .. math:: P_B(\cos\beta_j) = 0, \qquad B = \lfloor \text{degree}/2 \rfloor + 1

    Args:
        degree: Largest degree that must be exact, 0 or more.

    Raises:
        ValueError: A negative degree.

    Example:
        >>> gauss_legendre_rings(7).shape
        (4, 8)
    """
    cosines, weights = (torch.from_numpy(array) for array in leggauss(_checked(degree) // 2 + 1))
    return SphereRings(cosines.flip(0).acos(), weights.flip(0) / 2, degree + 1, degree)


def _checked(degree: int) -> int:
    if degree < 0:
        raise ValueError(f"the degree of a grid must be 0 or more; got {degree}")
    return degree
