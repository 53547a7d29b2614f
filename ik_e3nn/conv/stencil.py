"""The points at which a convolution on a grid samples its kernel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stencil:
    r"""The points of a cube that lie inside its inscribed ball.

    .. math:: \delta = d \, s \, (k - c), \quad k \in \{0, \dots, n-1\}^D, \; c = \tfrac{n-1}{2}, \qquad
              |\delta| \le d \, s \, \tfrac{n}{2}

    The mask is a ball because a cube is not invariant under all rotations. Grid axes are the coordinates x, y(, z) in
    this order; the points of a plane are (x, y, 0).

    Args:
        size: Number n of points along every axis. An even stencil has no point at its center.
        dims: Number D of axes, 2 or 3.
        dilation: Steps d of the grid from one point to the next.
        spacing: Distance s of neighboring points of the grid, in the units of the kernel (pixels, A, ...).

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> Stencil(3).vectors().shape, Stencil(5).vectors().shape, Stencil(5, dims=3).vectors().shape
        (torch.Size([9, 3]), torch.Size([21, 3]), torch.Size([81, 3]))
    """

    size: int = 5
    dims: int = 2
    dilation: int = 1
    spacing: float = 1.0

    def __post_init__(self) -> None:
        if self.dims not in (2, 3):
            raise ValueError(f"dims of a stencil must be 2 or 3; got {self.dims}")
        for name in ("size", "dilation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a stencil must be 1 or more; got {getattr(self, name)}")
        if not self.spacing > 0:
            raise ValueError(f"spacing of a stencil must be positive; got {self.spacing}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along every axis, (n, n) or (n, n, n)."""
        return (self.size,) * self.dims

    @property
    def extent(self) -> int:
        """Number of grid points that the stencil covers along an axis."""
        return self.dilation * (self.size - 1) + 1

    @property
    def reach(self) -> float:
        """Radius of the mask, in the units of the kernel."""
        return self.dilation * self.spacing * self.size / 2

    def places(self) -> Tensor:
        """Indices, in the flattened cube, of the points inside the mask, (P,)."""
        inside = self._steps().square().sum(1) <= (self.size / 2) ** 2
        return inside.nonzero().squeeze(1)

    def vectors(self) -> Tensor:
        """Edge vectors from the points inside the mask to the center, (P, 3), float64.

        Like all edge vectors they point from the sender to the receiver: minus the displacement of the point.
        """
        steps = self._steps()[self.places()]
        flat = torch.nn.functional.pad(steps, (0, 3 - self.dims))
        return -self.dilation * self.spacing * flat

    def padding(self, stride: int) -> int:
        """Number of zeros on both sides of an axis for which N points give N / stride, up to rounding."""
        return max((self.extent - stride + 1) // 2, 0)

    def check(self, grid: Sequence[int], stride: int, padding: int, *, symmetric: bool) -> None:
        """Raise an error unless a strided stencil fits on a grid.

        Args:
            grid: Points along every axis.
            stride: Steps of the grid from one result to the next.
            padding: Zeros on both sides of every axis.
            symmetric: Whether the results must lie symmetrically on the grid, as equivariance requires.

        Raises:
            ValueError: The grid is too small, or the results do not lie symmetrically on it.
        """
        for points in grid:
            rest = points + 2 * padding - self.extent
            if rest < 0:
                raise ValueError(
                    f"a stencil of {self.extent} points does not fit on a grid of {points} with {padding} zeros on "
                    "both sides; use more padding or a smaller stencil"
                )
            if symmetric and rest % stride:
                raise ValueError(
                    f"on {points} points with {padding} zeros on both sides, a stencil of {self.extent} with stride "
                    f"{stride} leaves out {rest % stride} on one side only, which breaks equivariance under rotations "
                    f"and mirrors; for stride 2 use an {'odd' if points % 2 else 'even'} stencil, or pad the grid"
                )

    def _steps(self) -> Tensor:
        """Displacements of all points of the cube from its center, in steps of the stencil, (n^D, D), float64."""
        ticks = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        return torch.cartesian_prod(*[ticks] * self.dims)
