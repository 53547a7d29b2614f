"""Modules of single points, at every point of a grid."""

from e3nn import o3
from torch import Tensor, nn


class OnGrid(nn.Module):
    r"""Apply a module of flat features to every point of a grid: norms, activations, linear layers.

    .. math:: y(x) = \mathrm{module}(f(x))

    Where the features lie in memory point by point (``torch.channels_last``), nothing is copied, and so the result
    lies.

    Args:
        module: Maps (N, irreps_in.dim) to (N, irreps_out.dim).

    Raises:
        TypeError: The module does not say its types.

    Example:
        >>> import torch
        >>> from ik_e3nn.nn import Gate
        >>> gate = OnGrid(Gate("4x0e + 2x1o"))
        >>> gate(torch.randn(3, 12, 8, 8)).shape
        torch.Size([3, 10, 8, 8])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not hasattr(module, "irreps_in") or not hasattr(module, "irreps_out"):
            raise TypeError(f"a module on a grid must have irreps_in and irreps_out; {type(module).__name__} has not")
        self.module = module
        self.irreps_in, self.irreps_out = o3.Irreps(module.irreps_in), o3.Irreps(module.irreps_out)
        self.dim_in, self.dim_out = self.irreps_in.dim, self.irreps_out.dim

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, irreps_in.dim, *grid) to (B, irreps_out.dim, *grid)."""
        if features.ndim < 3 or features.shape[1] != self.dim_in:
            raise ValueError(
                f"features must have shape (B, {self.dim_in}, grid...) for {self.irreps_in}; "
                f"got {tuple(features.shape)}"
            )
        points = features.movedim(1, -1)
        result: Tensor = self.module(points.flatten(0, -2))
        return result.reshape(*points.shape[:-1], self.dim_out).movedim(-1, 1)
