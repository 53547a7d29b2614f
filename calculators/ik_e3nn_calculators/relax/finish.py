"""The end of a relaxation: final structure, summary, plot, and advice if it did not converge."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms

from ik_e3nn.json_file import write_json
from ik_e3nn_calculators.output.frames import snapshot, write_final
from ik_e3nn_calculators.output.plots import plot_columns
from ik_e3nn_calculators.relax.record import Record, Row
from ik_e3nn_calculators.relax.settings import RelaxSettings, RelaxSummary

_log = logging.getLogger(__name__)

SUMMARY, PLOT = "summary.json", "forces.png"


def finish(
    record: Record,
    atoms: Atoms,
    settings: RelaxSettings,
    folder: Path,
    *,
    converged: bool,
    steps: int,
    compiled_from: int | None,
) -> RelaxSummary:
    """Write the final structure, ``summary.json`` and the plot.

    Args:
        record: The files written during the relaxation.
        atoms: The relaxed structure.
        settings: The settings.
        folder: The folder of the relaxation.
        converged: Whether the forces are below the goal.
        steps: Number of steps made.
        compiled_from: The step from which on compiled code was used, if it was.
    """
    row = record.row(steps)
    last = write_final(folder, snapshot(atoms))
    message = "" if converged else _not_converged(row, settings, steps, last)
    if message:
        _log.warning(message)
    summary = RelaxSummary(
        converged=converged,
        steps=steps,
        energy_eV=float(row["energy"]),
        fmax_eV_per_A=float(row["fmax"]),
        fmax_cell_eV_per_A=float(row["fmax_cell"]) if "fmax_cell" in row else None,
        pressure_GPa=float(row["pressure"]) if "pressure" in row else None,
        volume_A3=float(row["volume"]) if "volume" in row else None,
        compiled_from=compiled_from,
        output=str(folder),
        structure=str(last),
        message=message,
    )
    content: dict[str, Any] = {**asdict(summary), "optimizer": settings.optimizer, "fmax_goal": settings.fmax}
    write_json(folder / SUMMARY, content)
    if settings.plots:
        table = record.log.columns()
        curves = {name: table[key] for key, name in (("fmax", "atoms"), ("fmax_cell", "cell")) if key in table}
        plot_columns(
            folder / PLOT,
            table["step"],
            curves,
            title=f"{atoms.get_chemical_formula()}: largest force, goal {settings.fmax:g} eV/Å",
            labels=("step", "largest force (eV/Å)"),
            goal=settings.fmax,
            log_scale=all(bool((values > 0).all()) for values in curves.values()),
        )
    return summary


def _not_converged(row: Row, settings: RelaxSettings, steps: int, last: Path) -> str:
    """Advice for a relaxation that did not converge."""
    where = " on atoms and cell" if "fmax_cell" in row else ""
    largest = max(row["fmax"], row.get("fmax_cell", 0.0))
    return (
        f"not converged: the largest force{where} is {largest:.4g} eV/A after {steps} steps, the goal was "
        f"{settings.fmax} eV/A; continue from {last.name}, allow more steps, or try another optimizer"
    )
