"""Quadrature on the unit sphere."""

import functools

import torch
from scipy.integrate import lebedev_rule
from torch import Tensor

LEBEDEV_DEGREES = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 41, 47, 53, 59, 65)


@functools.cache
def sphere_grid(degree: int) -> tuple[Tensor, Tensor]:
    r"""Lebedev points and weights that integrate polynomials up to a degree exactly.

    .. math:: \frac{1}{4\pi} \int f \, d\Omega = \sum_g w_g f(x_g)

    The points are symmetric under the full octahedral group.

    Args:
        degree: Smallest degree that must be exact, at most 65.

    Returns:
        Points (G, 3) and weights (G,), float64; the weights sum to 1.

    Raises:
        ValueError: No rule of that degree.

    Example:
        >>> points, weights = sphere_grid(7)
        >>> points.shape, round(float(weights.sum()), 12)
        (torch.Size([26, 3]), 1.0)
    """
    for available in LEBEDEV_DEGREES:
        # the rules of degree 13, 25 and 27 have negative weights and make an unstable inner product
        if available >= degree and available not in (13, 25, 27):
            points, weights = lebedev_rule(available)
            weights = torch.from_numpy(weights)
            return torch.from_numpy(points.T.copy()), weights / weights.sum()
    raise ValueError(
        f"there is no Lebedev grid of degree {degree}: the largest is {LEBEDEV_DEGREES[-1]}; use "
        "gauss_legendre_rings(degree), which exists for every degree"
    )
