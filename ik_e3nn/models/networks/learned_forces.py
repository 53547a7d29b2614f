"""Pair and external forces of a group, learned."""

import math

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis.edge import PolynomialBasis
from ik_e3nn.constants import ExactModule
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.models.networks.moments import bounded
from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup

SIZE = 0.1  # of pair forces over displacements: weights then change slowly beside those of other layers
WIDEST = 12.0  # ratio of the widths of hidden units of external forces: forces may have kinks
REACH = 4.0  # initial width of the Gaussian window of the kernel, in the unit of the positions


class PairForces(ExactModule):
    r"""Pair forces :math:`F_{ij} = K_{ij} (x_j - x_i)` from an implicit kernel.

    .. math:: K_{ij} = \sigma(w \cdot a_{ij}) \; L \big( h(r_{ij}, a_{ij}) + h(-r_{ij}, a_{ij}) \big)

    The filter fields h of an implicit kernel, whose attributes are the scalars a of the pair, are mapped to a symmetric
    matrix by the G-linear map L. As :math:`K_{ij} = K_{ji}`, forces are opposite, and they have a potential as long as
    K is held.

    Args:
        num_attributes: Number of scalars a of a pair.
        group: The group G.
        fields: Number of filter fields of every degree.

    Attributes:
        symmetric: Symmetric matrices (6, 3, 3) from "0e + 2e".

    Reference:
        Zhdanov et al., NeurIPS 2023, sections 3.1-3.3.

    Example:
        >>> PairForces(8, SymmetryGroup("Cinfv"))(torch.randn(4, 10, 3), torch.randn(4, 10, 8)).shape
        torch.Size([4, 10, 3, 3])
    """

    symmetric: Tensor

    def __init__(self, num_attributes: int, group: SymmetryGroup, *, fields: int = 4) -> None:
        super().__init__()
        filters = o3.Irreps(f"{fields}x0e + {fields}x1o + {fields}x2e")
        self.strength = nn.Linear(num_attributes, 1)
        self.kernel = ImplicitKernel(
            f"{num_attributes}x0e", filters, group, basis=PolynomialBasis(2, sigma=REACH), depth=1, activation="gate"
        )
        self.linear = EquivariantLinear(filters, "0e + 2e", group)
        with torch.no_grad():  # no force at first
            self.linear.weight.zero_()
        symmetric = torch.cat([o3.wigner_3j(1, 1, l, dtype=torch.float64) for l in (0, 2)], -1)
        self.register_exact("symmetric", symmetric.permute(2, 0, 1))

    def forward(self, vectors: Tensor, attributes: Tensor) -> Tensor:
        """Matrices K (B, P, 3, 3) from differences of positions (B, P, 3) and attributes (B, P, num_attributes)."""
        a = bounded(attributes)
        both = torch.stack([vectors, -vectors]).flatten(0, 2)
        h = self.kernel(both, a.expand(2, *a.shape).flatten(0, 2))
        numbers = SIZE * self.linear(h).view(2, *a.shape[:2], 6).sum(0) * torch.sigmoid(self.strength(a))
        return torch.einsum("bpk,kij->bpij", numbers, self.symmetric)


class ExternalForces(ExactModule):
    r"""The force on a particle from its place along the directions that a group leaves fixed.

    .. math:: F(x, s) = c \, \big( L_2 \, \mathrm{silu}(L_1 (P x, s)) + L_3 (P x, s) \big)

    with G-linear maps L and the projection P on fixed directions. A group without such directions has no such force.

    Args:
        num_scalars: Number of known scalars s of a particle.
        group: The group G.
        size: Typical acceleration c.
        hidden: Number of hidden scalars.
    """

    fixed: Tensor

    def __init__(self, num_scalars: int, group: SymmetryGroup, *, size: float = 1.0, hidden: int = 64) -> None:
        super().__init__()
        inputs, scalars = f"{num_scalars}x0e + 1o", f"{hidden}x0e"
        self.num_scalars, self.size = num_scalars, size
        fixed = group.invariants(1, -1)
        self.register_exact("fixed", fixed.T @ fixed)
        self.lift = EquivariantLinear(inputs, scalars, group, bias=True)
        self.push = EquivariantLinear(scalars, "1o", group, bias=True)
        self.slope = EquivariantLinear(inputs, "1o", group, bias=True)
        with torch.no_grad():  # no force at first
            self.push.weight.zero_()
            self.slope.weight.zero_()
            widths = torch.logspace(0, math.log10(WIDEST), hidden)
            sizes = [rows * columns for rows, columns in self.lift.weight_shapes()]
            for weight in self.lift.weight.split(sizes):
                weight.view(-1, hidden).mul_(widths)
            for bias in () if self.lift.bias is None else self.lift.bias.parameters():
                bias.copy_(widths * torch.randn(hidden))

    def forward(self, scalars: Tensor) -> dict[str, Tensor]:
        """All attributes of :class:`Forces` but ``coupling``, for scalars (B, N, num_scalars)."""
        lift, push, slope = (_affine(layer) for layer in (self.lift, self.push, self.slope))
        n = self.num_scalars
        return {
            "offset": scalars @ lift[1:][:n] + lift[0],
            "lift": self.fixed @ lift[1:][n:],
            "push": self.size * push[1:],
            "steady": self.size * (scalars @ slope[1:][:n] + slope[0] + push[0]),
            "slope": self.size * (self.fixed @ slope[1:][n:]),
        }


def _affine(layer: EquivariantLinear) -> Tensor:
    """The bias of a layer and, below it, its matrix: (1 + dim_in, dim_out)."""
    points = torch.eye(1 + layer.dim_in, dtype=layer.weight.dtype, device=layer.weight.device)[:, 1:]
    values = layer(points)
    return torch.cat([values[:1], values[1:] - values[:1]])
