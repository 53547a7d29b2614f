"""The end of a molecular-dynamics run: final structure, summary, plots, and a warning about the temperature."""

# ruff: noqa: N815 - units keep their case (meV, GPa, K)

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.json_file import write_json
from ik_e3nn_calculators.md import files
from ik_e3nn_calculators.md.integrate import Dynamics
from ik_e3nn_calculators.md.record import Record
from ik_e3nn_calculators.md.settings import MDSettings
from ik_e3nn_calculators.output.frames import snapshot, write_final
from ik_e3nn_calculators.output.plots import plot_columns

_log = logging.getLogger(__name__)

_OFF = 0.25  # relative difference from the requested temperature


@dataclass(frozen=True)
class MDSummary:
    """Summary of a molecular-dynamics run.

    Args:
        status: ``finished``, or ``exploded``.
        steps: Number of steps after equilibration, restarts included.
        time_ps: Time of these steps in ps.
        num_atoms: Number of atoms.
        drift_meV_per_atom_per_ps: Slope of the total energy by linear regression; None unless the ensemble is ``nve``.
        mean_temperature_K: Mean over the logged rows after equilibration.
        std_temperature_K: Standard deviation of the temperature over the same rows; None for fewer than two rows.
        mean_pressure_GPa: Mean pressure; None unless periodic in three directions.
        ms_per_step: Wall time of a step in this call, writing included; None if it made no step.
        neighbor_rebuilds: How often this call rebuilt the neighbor list; None if the calculator does not count.
        compiled_from: The step from which on compiled code was used; None if the model ran eagerly.
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
    compiled_from: int | None
    output: str
    trajectory: str
    message: str = ""


def finish(dynamics: Dynamics, record: Record, settings: MDSettings, folder: Path, message: str = "") -> MDSummary:
    """Write the final structure, ``summary.json`` and the plots.

    Args:
        dynamics: The run.
        record: The files written during the run.
        settings: The settings.
        folder: The folder of the run.
        message: Why the run ended early; no final structure is written then.
    """
    atoms, steps = dynamics.atoms, max(dynamics.step, 0)
    if not message:
        write_final(folder, snapshot(atoms, step=dynamics.step))
    table = record.table()
    summary = MDSummary(
        status="exploded" if message else "finished",
        steps=steps,
        time_ps=steps * settings.timestep / 1000.0,
        num_atoms=len(atoms),
        **table_statistics(table, settings.ensemble, len(atoms)),
        ms_per_step=1000.0 * dynamics.seconds / dynamics.steps_made if dynamics.steps_made else None,
        neighbor_rebuilds=dynamics.rebuilds,
        compiled_from=dynamics.compiled_from,
        output=str(folder),
        trajectory=str(record.trajectory),
        message=message,
    )
    write_json(folder / files.SUMMARY, summary)
    _warn_of_temperature(summary, settings, atoms, rows=len(table.get("step", ())))
    if settings.plots:
        plot_dynamics(folder, table, name=atoms.get_chemical_formula(), target=settings.temperature)
    return summary


def energy_drift(time_ps: NDArray[np.float64], energy: NDArray[np.float64], num_atoms: int) -> float | None:
    """Drift of the total energy in meV/atom/ps: the slope of a fitted straight line.

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
        "std_temperature_K": float(kept["temperature"].std()) if rows.sum() > 1 else None,
        "mean_pressure_GPa": float(kept["pressure"].mean()) if "pressure" in kept else None,
    }


def plot_dynamics(folder: Path, table: Mapping[str, NDArray[np.float64]], *, name: str, target: float) -> None:
    """Draw ``energy.png`` and ``temperature.png`` of a molecular-dynamics run.

    Energies are shown from their first value, so that drift and exchange can be seen.

    Args:
        folder: The folder to write to.
        table: Columns of ``log.csv``; nothing is drawn if it is empty.
        name: Name of the structure, for the titles.
        target: The requested temperature in K.
    """
    if not table:
        return
    time = table["time_ps"]
    names = {"epot": "potential", "ekin": "kinetic", "etot": "total"}
    energies = {label: table[key] - table[key][0] for key, label in names.items()}
    plot_columns(
        folder / files.ENERGY_PLOT,
        time,
        energies,
        title=f"{name}: energies minus their first values",
        labels=("time (ps)", "energy (eV)"),
    )
    plot_columns(
        folder / files.TEMPERATURE_PLOT,
        time,
        {"temperature": table["temperature"]},
        title=f"{name}: temperature, {target:g} K requested",
        labels=("time (ps)", "temperature (K)"),
        goal=target,
    )


def _warn_of_temperature(summary: MDSummary, settings: MDSettings, atoms: Atoms, rows: int) -> None:
    """Warn if a constant-energy run has a mean temperature far from the requested one."""
    mean, target = summary.mean_temperature_K, settings.temperature
    started = settings.velocities == "thermal" and not settings.num_equilibration_steps
    moving = atoms.get_number_of_degrees_of_freedom() > 0
    asked = settings.ensemble == "nve" and started and moving and target > 0.0
    if asked and not summary.message and mean is not None and rows >= 10 and abs(mean - target) > _OFF * target:
        why = "half of the kinetic energy of a relaxed structure becomes potential: equilibrate it (--equilibrate_ps 1)"
        if mean > target:
            why = "an unrelaxed structure turns its strain into heat: relax it first (--relax_fmax 0.05)"
        _log.warning(
            "the mean temperature is %.0f K, but %g K was requested. At constant energy, %s, or use "
            "--ensemble langevin",
            *(mean, target, why),
        )
