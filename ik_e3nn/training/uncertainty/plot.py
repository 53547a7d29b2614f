"""The picture of a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.pictures import picture
from ik_e3nn.targets import Target
from ik_e3nn.training.inference.plots import with_unit

TITLES = {"energy": ("energy", 1000.0, "meV"), "forces": ("force components", 1000.0, "meV/A")}
"""Title, and factor and name of the unit in the plot, if it is not the unit of the target."""

FloatArray = NDArray[np.float64]


def plot_calibration(
    tested: Mapping[str, tuple[FloatArray, FloatArray]], targets: Sequence[Target], path: Path
) -> None:
    """Plot errors of groups of similar standard deviation, and the fraction of errors within multiples of it.

    Args:
        tested: Errors and standard deviations by target.
        targets: The targets.
        path: PNG file to write.
    """
    from scipy.special import erf

    with picture(path, len(tested), 2, height=3.1 * len(tested)) as (_, axes):
        for (left, right), target in zip(axes, targets, strict=True):
            error, std = tested[target.name]
            title, scale, unit = TITLES.get(target.kind, (target.name, 1.0, target.unit))
            predicted, found = grouped(scale * error, scale * std)
            left.plot(predicted, found, "o-")
            ends = [min(*predicted, *found), max(*predicted, *found)]
            left.plot(ends, ends, color="black", linewidth=0.8)
            left.set(xscale="log", yscale="log")
            left.set(xlabel=with_unit("standard deviation", unit), ylabel=with_unit("RMS error", unit))
            left.set_title(f"{title}: RMSE {np.sqrt(np.mean((scale * error) ** 2)):.3g} {unit}".rstrip())
            multiples = np.linspace(0.0, 3.0, 61)
            z = np.sort(np.abs(error / std))
            right.plot(multiples, np.searchsorted(z, multiples, side="right") / len(z), label="found")
            right.plot(multiples, erf(multiples / np.sqrt(2)), color="black", linewidth=0.8, label="Gaussian")
            right.set(xlabel="standard deviations", ylabel="share of errors within", title=title)
            right.legend(loc="lower right")  # both curves end at the top


def grouped(error: FloatArray, std: FloatArray, groups: int = 10) -> tuple[FloatArray, FloatArray]:
    """Root mean squares of standard deviations and of errors in groups of equal size, ordered by the former.

    >>> predicted, found = grouped(np.array([1.0, -1.0, 2.0, 2.0]), np.array([1.0, 1.0, 2.0, 2.0]), groups=2)
    >>> predicted.tolist(), found.tolist()
    ([1.0, 2.0], [1.0, 2.0])
    """
    order = np.argsort(std)
    parts = np.array_split(order, min(groups, max(len(order) // 2, 1)))
    rms = [[float(np.sqrt(np.mean(values[part] ** 2))) for part in parts] for values in (std, error)]
    return np.array(rms[0]), np.array(rms[1])
