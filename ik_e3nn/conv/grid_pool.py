"""Pooling of dense fields that keeps their equivariance."""

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv.grid import CONVOLUTIONS
from ik_e3nn.conv.stencil import Stencil


class GridPool(ExactModule):
    r"""Blur fields with a Gaussian and keep every stride-th point.

    .. math:: y(x) = \sum_\delta w(|\delta|) \, f(x + \delta), \qquad
              w(r) \propto \exp(-\tfrac12 r^2/\sigma^2), \quad \textstyle\sum_\delta w = 1

    All components have the same weights, which commutes with every rotation. The blur prevents aliasing: it removes
    detail that the coarser grid cannot resolve.

    Args:
        irreps: Type of the fields.
        stencil: Points at which the Gaussian is sampled; a width of 2 (stride) points gives N / stride points for
            every even N.
        stride: Steps of the grid from one result to the next.
        sigma: Width of the Gaussian in steps of the grid; by default half of the stride.
        padding: Zeros on both sides of every axis; by default ``stencil.padding(stride)``.

    Raises:
        ValueError: The stride, sigma or padding is out of range.

    Example:
        >>> GridPool("2x0e + 1o")(torch.randn(3, 5, 12, 12)).shape
        torch.Size([3, 5, 6, 6])
    """

    gaussian: Tensor

    def __init__(
        self,
        irreps: o3.Irreps | str,
        *,
        stencil: Stencil = Stencil(4),  # noqa: B008  (frozen)
        stride: int = 2,
        sigma: float | None = None,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = o3.Irreps(irreps)
        self.dim = self.irreps_in.dim
        self.stencil, self.stride = stencil, stride
        self.sigma = 0.5 * stride if sigma is None else sigma
        self.padding = stencil.padding(stride) if padding is None else padding
        if stride < 1 or not self.sigma > 0 or self.padding < 0:
            raise ValueError(
                f"pooling needs a stride of 1 or more, a positive sigma and a padding of 0 or more; got {stride}, "
                f"{self.sigma} and {self.padding}"
            )
        steps = stencil.vectors() / stencil.spacing
        values = torch.exp(-0.5 * steps.square().sum(1) / self.sigma**2)
        cube = torch.zeros(stencil.size**stencil.dims, dtype=torch.float64)
        cube[stencil.places()] = values / values.sum()
        self.register_exact("gaussian", cube.view(1, 1, *stencil.shape))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, irreps.dim, *grid) to (B, irreps.dim, *coarser grid)."""
        if features.ndim != self.stencil.dims + 2 or features.shape[1] != self.dim:
            axes = ", ".join("XYZ"[: self.stencil.dims])
            raise ValueError(
                f"features must have shape (B, {self.dim}, {axes}) for {self.irreps_in}; got {tuple(features.shape)}"
            )
        self.stencil.check(features.shape[2:], self.stride, self.padding, symmetric=True)
        options = (self.stride, self.padding, self.stencil.dilation)
        pooled = CONVOLUTIONS[self.stencil.dims](features.flatten(0, 1)[:, None], self.gaussian, None, *options)
        return pooled.squeeze(1).unflatten(0, features.shape[:2])
