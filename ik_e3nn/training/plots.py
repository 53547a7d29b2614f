"""Pictures of a run: loss curves, and predicted against reference values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ik_e3nn.atomic import written_at_once

_AXES = {
    "energy": ("energy less the mean (eV/atom)", 1000.0, "meV/atom"),
    "forces": ("force component (eV/A)", 1000.0, "meV/A"),
    "stress": ("stress component (eV/A$^3$)", 1000.0, "meV/A$^3$"),
}

_FEW = 2000  # points that small marks would hardly show
_SHOWN = ("valid/force_mae_meV_per_A", "valid/energy_mae_meV_per_atom", "valid/stress_mae_meV_per_A3")


def plot_loss(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Losses and force errors over the epochs.

    Args:
        rows: One mapping an epoch, as in `metrics.jsonl`.
        path: PNG file to write.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
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
        # below the axes, so that it never lies over a curve
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
    save_figure(figure, path)


def plot_parity(
    label: str, reference: NDArray[Any], predicted: NDArray[Any], path: Path, *, unit: str | None = None
) -> None:
    """Predicted against reference values of one label.

    Args:
        label: "energy" (eV/atom, less the mean), "forces" (eV/A) or "stress" (eV/A^3), or a property with ``unit``.
        reference: Reference values, any shape.
        predicted: Predicted values of that shape.
        path: PNG file to write.
        unit: Unit of a property.
    """
    title, scale, shown = _AXES[label] if unit is None else (with_unit(label, unit), 1.0, unit)
    reference, predicted = np.ravel(reference), np.ravel(predicted)
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    size, opacity = (6, 0.8) if len(reference) < _FEW else (3, 0.5)
    axes.plot(reference, predicted, ".", markersize=size, alpha=opacity, markeredgewidth=0, rasterized=True)
    ends = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    error = scale * (predicted - reference)
    mae, rmse = np.abs(error).mean(), np.sqrt(np.square(error).mean())
    errors = f"MAE {mae:.3g}, RMSE {rmse:.3g} {shown}".rstrip()
    axes.set(xlabel=f"reference {title}", ylabel=f"predicted {title}", title=f"{label}: {errors}")
    axes.set_aspect("equal", adjustable="datalim")
    save_figure(figure, path)


def with_unit(name: str, unit: str) -> str:
    """What stands on an axis; numbers without a unit have no brackets.

    >>> with_unit("gap", "eV"), with_unit("gap", "")
    ('gap (eV)', 'gap')
    """
    return f"{name} ({unit})" if unit else name


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in one step."""
    with written_at_once(path) as file:
        figure.savefig(file, dpi=150, format="png")
