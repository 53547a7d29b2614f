"""Harmonics of any degree from angles, without gradients, for transforms beyond the degrees that e3nn provides."""

import torch
from scipy.special import sph_legendre_p_all
from torch import Tensor

from ik_e3nn.basis.harmonics import harmonics

E3NN_L_MAX = 11  # degrees up to which every supported e3nn has polynomials


def polar_functions(polar: Tensor, l_max: int) -> Tensor:
    r"""The part of the harmonics that depends on the polar angle, in "component" normalization.

    .. math:: Y_{l,\pm m} = Q_{lm}(\beta) \begin{cases} \cos m\alpha \\ \sin m\alpha \end{cases}, \qquad
              Q_{lm} = \sqrt{(2 - \delta_{m0}) (2l+1) \tfrac{(l-m)!}{(l+m)!}} \; (-1)^m P_l^m(\cos\beta)

    with cos for m >= 0 and sin for negative orders. The factor (-1)^m cancels the Condon-Shortley phase of
    :math:`P_l^m`, which e3nn does not use.

    Args:
        polar: Angles from the pole (0, 1, 0) in radian, (B,).
        l_max: Largest degree.

    Returns:
        Tensor (l_max+1, B, l_max+1), indexed by m, point and l, float64; zero for l < m.

    Example:
        >>> polar_functions(torch.tensor([0.0]), 2)[0]  # at the pole: the square roots of 2l + 1
        tensor([[1.0000, 1.7321, 2.2361]], dtype=torch.float64)
    """
    values = sph_legendre_p_all(l_max, l_max, polar.double().numpy())[0]  # (l, m, point), orders -l_max.. at the end
    table = torch.from_numpy(values)[:, : l_max + 1].permute(1, 2, 0)
    m = torch.arange(l_max + 1)
    scale = torch.where(m > 0, 2.0, 1.0).double().mul(4 * torch.pi).sqrt() * (1 - 2 * (m % 2))
    return (table * scale[:, None, None]).contiguous()


def angular_harmonics(polar: Tensor, azimuth: Tensor, l_max: int) -> Tensor:
    r"""Harmonics up to any degree, from angles: ``harmonics`` of (sin b sin a, cos b, sin b cos a).

    Args:
        polar: Angles b from the pole (0, 1, 0) in radian, (N,).
        azimuth: Angles a about the pole, from z to x, in radian, (N,).
        l_max: Largest degree.

    Returns:
        Tensor (N, (l_max+1)^2), float64, in e3nn's order and "component" normalization.

    Example:
        >>> angular_harmonics(torch.tensor([0.5]), torch.tensor([1.0]), 30).square().sum().round()  # (l_max + 1)^2
        tensor(961., dtype=torch.float64)
    """
    Q = polar_functions(polar, l_max)  # (m, N, l)
    turns = torch.arange(l_max + 1, dtype=torch.float64)[:, None] * azimuth.double()
    cosines, sines = Q * turns.cos()[..., None], Q * turns.sin()[..., None]
    columns = [
        torch.cat([sines[1 : l + 1, :, l].flip(0), cosines[: l + 1, :, l]])  # orders -l..l
        for l in range(l_max + 1)
    ]
    return torch.cat(columns).T


def fixed_harmonics(points: Tensor, l_max: int) -> Tensor:
    """Harmonics of any degree at fixed points of the unit sphere, without gradients.

    They are e3nn's polynomials up to degree 11, and computed from angles beyond.

    Args:
        points: Unit vectors (N, 3).
        l_max: Largest degree.

    Returns:
        Tensor (N, (l_max+1)^2), float64, in the order and normalization of ``harmonics``.

    Example:
        >>> fixed_harmonics(torch.tensor([[0.0, 1.0, 0.0]]), 20).square().sum().round()
        tensor(441., dtype=torch.float64)
    """
    points = points.double()
    if l_max <= E3NN_L_MAX:
        return harmonics(points, l_max)
    x, y, z = points.unbind(1)
    return angular_harmonics(torch.atan2(torch.hypot(x, z), y), torch.atan2(x, z), l_max)
