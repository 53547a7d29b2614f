"""The numbers that sum up a molecular-dynamics run."""

# ruff: noqa: N815 - units keep their case (meV, GPa, K)

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.atomic import written_at_once


@dataclass(frozen=True)
class MDSummary:
    """What came of a molecular-dynamics run.

    Args:
        status: ``finished``, or ``exploded``.
        steps: Steps done after equilibration, restarts included.
        time_ps: The same in ps.
        num_atoms: Number of atoms.
        drift_meV_per_atom_per_ps: Slope of the total energy by linear regression; None unless the ensemble is ``nve``.
        mean_temperature_K: Mean over the logged rows after equilibration.
        std_temperature_K: Its standard deviation.
        mean_pressure_GPa: Mean pressure; None unless periodic in three directions.
        ms_per_step: Wall time for each step that this call made, writing included; None if it made none.
        neighbor_rebuilds: Searches of the neighbor list in this call; None if the calculator does not count.
        output: The folder.
        trajectory: The trajectory file.
        message: Why the run ended early, or empty.
    """

    status: Literal["finished", "exploded"]
    steps: int
    time_ps: float
    num_atoms: int
    drift_meV_per_atom_per_ps: float | None
    mean_temperature_K: float | None
    std_temperature_K: float | None
    mean_pressure_GPa: float | None
    ms_per_step: float | None
    neighbor_rebuilds: int | None
    output: str
    trajectory: str
    message: str = ""


def energy_drift(time_ps: NDArray[np.float64], energy: NDArray[np.float64], num_atoms: int) -> float | None:
    """Drift of the total energy in meV/atom/ps: the slope of a straight line through it.

    Args:
        time_ps: Times in ps.
        energy: Total energies in eV.
        num_atoms: Number of atoms.

    Returns:
        The slope, or None for fewer than three rows.

    Example:
        >>> round(energy_drift(np.array([0.0, 1.0, 2.0]), np.array([5.0, 5.02, 5.04]), 10), 6)
        2.0
    """
    if len(time_ps) < 3 or np.ptp(time_ps) == 0.0:
        return None
    centered = time_ps - time_ps.mean()
    return float(1000.0 * (centered @ (energy - energy.mean())) / (centered @ centered) / num_atoms)


def table_statistics(table: Mapping[str, NDArray[np.float64]], ensemble: str, num_atoms: int) -> dict[str, Any]:
    """Drift, temperature and pressure from the rows after equilibration.

    Args:
        table: Columns of ``log.csv``.
        ensemble: The ensemble; only ``nve`` conserves the energy.
        num_atoms: Number of atoms.

    Returns:
        Fields of ``MDSummary``.
    """
    rows = table["step"] >= 0 if table else np.zeros(0, dtype=bool)
    kept = {name: values[rows] for name, values in table.items()} if rows.any() else {}
    drift = energy_drift(kept["time_ps"], kept["etot"], num_atoms) if kept and ensemble == "nve" else None
    return {
        "drift_meV_per_atom_per_ps": drift,
        "mean_temperature_K": float(kept["temperature"].mean()) if kept else None,
        "std_temperature_K": float(kept["temperature"].std()) if kept else None,
        "mean_pressure_GPa": float(kept["pressure"].mean()) if "pressure" in kept else None,
    }


def write_json(path: Path, content: Any) -> None:
    """Write a dataclass or a dictionary as JSON.

    Args:
        path: The file.
        content: A dataclass instance or a dictionary.
    """
    values = content if isinstance(content, dict) else asdict(content)
    with written_at_once(path) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())
