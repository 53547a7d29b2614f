"""Pictures of a run: quantities over time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.pictures import picture

_FEW = 20  # with fewer points, each gets a marker


def plot_columns(
    path: Path,
    x: NDArray[np.float64],
    curves: Mapping[str, NDArray[np.float64]],
    *,
    title: str,
    labels: tuple[str, str],
    goal: float | None = None,
    log_scale: bool = False,
) -> None:
    """Draw curves over a common axis into a PNG file.

    Args:
        path: The file.
        x: Values of the horizontal axis.
        curves: Values of the vertical axis, by name.
        title: Title above the axes.
        labels: Labels of the two axes, with units.
        goal: A value of the vertical axis to mark with a line.
        log_scale: Whether the vertical axis is logarithmic.
    """
    marker = "." if len(x) < _FEW else ""
    with picture(path, height=4.0, width=6.4) as (figure, [[axes]]):
        for name, values in curves.items():
            axes.plot(x, values, label=name, linewidth=1.0, marker=marker)
        if goal is not None:
            axes.axhline(goal, color="0.4", linewidth=0.8, linestyle="--", label="goal")
        axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
        if log_scale:
            axes.set_yscale("log")
        if len(curves) > 1 or goal is not None:
            figure.legend(loc="outside lower center", ncols=4)  # below the axes, never over a curve
