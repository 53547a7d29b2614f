"""The picture of a check: energies, forces, contacts and sizes."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.checking.report import CheckReport
from ik_e3nn.data.structures.geometry import CLOSE_RATIO, Contact
from ik_e3nn.pictures import picture

_CONTACTS, _BINS, _LONGEST, _PANELS = 12, 60, 32, 22


def plot_check(report: CheckReport, path: Path) -> None:
    """Plot a panel for each column (without its outliers), force components, closest contacts and sizes.

    Args:
        report: The report to plot.
        path: PNG file to write.
    """
    known = [one for one in report.columns if np.isfinite(one.values).any()]
    shown, forces = known[:_PANELS], report.data.values.get("forces")
    number = len(shown) + 2 + (forces is not None)
    across = min(3, number)
    rows = ceil(number / across)
    with picture(path, rows, across, height=2.2 * rows + 0.3) as (figure, grid):
        figure.suptitle(f"{len(report.data)} structures")
        axes = iter(grid.ravel())
        for one in shown:
            hidden = f"value (outliers not shown: {len(one.outliers)})" if one.outliers else "value"
            histogram(next(axes), one.values[~one.far], one.what, hidden, "structures")
        if forces is not None:
            histogram(next(axes), forces, "forces", "force component (eV/A)", "components", logarithmic=True)
        _plot_contacts(next(axes), report.contacts)
        histogram(next(axes), report.data.sizes.astype(float), "sizes", "atoms per structure", "structures", whole=True)
        for one in axes:
            one.set_axis_off()


def _plot_contacts(axes: Axes, contacts: Sequence[Contact]) -> None:
    """Bars of the shortest distances, the closest at the top, and a red line below which atoms are too close."""
    shown = list(contacts)[:_CONTACTS]
    axes.set_title(
        "closest contacts" + (f" ({_CONTACTS} of {len(contacts)} pairs)" if len(contacts) > _CONTACTS else "")
    )
    axes.set_xlabel("distance / covalent radii")
    if not shown:
        _label_empty(axes)
        return
    axes.barh([one.pair for one in shown], [one.ratio for one in shown], color="tab:blue")
    axes.invert_yaxis()
    axes.axvline(CLOSE_RATIO, color="tab:red", linewidth=1)
    axes.set_xlim(0.0, 1.1 * max(CLOSE_RATIO, *(one.ratio for one in shown)))


def histogram(
    axes: Axes,
    values: FloatArray,
    title: str,
    label: str,
    counted: str,
    *,
    logarithmic: bool = False,
    whole: bool = False,
) -> None:
    """Draw a histogram of the finite values.

    Args:
        axes: Where to draw.
        values: The values, any shape.
        title: Name of the values.
        label: Name with the unit, for the horizontal axis.
        counted: Name of the counted items, for the vertical axis.
        logarithmic: Whether counts are on a logarithmic scale.
        whole: Whether the values are whole numbers, with one bin each if they are few.
    """
    axes.set(title=title if len(title) <= _LONGEST else f"{title[: _LONGEST - 3]}...", xlabel=label)
    finite = np.ravel(values)[np.isfinite(np.ravel(values))]
    if not len(finite):
        _label_empty(axes)
        return
    low, high = float(finite.min()), float(finite.max())
    few = whole and high - low < _BINS
    bins = np.arange(low - 0.5, high + 1.0).tolist() if few else int(np.clip(len(finite) // 2, 10, _BINS))
    axes.hist(finite, bins=bins, color="tab:blue", log=logarithmic)
    if few:
        axes.set_xlim(max(0.0, low - 2.0), high + 2.0)
    axes.set_ylabel(counted)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole))
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))  # long numbers would overlap
    if not logarithmic:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _label_empty(axes: Axes) -> None:
    """Label an empty panel as such, and remove its ticks."""
    axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
