"""A plane through space on which kernels are drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ik_e3nn.errors import ConfigError

AXES = "xyz"


@dataclass(frozen=True)
class Plane:
    """A square of points in a plane normal to one of the axes.

    Args:
        axes: Its horizontal and vertical axis: "xy", "xz", "yz", ...
        height: Coordinate (A) along the third axis.
        reach: Half of the square's side (A).
        points: Points along a side.

    Raises:
        ConfigError: The axes are not two different letters of x, y, z.

    Example:
        >>> Plane("xz", height=0.5, points=3).positions()[0, 0]
        tensor([-3.0000,  0.5000, -3.0000], dtype=torch.float64)
    """

    axes: str = "xy"
    height: float = 0.0
    reach: float = 3.0
    points: int = 61

    def __post_init__(self) -> None:
        if len(set(self.axes)) != 2 or not set(self.axes) <= set(AXES) or len(self.axes) != 2:
            raise ConfigError(f"a plane is named by its two axes, such as xy or xz; got {self.axes!r}")

    @property
    def across(self) -> tuple[int, int, int]:
        """Indices of the horizontal axis, of the vertical axis, and of the normal."""
        a, b = (AXES.index(name) for name in self.axes)
        return a, b, 3 - a - b

    @property
    def place(self) -> str:
        """The position along the third axis, as text.

        >>> Plane("xz", height=0.5).place
        'y = 0.5 Å'
        """
        return f"{AXES[self.across[2]]} = {self.height:g} Å"

    def ticks(self) -> Tensor:
        """Coordinates along a side, (points,), float64."""
        return torch.linspace(-self.reach, self.reach, self.points, dtype=torch.float64)

    def positions(self) -> Tensor:
        """All points, (points, points, 3), rows along the vertical axis."""
        vertical, horizontal = torch.meshgrid(self.ticks(), self.ticks(), indexing="ij")
        a, b, _ = self.across
        result = torch.full((*vertical.shape, 3), self.height, dtype=torch.float64)
        result[..., a], result[..., b] = horizontal, vertical
        return result
