"""The picture of a check: energies, forces, contacts and sizes at one glance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ik_e3nn.data.structures.geometry import CLOSE_RATIO, Contact
from ik_e3nn.pictures import picture

_CONTACTS, _BINS, _LONGEST = 12, 60, 32


def plot_check(
    residuals: NDArray[np.float64],
    forces: NDArray[np.float64],
    contacts: Sequence[Contact],
    sizes: Sequence[int],
    path: Path,
) -> None:
    """Four panels: energies relative to E0, force components, closest contacts, sizes.

    Args:
        residuals: Energy relative to E0 per atom, (n,), in eV; NaN where missing.
        forces: Force components, any shape, in eV/A; NaN where missing.
        contacts: Shortest distance of each pair of species.
        sizes: Number of atoms of each structure.
        path: PNG file to write.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_check(np.zeros(3), np.ones((3, 3)), [Contact("H-H", 0.7, 1.1, 0)], [2], Path(folder) / "a.png")
        ...     (Path(folder) / "a.png").stat().st_size > 1000
        True
    """
    with picture(path, 2, 2, height=5.6) as (figure, [[left, right], [below, last]]):
        figure.suptitle(f"{len(sizes)} structures")
        histogram(left, residuals, "energies", "energy per atom relative to E0 (eV)", "structures")
        histogram(right, forces, "forces", "force component (eV/A)", "components", logarithmic=True)
        _plot_contacts(below, contacts)
        atoms = np.asarray(sizes, dtype=np.float64)
        histogram(last, atoms, "sizes", "atoms per structure", "structures", whole=True)


def _plot_contacts(axes: Axes, contacts: Sequence[Contact]) -> None:
    """Bars of the shortest distances, the closest at the top."""
    shown = list(contacts)[:_CONTACTS]
    axes.set_title(
        "closest contacts" + (f" ({_CONTACTS} of {len(contacts)} pairs)" if len(contacts) > _CONTACTS else "")
    )
    axes.set_xlabel("shortest distance / sum of covalent radii (red: too close)")
    if not shown:
        _say_none(axes)
        return
    axes.barh([one.pair for one in shown], [one.ratio for one in shown], color="tab:blue")
    axes.invert_yaxis()
    axes.axvline(CLOSE_RATIO, color="tab:red", linewidth=1)
    axes.set_xlim(0.0, 1.1 * max(CLOSE_RATIO, *(one.ratio for one in shown)))


def histogram(
    axes: Axes,
    values: NDArray[np.float64],
    title: str,
    label: str,
    counted: str,
    *,
    logarithmic: bool = False,
    whole: bool = False,
) -> None:
    """A histogram of the finite values.

    Args:
        axes: Where to draw.
        values: The values, any shape.
        title: What they are.
        label: The same with the unit, for the axis.
        counted: What is counted.
        logarithmic: Whether counts are on a logarithmic scale.
        whole: Whether the values are whole numbers, which few bins suit.
    """
    axes.set(title=title if len(title) <= _LONGEST else f"{title[: _LONGEST - 3]}...", xlabel=label)
    finite = np.ravel(values)[np.isfinite(np.ravel(values))]
    if not len(finite):
        _say_none(axes)
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


def _say_none(axes: Axes) -> None:
    """An empty panel that says so, without the ticks of nothing."""
    axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
