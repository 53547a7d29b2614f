"""Pictures of a run: loss curves, and predictions against labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from ik_e3nn.pictures import picture
from ik_e3nn.targets import Target

_TICKS, _WIDE = 5, 50  # most ticks on an axis, and letters in a line beside it
_FEW = 2000  # fewer points are drawn larger, to be visible
_SHOWN = ("valid/force_mae_meV_per_A", "valid/energy_mae_meV_per_atom", "valid/stress_mae_meV_per_A3")


def plot_loss(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot losses and validation errors over the epochs.

    Args:
        rows: One mapping per epoch, as in ``metrics.jsonl``.
        path: PNG file to write.
    """
    with picture(path, 1, 2) as (_, [[left, right]]):
        epochs = [row["epoch"] for row in rows]
        for name in ("train/loss", "valid/loss"):
            left.plot(epochs, [row[name] for row in rows], label=name)
        left.set(xlabel="epoch", ylabel="loss", title="loss")
        shown = [name for name in _SHOWN if name in rows[0]]
        for name in shown or [name for name in rows[0] if name.startswith("valid/") and "_mae" in name]:
            right.plot(epochs, [row[name] for row in rows], label=name.removeprefix("valid/"))
        right.set(xlabel="epoch", ylabel="validation error", title="validation")
        for axes in (left, right):
            if all(line.get_ydata().min() > 0 for line in axes.lines):
                axes.set_yscale("log")
            axes.xaxis.set_major_locator(MaxNLocator(_TICKS, integer=True))
            # below the axes, so that it never lies over a curve
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2 if axes is left else 1)


def plot_parity(target: Target, reference: NDArray[Any], predicted: NDArray[Any], path: Path) -> None:
    """Plot predictions of one target against its labels.

    Args:
        target: The target.
        reference: Labels, of any shape.
        predicted: Predictions, of the same shape.
        path: PNG file to write.
    """
    name, unit, scale, shown = target.axis
    reference, predicted = np.ravel(reference), np.ravel(predicted)
    error = scale * (predicted - reference)
    mae, rmse = np.abs(error).mean(), np.sqrt(np.square(error).mean())
    power = power_of_ten(float(max(np.abs(reference).max(), np.abs(predicted).max())))
    reference, predicted = reference / 10.0**power, predicted / 10.0**power
    title = with_unit(name, f"$10^{{{power}}}$ {unit}".rstrip() if power else unit)
    with picture(path, width=4.4, height=4.4) as (_, [[axes]]):
        size, opacity = (6, 0.8) if len(reference) < _FEW else (3, 0.5)
        axes.plot(reference, predicted, ".", markersize=size, alpha=opacity, markeredgewidth=0, rasterized=True)
        ends = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
        axes.plot(ends, ends, color="black", linewidth=0.8)
        axes.set_title(f"{fill(target.name, _WIDE)}\nMAE {mae:.3g}, RMSE {rmse:.3g} {shown}".rstrip())
        axes.set_xlabel(fill(f"reference {title}", _WIDE))
        axes.set_ylabel(fill(f"predicted {title}", _WIDE))
        axes.set_aspect("equal", adjustable="datalim")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(_TICKS))
            axis.set_major_formatter(ScalarFormatter(useOffset=False))


def power_of_ten(largest: float) -> int:
    """The power of ten to factor out of very large or small values so that the ticks of an axis stay short; else 0.

    >>> power_of_ten(12.5), power_of_ten(0.0004), power_of_ten(3e7), power_of_ten(0.0)
    (0, -4, 7, 0)
    """
    power = floor(log10(largest)) if largest > 0 else 0
    return 0 if -2 <= power <= 5 else power


def with_unit(name: str, unit: str) -> str:
    """The label of an axis; the brackets are left out if there is no unit.

    >>> with_unit("gap", "eV"), with_unit("gap", "")
    ('gap (eV)', 'gap')
    """
    return f"{name} ({unit})" if unit else name
