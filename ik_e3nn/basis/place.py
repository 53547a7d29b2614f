"""Functions of the position of a point relative to its surroundings: a plane, a line or a site."""

import math

import torch
from torch import Tensor

from ik_e3nn.basis.harmonics import Harmonics, spherical_irreps
from ik_e3nn.basis.radial import positive
from ik_e3nn.constants import ExactModule

SOFTENING = 0.01  # A; keeps the distance smooth at zero


class PlaceBasis(ExactModule):
    r"""Radial shells of a displacement u times harmonics of its direction: bounded, smooth and zero far away.

    .. math:: f_{nlm}(u) &= c \, \frac{g^{\pm}_n(\rho)}{\rho^{s} \, (|u|^2 + \Delta^2)^{(l-s)/2}} \;
                            |u|^l Y_{lm}(u/|u|) \\
              g^{\pm}_n(\rho) &= e^{-(\rho - c_n)^2 / 2 \Delta^2} \pm e^{-(\rho + c_n)^2 / 2 \Delta^2}

    with :math:`\rho^2 = |u|^2 + \epsilon^2`, the plus sign and s = 0 for even l, the minus sign and s = 1 for odd l,
    and centers :math:`c_n = (n + 1/2) \Delta` up to the reach. On a line, the functions of l = 0 and l = 1 together
    span Gaussians on equidistant centers on both sides of zero, so that a map of them can distinguish the two sides.

    Args:
        reach: Distance (A) of the outermost shells; beyond it they fall off as Gaussians.
        num_basis: Number of shells.
        l_max: Largest degree.

    Raises:
        ValueError: ``reach`` or ``num_basis`` is not positive.

    Example:
        >>> basis = PlaceBasis(10.0, 16, l_max=1)
        >>> basis.irreps_out
        16x0e+16x1o
        >>> basis(torch.tensor([[0.0, 0.0, 2.5]])).shape
        torch.Size([1, 64])
    """

    centers: Tensor
    powers: Tensor
    shell: Tensor
    component: Tensor

    def __init__(self, reach: float, num_basis: int = 16, *, l_max: int = 1) -> None:
        super().__init__()
        positive("reach", reach)
        positive("num_basis", num_basis)
        self.reach, self.num_basis, self.l_max = float(reach), num_basis, l_max
        self.spacing = self.reach / num_basis
        self.irreps_out = spherical_irreps(l_max, num_basis)
        self.harmonics = Harmonics(l_max)
        degrees = torch.arange(l_max + 1).repeat_interleave(2 * torch.arange(l_max + 1) + 1)
        self.register_exact("powers", (degrees - degrees % 2).double())
        shells, components = [], []  # of every value: which of the even, then odd shells, and which harmonic
        for l in range(l_max + 1):
            shell = torch.arange(num_basis) + l % 2 * num_basis
            shells.append(shell.repeat_interleave(2 * l + 1))
            components.append(torch.arange(l * l, (l + 1) ** 2).repeat(num_basis))
        self.register_buffer("shell", torch.cat(shells), persistent=False)
        self.register_buffer("component", torch.cat(components), persistent=False)
        self.register_exact("centers", self.spacing * (torch.arange(num_basis, dtype=torch.float64) + 0.5))

    def forward(self, displacements: Tensor) -> Tensor:
        """Values (N, irreps_out.dim) at displacements (N, 3), in A."""
        square = displacements.square().sum(-1, keepdim=True)
        rho = (square + SOFTENING**2).sqrt()
        above, below = (torch.exp(-0.5 * ((rho - c) / self.spacing) ** 2) for c in (self.centers, -self.centers))
        # mean over rho of exp(-t^2) is sqrt(pi) spacing / reach for an inner center
        norm = (math.sqrt(math.pi) / self.num_basis) ** -0.5
        shells = norm * torch.cat([above + below, (above - below) / rho], 1)
        bounded = self.harmonics(displacements) * (square + self.spacing**2).rsqrt() ** self.powers
        return shells.index_select(1, self.shell) * bounded.index_select(1, self.component)
