"""Relaxation of atoms, and of the cell if wanted, to zero force and to a given pressure."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from tqdm.auto import tqdm

from ik_e3nn.data.labels.stale import without_labels
from ik_e3nn.errors import DataError, ExplosionError
from ik_e3nn.graph import settle_bonds
from ik_e3nn.locking import locked_folder
from ik_e3nn_calculators.calculator.inputs import has_volume
from ik_e3nn_calculators.output.csvlog import CsvLog
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.output.frames import frame_file, snapshot, write_final
from ik_e3nn_calculators.output.plots import plot_columns
from ik_e3nn_calculators.output.summary import write_json
from ik_e3nn_calculators.relax.settings import RelaxSettings, RelaxSummary
from ik_e3nn_calculators.runs import calculator_for
from ik_e3nn_calculators.systems.constraints import check_constraints, warn_of_lost
from ik_e3nn_calculators.systems.heights import HeightWatch
from ik_e3nn_calculators.systems.structures import load_structure

__all__ = ["RelaxSettings", "RelaxSummary", "run_relax", "strain_mask"]

_log = logging.getLogger(__name__)

_OPTIMIZERS = {"fire": FIRE, "bfgs": BFGS, "lbfgs": LBFGS}
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_VOIGT_AXES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_FILES = ("trajectory.extxyz", "trajectory.traj", "log.csv", "final.extxyz", "final.traj", "forces.png", "summary.json")


def run_relax(
    settings: RelaxSettings, *, atoms: Atoms | None = None, calculator: Calculator | None = None
) -> RelaxSummary:
    """Relax a structure; constraints such as ``FixAtoms`` are respected.

    The folder receives the trajectory, ``log.csv``, ``final.extxyz``, ``forces.png`` and ``summary.json``.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of an ``IKCalculator`` for ``settings.model``.

    Returns:
        The summary; look at ``converged``.

    Raises:
        DataError: The folder holds a relaxation already, what is read, or is in use by another process; or the cell of
            an open structure is to be relaxed.
        ExplosionError: Energy or forces became NaN.
    """
    with locked_folder(settings.output) as folder:
        return _relaxed(settings, folder, atoms, calculator)


def _relaxed(settings: RelaxSettings, folder: Path, atoms: Atoms | None, calculator: Calculator | None) -> RelaxSummary:
    """A relaxation in its locked folder."""
    check_free(folder, _FILES, overwrite=settings.overwrite)
    check_inputs(folder, _FILES, [settings.structure if atoms is None else None, settings.model])
    engine = calculator or calculator_for(settings)
    if atoms is None:
        atoms = load_structure(settings.structure, seed=settings.seed, frame=settings.frame)
    check_constraints(atoms)
    structure = without_labels(atoms)
    settle_bonds(structure)
    structure.calc = engine
    target = structure if settings.cell == "fixed" else _cell_filter(structure, settings)
    structure.get_forces()
    watch = HeightWatch.of(engine, settings.model) if calculator is None else HeightWatch({})
    warn_of_lost(structure, settings.trajectory)
    clear_folder(folder, _FILES)
    optimizer = _OPTIMIZERS[settings.optimizer](target, logfile=None)
    frames, log = frame_file(folder, "trajectory", settings.trajectory), CsvLog(folder / "log.csv")
    with tqdm(total=settings.steps, unit="step", desc="relax", disable=not settings.progress) as bar:

        def record() -> None:
            row = _row(target, structure, optimizer.nsteps)
            watch.look(structure, optimizer.nsteps)
            log.append(row)
            frames.append(snapshot(structure, step=optimizer.nsteps))
            bar.set_postfix_str(_progress(row), refresh=False)
            bar.update(optimizer.nsteps - bar.n)

        optimizer.attach(record)
        try:
            converged = bool(optimizer.run(fmax=settings.fmax, steps=settings.steps))
        except KeyboardInterrupt:
            _log.warning(
                "stopped after %d steps; the last structure of %s is the one to go on from",
                optimizer.nsteps,
                frames.path,
            )
            raise
    return _finish(target, structure, settings, folder, log, converged=converged, steps=int(optimizer.nsteps))


def strain_mask(atoms: Atoms) -> list[int]:
    """Strain components, in Voigt order, that leave the open directions of a structure alone.

    Args:
        atoms: The structure.

    Returns:
        Six of 0 or 1.

    Raises:
        DataError: Open and periodic cell vectors share Cartesian components, so that no such mask exists.

    Example:
        >>> strain_mask(Atoms("H", cell=[3, 3, 20], pbc=(True, True, False)))
        [1, 1, 0, 0, 0, 1]
    """
    cell = np.abs(atoms.cell.array) > 1e-8
    open_axes = cell[~atoms.pbc].any(axis=0) | ~cell[atoms.pbc].any(axis=0)
    if (open_axes & cell[atoms.pbc].any(axis=0)).any():
        raise DataError(
            "the open cell vector is not along a Cartesian axis of its own, so the strains that leave it alone are not "
            "known; turn the cell, or give mask=[xx, yy, zz, yz, xz, xy]"
        )
    return [int(not open_axes[first] and not open_axes[second]) for first, second in _VOIGT_AXES]


def _cell_filter(atoms: Atoms, settings: RelaxSettings) -> FrechetCellFilter:
    """ASE's filter that relaxes the cell along with the atoms."""
    if not has_volume(atoms):
        raise DataError(
            f"cell={settings.cell!r} needs a periodic structure with three cell vectors, but pbc is "
            f"{atoms.pbc.tolist()}; use cell='fixed'"
        )
    hydrostatic = settings.cell == "hydrostatic"
    if hydrostatic and not atoms.pbc.all():
        raise DataError("cell='hydrostatic' would strain an open direction too; use cell='full'")
    mask = settings.mask if settings.mask is not None else strain_mask(atoms)
    open_axes = atoms.cell.array[~atoms.pbc].any(axis=0) & ~atoms.cell.array[atoms.pbc].any(axis=0)
    idle = [
        name
        for name, given, (first, second) in zip(_VOIGT, mask, _VOIGT_AXES, strict=True)
        if given and (open_axes[first] or open_axes[second])
    ]
    if idle:
        raise DataError(
            f"mask allows strains of {', '.join(idle)}, but pbc is {atoms.pbc.tolist()}, and no stress acts along an "
            "open direction; set these entries to 0"
        )
    return FrechetCellFilter(
        atoms, mask=mask, hydrostatic_strain=hydrostatic, scalar_pressure=settings.pressure * units.GPa
    )


def _row(target: Atoms | FrechetCellFilter, atoms: Atoms, step: int) -> dict[str, float | int]:
    """One row of the log: ``fmax`` is the largest force on an atom, ``fmax_cell`` that on a cell that may change."""
    energy, largest = float(atoms.get_potential_energy()), _largest_force(atoms)
    if not (np.isfinite(energy) and np.isfinite(largest)):
        raise ExplosionError(f"step {step}: energy or forces became NaN or infinite; check the starting structure")
    row: dict[str, float | int] = {"step": step, "energy": energy, "fmax": largest}
    if isinstance(target, FrechetCellFilter):
        row["fmax_cell"] = float(np.linalg.norm(target.get_forces()[len(atoms) :], axis=1).max())
    if atoms.pbc.all() and has_volume(atoms):
        row["pressure"] = -float(atoms.get_stress()[:3].mean()) / units.GPa
        row["volume"] = float(atoms.get_volume())
    return row


def _largest_force(atoms: Atoms) -> float:
    """Largest force on an atom that may move, in eV/A."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _progress(row: dict[str, float | int]) -> str:
    """What the progress bar shows."""
    cell = f" (cell {row['fmax_cell']:.3f})" if "fmax_cell" in row else ""
    return f"fmax {row['fmax']:.3f}{cell} eV/A"


def _not_converged(row: dict[str, float | int], settings: RelaxSettings, steps: int, last: Path) -> str:
    """What to do about a relaxation that was not long enough."""
    where = " on atoms and cell" if "fmax_cell" in row else ""
    largest = max(row["fmax"], row.get("fmax_cell", 0.0))
    return (
        f"not converged: the largest force{where} is {largest:.4g} eV/A after {steps} steps, the goal was "
        f"{settings.fmax} eV/A; continue from {last.name}, allow more steps, or try another optimizer"
    )


def _finish(
    target: Atoms | FrechetCellFilter,
    atoms: Atoms,
    settings: RelaxSettings,
    folder: Path,
    log: CsvLog,
    *,
    converged: bool,
    steps: int,
) -> RelaxSummary:
    """Final structure, plot and summary."""
    row = _row(target, atoms, steps)
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
        output=str(folder),
        structure=str(last),
        message=message,
    )
    content: dict[str, Any] = {**asdict(summary), "optimizer": settings.optimizer, "fmax_goal": settings.fmax}
    write_json(folder / "summary.json", content)
    if settings.plots:
        table = log.columns()
        curves = {name: table[key] for key, name in (("fmax", "atoms"), ("fmax_cell", "cell")) if key in table}
        plot_columns(
            folder / "forces.png",
            table["step"],
            curves,
            title=f"{atoms.get_chemical_formula()}: largest force, goal {settings.fmax:g} eV/Å",
            labels=("step", "largest force (eV/Å)"),
            goal=settings.fmax,
            log_scale=all(bool((values > 0).all()) for values in curves.values()),
        )
    return summary
