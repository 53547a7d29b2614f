"""Functions of the distance: radial bases and smooth windows."""

import math

import torch
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule


def smooth_envelope(x: Tensor) -> Tensor:
    r"""Polynomial window on [0, 1]: it is 1 at 0, and from 1 on it and its first two derivatives are 0.

    .. math:: u(x) = 1 - 28 x^6 + 48 x^7 - 21 x^8

    Args:
        x: Distance divided by r_max, any shape.

    Returns:
        Tensor of the same shape.

    Reference:
        Gasteiger et al., Directional Message Passing for Molecular Graphs, ICLR 2020, eq. 8 with p = 6.

    Example:
        >>> smooth_envelope(torch.tensor([0.0, 1.0, 2.0]))
        tensor([1., 0., 0.])
    """
    inside = x < 1
    x = torch.where(inside, x, 0.0)
    return torch.where(inside, 1 + x**6 * (-28 + x * (48 - 21 * x)), 0.0)


class BesselBasis(ExactModule):
    r"""Sine waves that vanish at r_max, scaled to unit second moment.

    .. math:: b_n(r) = \sqrt{2}\, \frac{\sin(n \pi r / r_{max})}{r / r_{max}} \bigg/ \sqrt{w_n}

    with :math:`w_n` such that the mean of :math:`b_n^2` over r uniform in (0, r_max) is 1.

    Args:
        r_max: Cutoff (A).
        num_basis: Number of functions.

    Reference:
        Gasteiger et al., ICLR 2020, eq. 7.

    Example:
        >>> BesselBasis(5.0, 8)(torch.rand(10, 1)).shape
        torch.Size([10, 8])
    """

    frequencies: Tensor
    amplitudes: Tensor

    def __init__(self, r_max: float, num_basis: int = 8) -> None:
        super().__init__()
        positive("r_max", r_max)
        positive("num_basis", num_basis)
        self.r_max = float(r_max)
        self.num_basis = num_basis
        x = (torch.arange(4096, dtype=torch.float64) + 0.5)[:, None] / 4096
        frequencies = math.pi * torch.arange(1, num_basis + 1, dtype=torch.float64)
        moments = (torch.sin(frequencies * x) / x).square().mean(0)
        self.register_exact("frequencies", frequencies / math.pi)
        self.register_exact("amplitudes", frequencies * moments.rsqrt())

    def forward(self, r: Tensor) -> Tensor:
        """Values (..., num_basis) at distances r (..., 1); finite at r = 0."""
        phase = math.pi * r / self.r_max * self.frequencies
        zero = phase == 0
        # not torch.sinc: its second derivative at 0 is NaN
        return torch.where(zero, 1.0, torch.sin(phase) / torch.where(zero, 1.0, phase)) * self.amplitudes


class GaussianBasis(ExactModule):
    r"""Gaussians on equidistant centers, scaled to unit second moment on average.

    .. math:: b_n(r) = c \exp\left(-\tfrac12 (r - r_n)^2 / \Delta^2\right), \qquad r_n = n \Delta, \; n = 0..N-1

    Args:
        r_max: Position of the last center (A).
        num_basis: Number of functions, at least 2.

    Example:
        >>> GaussianBasis(5.0, 8)(torch.rand(10, 1)).shape
        torch.Size([10, 8])
    """

    centers: Tensor

    def __init__(self, r_max: float, num_basis: int = 8) -> None:
        super().__init__()
        positive("r_max", r_max)
        if num_basis < 2:
            raise ValueError(f"num_basis of a Gaussian basis must be at least 2; got {num_basis}")
        self.r_max = float(r_max)
        self.num_basis = num_basis
        self.spacing = r_max / (num_basis - 1)
        self.register_exact("centers", torch.linspace(0, r_max, num_basis, dtype=torch.float64))

    def forward(self, r: Tensor) -> Tensor:
        """Values (..., num_basis) at distances r (..., 1)."""
        # mean over r of exp(-t^2) is sqrt(pi) spacing / r_max for an inner center
        norm = (math.sqrt(math.pi) * self.spacing / self.r_max) ** -0.5
        return torch.exp(-0.5 * ((r - self.centers) / self.spacing) ** 2) * norm


class BondBasis(ExactModule):
    r"""A constant and Gaussians on equidistant centers on the scale of covalent bonds, scaled to unit second moment.

    .. math:: b_0(r) = 1, \qquad b_n(r) = c \exp\left(-\tfrac12 (r - r_n)^2 / \Delta^2\right), \qquad
              r_n = r_1 + (n - 1) \Delta, \; n = 1..N

    The centers are from 0.7 A, below the shortest bond (that of H2), to 2.3 A. Longer bonds see the constant alone.
    Bonds have no cutoff: ``r_max`` is infinite, and the smooth envelope of a kernel is 1 everywhere.

    Args:
        num_windows: Number of Gaussians N, at least 2.

    Example:
        >>> basis = BondBasis(33)
        >>> basis.num_basis, round(basis.spacing, 3), basis(torch.tensor([[1.54]])).shape
        (34, 0.05, torch.Size([1, 34]))
    """

    r_max = math.inf
    first, last = 0.7, 2.3
    centers: Tensor

    def __init__(self, num_windows: int = 33) -> None:
        super().__init__()
        if num_windows < 2:
            raise ValueError(f"num_windows of a basis of bonds must be at least 2; got {num_windows}")
        self.num_basis = num_windows + 1
        self.spacing = (self.last - self.first) / (num_windows - 1)
        self.register_exact("centers", torch.linspace(self.first, self.last, num_windows, dtype=torch.float64))

    def forward(self, r: Tensor) -> Tensor:
        """Values (..., num_basis) at distances r (..., 1)."""
        # the sum of exp(-t^2) over equidistant centers is sqrt(pi)
        norm = (math.sqrt(math.pi) / (self.num_basis - 1)) ** -0.5
        return torch.cat([torch.ones_like(r), torch.exp(-0.5 * ((r - self.centers) / self.spacing) ** 2) * norm], -1)


class GaussianShell(nn.Module):
    r"""A Gaussian radial window of learnable width, as in the paper.

    .. math:: \phi(r) = \exp\left(-\tfrac12 |r|^2 / \sigma^2\right)

    Args:
        sigma: Initial width (A).

    Reference:
        Zhdanov et al., NeurIPS 2023, appendix B.1.

    Example:
        >>> GaussianShell(2.0)(torch.zeros(1, 1)).item()
        1.0
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        positive("sigma", sigma)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def forward(self, r: Tensor) -> Tensor:
        """Values (..., 1) at distances r (..., 1)."""
        return torch.exp(-0.5 * r.square() * torch.exp(-2 * self.log_sigma))


def positive(name: str, value: float) -> None:
    """Raise ValueError unless a parameter is positive."""
    if not value > 0:
        raise ValueError(f"{name} must be positive; got {value}")
