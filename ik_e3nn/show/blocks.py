"""One block of a kernel on a plane: a map, arrows, tensor glyphs, or all components."""

from math import ceil

import torch
from e3nn import o3
from matplotlib.axes import Axes
from torch import Tensor

from ik_e3nn.arrays import FloatArray
from ik_e3nn.show.plane import AXES, Plane

COLORS = "RdBu_r"  # red is positive, as for the axes of tensors
EVERY = 6  # a glyph at every sixth point
LONGEST = 0.7  # of the scale; longer glyphs are shortened to this, so that a few at the center do not hide the others


def draw_block(axes: Axes, values: Tensor, plane: Plane, *, scale: float | None = None) -> None:
    """Draw the kernel from one field to another.

    A kernel between scalars is drawn in color; a vector as arrows in the plane and color for the component across;
    l = 2 as the principal axes of the symmetric tensor in the plane, red for positive ones, and color for its component
    across; all others as a map for every component.

    Args:
        axes: The axes to draw in.
        values: (points, points, 2 l_out + 1, 2 l_in + 1), on the plane's points.
        plane: The plane.
        scale: Value of the strongest color; ``color_scale`` of the values if absent.

    Example:
        >>> from matplotlib.figure import Figure
        >>> draw_block(Figure().subplots(), torch.randn(31, 31, 3, 1), Plane(points=31))
    """
    values = values.double()
    scale = color_scale(values) if scale is None else scale
    if min(values.shape[2:]) > 1 or max(values.shape[2:]) > 5:
        _draw_components(axes, values, plane, scale)
        return
    fields = values.flatten(2)
    draw = {1: _draw_map, 3: _draw_arrows, 5: _draw_tensors}[fields.shape[2]]
    draw(axes, fields, plane, scale)


def color_scale(values: Tensor) -> float:
    """Value of the strongest color: exceeded by a fiftieth of the values, so that a peak does not hide the rest."""
    sizes = values.abs().flatten().sort().values
    return max(float(sizes[int(0.98 * (len(sizes) - 1))]), 0.1 * float(sizes[-1])) or 1.0


def _draw_map(axes: Axes, fields: Tensor, plane: Plane, scale: float) -> None:
    _image(axes, fields[..., 0], plane, scale)


def _draw_arrows(axes: Axes, fields: Tensor, plane: Plane, scale: float) -> None:
    a, b, c = plane.across
    _image(axes, fields[..., c], plane, scale)
    ticks, (u, v) = _ticks(plane), (_thinned(fields[..., k]) for k in (a, b))
    size = LONGEST * scale
    shorter = size / torch.hypot(u, v).clamp(min=size)
    axes.quiver(
        ticks,
        ticks,
        (u * shorter).numpy(),
        (v * shorter).numpy(),
        width=0.006,
        scale=1.1 * size * len(ticks),
        minlength=0.1,
        pivot="mid",
    )


def _draw_tensors(axes: Axes, fields: Tensor, plane: Plane, scale: float) -> None:
    coupling = 5**0.5 * o3.wigner_3j(1, 1, 2, dtype=torch.float64)  # gives tensors of the same norm
    tensors = torch.einsum("ijm,yxm->yxij", coupling, fields)
    a, b, c = plane.across
    _image(axes, tensors[..., c, c], plane, scale)
    inside = torch.stack([_thinned(tensors[..., i, j]) for i in (a, b) for j in (a, b)], -1).unflatten(-1, (2, 2))
    sizes, directions = torch.linalg.eigh(inside)
    limit, ticks = LONGEST * scale, _ticks(plane)
    for k in range(2):
        line = (directions[..., k] * sizes[..., k : k + 1].abs().clamp(max=limit) / limit).numpy()
        colors = ["tab:red" if s > 0 else "tab:blue" for s in sizes[..., k].flatten().tolist()]
        axes.quiver(
            ticks, ticks, line[..., 0], line[..., 1], color=colors, pivot="mid", width=0.006, units="width",
            headwidth=0, headlength=0, headaxislength=0, scale=1.3 * len(ticks),
        )  # fmt: skip


def _draw_components(axes: Axes, values: Tensor, plane: Plane, scale: float) -> None:
    """Draw a small map for every component, with rows for the output; a single long row or column is wrapped."""
    points, rows, columns = values.shape[0], values.shape[2], values.shape[3]
    name = f"{rows} x {columns} components"
    maps = values.permute(2, 3, 0, 1)
    if min(rows, columns) == 1:
        count = rows * columns
        name, columns = f"{count} components", ceil(count**0.5)
        rows = ceil(count / columns)
        missing = maps.new_full((rows * columns - count, points, points), torch.nan)
        maps = torch.cat([maps.flatten(0, 1), missing]).unflatten(0, (rows, columns))
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), value=float("nan"))
    tiles = padded.flip(0).permute(0, 2, 1, 3).reshape(rows * (points + 2), columns * (points + 2))
    axes.imshow(tiles.numpy(), origin="lower", cmap=COLORS, vmin=-scale, vmax=scale)
    axes.set(xticks=[], yticks=[], xlabel=f"{name}\nover {plane.axes}")


def _image(axes: Axes, values: Tensor, plane: Plane, scale: float) -> None:
    extent = (-plane.reach, plane.reach) * 2
    axes.imshow(values.numpy(), origin="lower", extent=extent, cmap=COLORS, vmin=-scale, vmax=scale)
    a, b, _ = plane.across
    axes.set(xlabel=f"{AXES[a]} (Å)", ylabel=f"{AXES[b]} (Å)")


def _thinned(values: Tensor) -> Tensor:
    return values[EVERY // 2 :: EVERY, EVERY // 2 :: EVERY]


def _ticks(plane: Plane) -> FloatArray:
    return plane.ticks()[EVERY // 2 :: EVERY].numpy()
