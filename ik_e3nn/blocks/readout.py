"""Map node features to one number per node."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.nn import EquivariantLinear, ScalarMLP
from ik_e3nn.symmetry import SymmetryGroup


class Readout(nn.Module):
    r"""Compute a G-invariant number for each node: a small MLP of the G-scalars of its features.

    .. math:: \epsilon_i = \mathrm{MLP}(L_{0e} \, x_i)

    Args:
        irreps_in: Type of the node features.
        group: The symmetry group G, or its name.
        hidden: Size of the MLP's hidden layer.

    Example:
        >>> Readout("8x0e + 8x1o", "C4v")(torch.randn(5, 32)).shape
        torch.Size([5])
    """

    def __init__(self, irreps_in: o3.Irreps | str, group: SymmetryGroup | str = "O3", *, hidden: int = 16) -> None:
        super().__init__()
        self.scalars = EquivariantLinear(irreps_in, o3.Irreps([(hidden, "0e")]), group)
        self.mlp = ScalarMLP([hidden, 1])

    def forward(self, features: Tensor) -> Tensor:
        """Numbers (N,) from features (N, irreps_in.dim)."""
        return self.mlp(self.hidden(features)).squeeze(-1)

    def hidden(self, features: Tensor) -> Tensor:
        """Input of the MLP, (N, hidden)."""
        return torch.nn.functional.silu(self.scalars(features))
