"""Figures of kernels, made of blocks."""

from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ik_e3nn.pictures import WIDTH, style
from ik_e3nn.show.blocks import COLORS, color_scale, draw_block
from ik_e3nn.show.plane import Plane
from ik_e3nn.show.subject import ShownKernel
from ik_e3nn.show.turning import inside, outside, rotation_error, turned

MOST_ON_SPHERE = 9  # components drawn on the sphere


@style()
def slices_figure(kernel: ShownKernel, plane: Plane, case: int = 0) -> Figure:
    """Every block on a plane: rows are types of the output, columns types of the input."""
    outs, ins = len(kernel.irreps_out), len(kernel.irreps_in)
    panel = _panel(ins)
    figure = Figure(figsize=(panel * ins + 0.3, 0.95 * panel * outs + 0.6), layout="constrained")
    axes = figure.subplots(outs, ins, squeeze=False)
    K = _on(kernel, plane, case)
    for i, (_, ir_out) in enumerate(kernel.irreps_out):
        for j, (_, ir_in) in enumerate(kernel.irreps_in):
            block = kernel.block(K, i, j)
            draw_block(axes[i, j], block, plane)
            axes[i, j].set_title(f"{ir_in} to {ir_out}, {_scale(color_scale(block))}")
    _set_title(figure, kernel, case, at=plane.place)
    return figure


@style()
def cases_figure(kernel: ShownKernel, plane: Plane) -> Figure:
    """The kernel for different attributes: a column for every case, with one color scale for each row."""
    blocks = [(i, j) for j in range(len(kernel.irreps_in)) for i in range(len(kernel.irreps_out))][:4]
    count = len(kernel.cases)
    panel = _panel(count)
    figure = Figure(figsize=(panel * count + 0.3, panel * len(blocks) + 0.6), layout="constrained")
    axes = figure.subplots(len(blocks), count, squeeze=False)
    values = [_on(kernel, plane, case) for case in range(count)]
    for row, (i, j) in enumerate(blocks):
        scale = max(color_scale(kernel.block(K, i, j)) for K in values)
        for column, K in enumerate(values):
            draw_block(axes[row, column], kernel.block(K, i, j), plane, scale=scale)
            axes[row, column].set_ylabel(axes[row, column].get_ylabel() if column == 0 else "")
            if row == 0:
                axes[row, column].set_title(kernel.cases[column])
        label = f"{kernel.irreps_in[j].ir} to {kernel.irreps_out[i].ir}"
        axes[row, 0].set_ylabel(f"{label}, {_scale(scale)}\n{axes[row, 0].get_ylabel()}")
    _set_title(figure, kernel, at=plane.place)
    return figure


@style()
def sphere_figure(kernel: ShownKernel, radius: float, case: int = 0) -> Figure:
    """Components of the kernel as colors on a sphere around the center."""
    names = _component_names(kernel)[:MOST_ON_SPHERE]
    polar, around = np.meshgrid(np.linspace(0, np.pi, 31), np.linspace(0, 2 * np.pi, 61), indexing="ij")
    x, y, z = np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)
    points = torch.from_numpy(np.stack([x, y, z], -1)).reshape(-1, 3)
    K = kernel.matrix(radius * points, case, None)
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    panel = _panel(columns)
    figure = Figure(figsize=(panel * columns + 0.3, panel * rows + 0.6), layout="constrained")
    for k, (name, i, j) in enumerate(names):
        axes: Any = figure.add_subplot(rows, columns, k + 1, projection="3d")
        values = K[:, i, j].reshape(x.shape).numpy()
        scale = max(float(np.abs(values).max()), 1e-12)
        colors = mpl.colormaps[COLORS](0.5 + 0.5 * values / scale)
        axes.plot_surface(x, y, z, facecolors=colors, rstride=1, cstride=1, shade=False, linewidth=0, antialiased=False)
        axes.set_box_aspect((1, 1, 1), zoom=1.5)
        axes.set_axis_off()
        axes.set_title(f"{name}, {_scale(scale)}")
    _set_title(figure, kernel, case, at=f"|r| = {radius:.2g} Å, z up")
    return figure


@style()
def rotation_figure(kernel: ShownKernel, plane: Plane, case: int = 0) -> tuple[Figure, dict[str, float]]:
    """Rotating the attributes rotates the kernel for an element of the group, but not for other rotations.

    Returns:
        The figure, and the largest relative error for an element "inside" of the group, and "outside" if there is one.
    """
    elements = {"inside": inside(kernel.group), "outside": outside(kernel.group)}
    rows = {name: g for name, g in elements.items() if g is not None}
    errors = {name: rotation_error(kernel, g, case) for name, g in rows.items()}
    titles = ("K(r, a)", "K(r, g a)", "the kernel turned: (g K)(r)", "difference")
    figure = Figure(figsize=(WIDTH, 1.75 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    i = max(range(len(kernel.irreps_out)), key=lambda k: kernel.irreps_out[k].ir.l == 1)  # arrows show a rotation best
    points = plane.positions().reshape(-1, 3)
    for row, (name, g) in enumerate(rows.items()):
        first, second = kernel.matrix(points, case, None), kernel.matrix(points, case, g)
        third = turned(kernel, points, g, case)
        scale = color_scale(kernel.block(first, i, 0))
        for column, K in enumerate((first, second, third, third - second)):
            block = kernel.block(K, i, 0).unflatten(0, (plane.points, plane.points))
            draw_block(axes[row, column], block, plane, scale=scale)
            axes[row, column].set_ylabel(axes[row, column].get_ylabel() if column == 0 else "")
            axes[row, column].set_title(titles[column] if row == 0 else "")
        label = f"g {name} of {kernel.group.name}\nrelative error {errors[name]:.1e}"
        axes[row, 0].set_ylabel(f"{label}\n{axes[row, 0].get_ylabel()}")
    block_name = f"{kernel.irreps_in[0].ir} to {kernel.irreps_out[i].ir}, {_scale(scale)}"
    _set_title(figure, kernel, case, at=f"{plane.place}, {block_name}")
    return figure, errors


def _panel(columns: int) -> float:
    """Width of a panel (inches): the columns fill a page, within limits that suit the text."""
    return min(max((WIDTH - 0.3) / columns, 1.4), 3.1)


def _on(kernel: ShownKernel, plane: Plane, case: int) -> Tensor:
    K = kernel.matrix(plane.positions().reshape(-1, 3), case, None)
    return K.unflatten(0, (plane.points, plane.points))


def _set_title(figure: Figure, kernel: ShownKernel, case: int | None = None, *, at: str) -> None:
    """Set the title: the group of the kernel, the place, and the meaning of the colors."""
    name = kernel.cases[case] if case is not None else ""
    what = f"kernel of {kernel.group.name}, {name}" if name else f"kernel of {kernel.group.name}"
    figure.suptitle(f"{what}\n{at}\nred: positive, blue: negative")


def _scale(strongest: float) -> str:
    """The values of the strongest colors."""
    return f"±{strongest:.2g}"


def _component_names(kernel: ShownKernel) -> list[tuple[str, int, int]]:
    """Name, row and column of every component."""
    sides = []
    for irreps in (kernel.irreps_out, kernel.irreps_in):
        names = ["xyz" if ir.l == 1 else [f"({m + 1})" if ir.l else "" for m in range(ir.dim)] for _, ir in irreps]
        sides.append([f"{ir} {n}".strip() for (_, ir), block in zip(irreps, names, strict=True) for n in block])
    return [(f"{into} to {out}", i, j) for j, into in enumerate(sides[1]) for i, out in enumerate(sides[0])]
