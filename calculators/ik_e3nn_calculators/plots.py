"""Pictures of a run: quantities over time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def plot_columns(
    path: Path,
    x: NDArray[np.float64],
    curves: Mapping[str, NDArray[np.float64]],
    *,
    labels: tuple[str, str],
    log_scale: bool = False,
) -> None:
    """Draw curves over a common axis into a PNG file.

    Args:
        path: The file.
        x: Values of the horizontal axis.
        curves: Values of the vertical axis, by name.
        labels: What is on the two axes, with units.
        log_scale: Logarithmic vertical axis.
    """
    # A figure of its own, not pyplot's: no window system and no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(x, values, label=name, linewidth=1.0)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if log_scale:
        axes.set_yscale("log")
    if len(curves) > 1:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_dynamics(folder: Path, table: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw `energy.png` and `temperature.png` of a molecular-dynamics run.

    Energies are shown from their first value, so that drift and exchange can be seen.

    Args:
        folder: Where to.
        table: Columns of `log.csv`; nothing is drawn if it is empty.
    """
    if not table:
        return
    time = table["time_ps"]
    names = {"epot": "potential", "ekin": "kinetic", "etot": "total"}
    energies = {label: table[key] - table[key][0] for key, label in names.items()}
    plot_columns(folder / "energy.png", time, energies, labels=("time / ps", "energy from the first row / eV"))
    temperature = {"temperature": table["temperature"]}
    plot_columns(folder / "temperature.png", time, temperature, labels=("time / ps", "temperature / K"))
