"""The picture of a check: energies, forces, contacts and sizes at one glance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ik_e3nn.data.check_geometry import CLOSE_RATIO, Contact


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
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    figure.suptitle(f"{len(sizes)} structures")
    axes = figure.subplots(2, 2)
    histogram(axes[0, 0], residuals, "energy per atom relative to E0 (eV)")
    histogram(axes[0, 1], forces, "force component (eV/A)", logarithmic=True)
    shown = list(contacts)[:12]
    axes[1, 0].barh([one.pair for one in shown], [one.ratio for one in shown], color="tab:blue")
    axes[1, 0].axvline(CLOSE_RATIO, color="tab:red", linewidth=1)
    axes[1, 0].set_xlabel("shortest distance / sum of covalent radii")
    histogram(axes[1, 1], np.asarray(sizes, dtype=np.float64), "atoms per structure")
    figure.savefig(path, dpi=130, format="png")


def histogram(axes: Axes, values: NDArray[np.float64], label: str, *, logarithmic: bool = False) -> None:
    """A histogram of the finite values."""
    finite = np.ravel(values)[np.isfinite(np.ravel(values))]
    if len(finite):
        axes.hist(finite, bins=60, color="tab:blue", log=logarithmic)
    else:
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
    axes.set(xlabel=label, ylabel="count")
