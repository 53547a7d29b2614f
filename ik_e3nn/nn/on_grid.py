"""Apply modules for flat features at every point of a grid."""

from e3nn import o3
from torch import Tensor, nn


class OnGrid(nn.Module):
    r"""Apply a module for flat features (a norm, an activation, a linear layer) at every point of a grid.

    .. math:: y(x) = \mathrm{module}(f(x))

    Features in the memory format ``torch.channels_last`` are not copied, and the result has the same format.

    Args:
        module: Maps (N, irreps_in.dim) to (N, irreps_out.dim).

    Raises:
        TypeError: The module has no ``irreps_in`` or no ``irreps_out``.

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
            raise TypeError(f"a module on a grid must have irreps_in and irreps_out; {type(module).__name__} lacks one")
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
