"""Molecular dynamics from settings to a folder with trajectory, log, plots and summary."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms, FixBondLengths
from ase.io.trajectory import Trajectory
from ase.optimize import FIRE

from ik_e3nn.atomic import naming
from ik_e3nn.data.labels.stale import without_labels
from ik_e3nn.errors import DataError, ExplosionError
from ik_e3nn.graph import settle_bonds
from ik_e3nn.json_file import read_json
from ik_e3nn.locking import locked_folder
from ik_e3nn.models import model_path
from ik_e3nn_calculators.calculator.inputs import check_finite
from ik_e3nn_calculators.md.loop import CHECKPOINT, LAST_FRAMES, LOG, MDRun
from ik_e3nn_calculators.md.settings import ExplosionLimits, MDSettings
from ik_e3nn_calculators.md.velocities import set_thermal_velocities
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.output.frames import snapshot, write_final
from ik_e3nn_calculators.output.plots import plot_dynamics
from ik_e3nn_calculators.output.summary import MDSummary, table_statistics, write_json
from ik_e3nn_calculators.runs import calculator_for
from ik_e3nn_calculators.systems.constraints import (
    check_constraints,
    check_dynamics,
    free_motions,
    renew_constraints,
    warn_of_lost,
)
from ik_e3nn_calculators.systems.heights import HeightWatch
from ik_e3nn_calculators.systems.structures import load_structure

__all__ = ["ExplosionLimits", "MDSettings", "MDSummary", "run_md"]

_log = logging.getLogger(__name__)

START, START_DIGEST = "start.traj", "start_sha256"
SETTINGS = "settings.json"
SUMMARY = "summary.json"
_FILES = (
    START, SETTINGS, SUMMARY, LOG, CHECKPOINT, LAST_FRAMES,
    "trajectory.extxyz", "trajectory.traj", "final.extxyz", "final.traj", "energy.png", "temperature.png",
)  # fmt: skip
_RELAX_STEPS = 500
_LIGHT = 1.5  # u
_LONG_STEP = 1.5  # fs
_OFF = 0.25  # relative difference from the temperature asked for


def run_md(settings: MDSettings, *, atoms: Atoms | None = None, calculator: Calculator | None = None) -> MDSummary:
    """Run molecular dynamics, or continue it.

    The folder receives ``log.csv``, the trajectory (the run proper, not the equilibration), ``final.extxyz``,
    ``energy.png``, ``temperature.png``, ``summary.json``, and what a restart needs: ``start.traj``, ``settings.json``
    and ``checkpoint.npz``. A restart goes on from the last checkpoint with the same bits as an uninterrupted run on the
    same CPU; rows and frames written after that checkpoint are dropped and written again.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of an ``IKCalculator`` for ``settings.model``; any of ASE's will do.

    Returns:
        The summary, which is also in ``summary.json``.

    Raises:
        ExplosionError: The structure left the physical range. Trajectory, log, plots and summary are left as they were
            before that, and the last steps are in ``last_frames.extxyz``.
        DataError: The folder holds a run already, what is read, is in use by another process, or cannot be written to;
            a restart differs in its physics from the run's beginning, or finds its log damaged; or the structure does
            not fit the ensemble.
        ModelFileError: The model file is missing or broken.
    """
    with locked_folder(settings.output) as folder:
        return _run(settings, folder, atoms, calculator)


def _run(settings: MDSettings, folder: Path, atoms: Atoms | None, calculator: Calculator | None) -> MDSummary:
    """A run in its locked folder."""
    engine = calculator or calculator_for(settings)
    identity = {} if calculator else {"model_sha256": _digest(model_path(settings.model))}
    restarting = settings.restart and (folder / CHECKPOINT).exists()
    run = (
        _resumed(settings, folder, engine, identity)
        if restarting
        else _started(settings, folder, atoms, engine, identity)
    )
    if calculator is None:
        run.heights = HeightWatch.of(engine, settings.model)
        run.heights.look(run.atoms, run.step)
    before = getattr(engine, "neighbor_rebuilds", None)
    try:
        run.advance()
    except KeyboardInterrupt:
        _log.warning(
            "stopped at step %d; the same command with --restart goes on from the last checkpoint, step %d",
            run.step,
            run.saved,
        )
        raise
    except ExplosionError as error:
        _finish(run, before, message=str(error))
        raise ExplosionError(f"{error} (the last good frames are in {folder / LAST_FRAMES})") from error
    return _finish(run, before)


def _started(
    settings: MDSettings, folder: Path, atoms: Atoms | None, engine: Calculator, identity: dict[str, str]
) -> MDRun:
    """A new run, up to its first row."""
    # Asked to continue, but killed before the first checkpoint: there is nothing to lose but these.
    protected = [name for name in _FILES if not (settings.restart and name in (START, SETTINGS))]
    check_free(folder, protected, overwrite=settings.overwrite)
    check_inputs(folder, _FILES, [settings.structure if atoms is None else None, settings.model])
    if atoms is None:
        atoms = load_structure(settings.structure, seed=settings.seed, frame=settings.frame)
    check_constraints(atoms)
    structure = without_labels(atoms)
    settle_bonds(structure)
    check_finite(structure)
    _check_momenta(structure, settings)
    structure.calc = engine
    if settings.relax_fmax is not None:
        _relax(structure, settings.relax_fmax)
    renew_constraints(structure)
    check_dynamics(structure)
    if not free_motions(structure):
        _log.warning("nothing can move: the constraints hold every atom in its place, and the run stays at 0 K")
    if settings.velocities == "thermal":
        # A stream of its own: a thermostat seeded alike must not repeat the velocities' random numbers.
        rng = np.random.default_rng([settings.seed, 1])
        conserved = settings.ensemble == "nve" and not settings.num_equilibration_steps
        set_thermal_velocities(structure, settings.temperature, rng, conserved=conserved)
    run = MDRun(structure, settings, folder)
    run.prepare()
    warn_of_lost(structure, settings.trajectory)
    _warn_of_hydrogens(structure, settings.timestep)
    clear_folder(folder, _FILES)
    with naming(folder / START), Trajectory(folder / START, "w") as file:
        file.write(structure.copy())  # constraints, momenta and info, but no results
    write_json(folder / SETTINGS, {**settings.physics(), **identity, START_DIGEST: _digest(folder / START)})
    run.begin()
    return run


def _resumed(settings: MDSettings, folder: Path, engine: Calculator, identity: dict[str, str]) -> MDRun:
    """A run at its last checkpoint."""
    before = _check_same(folder / SETTINGS, {**settings.physics(), **identity})
    structure = _read_start(folder / START, before.get(START_DIGEST))
    settle_bonds(structure)
    structure.calc = engine
    renew_constraints(structure)
    run = MDRun(structure, settings, folder)
    run.resume()
    return run


def _read_start(path: Path, digest: str | None) -> Atoms:
    """The structure that a run began with; runs of earlier versions know no digest of its file."""
    if digest is not None and path.exists() and _digest(path) != digest:
        raise DataError(f"{path} is not what the run began with; put back a copy, or start the run anew with overwrite")
    try:
        with Trajectory(path) as file:
            structure: Atoms = file[0]
    except Exception as error:  # of any kind: the content may be anything
        raise DataError(f"{path} cannot be read ({error!r}); start the run anew with overwrite") from error
    return structure


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_same(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """What a run began with; other physics or another model is refused."""
    before = read_json(path, "ensemble", "timestep", "temperature", "seed")
    changed = [
        f"{name}: {before[name]!r} before, {now[name]!r} now"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]
    if changed:
        raise DataError(
            f"the run in {path.parent} cannot be continued with other settings ({'; '.join(changed)}); "
            "use those it began with, or another output folder"
        )
    return before


def _check_momenta(atoms: Atoms, settings: MDSettings) -> None:
    """Refuse to start from velocities that are not there."""
    if settings.velocities == "file" and not atoms.has("momenta"):
        raise DataError(
            "velocities='file' takes the momenta from the structure, but it has none (ASE writes them as the column "
            "'momenta'), so the run would start at 0 K; use velocities='thermal', or temperature=0 to start at rest"
        )


def _warn_of_hydrogens(atoms: Atoms, timestep: float) -> None:
    """A word on time steps that are long for the vibrations of light atoms, whose bonds are not held."""
    holding = [one for one in atoms.constraints if isinstance(one, FixAtoms | FixBondLengths)]
    held = {int(index) for one in holding for index in one.get_indices()}
    light = [index for index in np.flatnonzero(atoms.get_masses() < _LIGHT) if index not in held]
    if light and timestep > _LONG_STEP:
        _log.warning(
            "a time step of %g fs is long for hydrogen, whose bonds vibrate in 9 to 11 fs: energy is hardly conserved, "
            "and the run may explode; use 0.5 to 1 fs, or give hydrogen the mass of deuterium",
            timestep,
        )


def _relax(atoms: Atoms, fmax: float) -> None:
    """A short relaxation before the velocities are set."""
    done = FIRE(atoms, logfile=None).run(fmax=fmax, steps=_RELAX_STEPS)
    if not done:
        _log.warning("the structure did not relax to %g eV/A in %d steps; going on with it", fmax, _RELAX_STEPS)


def _warn_of_temperature(summary: MDSummary, settings: MDSettings, atoms: Atoms, rows: int) -> None:
    """A word on runs at constant energy whose temperature is far from the one asked for."""
    mean, target = summary.mean_temperature_K, settings.temperature
    started = settings.velocities == "thermal" and not settings.num_equilibration_steps
    moving = atoms.get_number_of_degrees_of_freedom() > 0
    asked = settings.ensemble == "nve" and started and moving and target > 0.0
    if asked and not summary.message and mean is not None and rows >= 10 and abs(mean - target) > _OFF * target:
        why = "a relaxed structure gives half of the velocities' energy to its bonds: equilibrate (--equilibrate_ps 1)"
        if mean > target:
            why = "a structure that is not relaxed turns its strain into heat: relax it first (--relax_fmax 0.05)"
        _log.warning(
            "the mean temperature is %.0f K, and %g K were asked for: at constant energy %s, or use "
            "--ensemble langevin",
            *(mean, target, why),
        )


def _finish(run: MDRun, rebuilds_before: int | None, message: str = "") -> MDSummary:
    """Plots, last structure and summary."""
    settings, folder = run.settings, run.folder
    rebuilds = getattr(run.atoms.calc, "neighbor_rebuilds", None)
    if not message:
        write_final(folder, snapshot(run.atoms, step=run.step))
    table = run.log.columns()
    summary = MDSummary(
        status="exploded" if message else "finished",
        steps=max(run.step, 0),
        time_ps=max(run.step, 0) * settings.timestep / 1000.0,
        num_atoms=len(run.atoms),
        **table_statistics(table, settings.ensemble, len(run.atoms)),
        ms_per_step=1000.0 * run.seconds / run.steps_made if run.steps_made else None,
        neighbor_rebuilds=None if rebuilds is None or rebuilds_before is None else rebuilds - rebuilds_before,
        output=str(folder),
        trajectory=str(run.frames.path),
        message=message,
    )
    write_json(folder / SUMMARY, summary)
    _warn_of_temperature(summary, settings, run.atoms, rows=len(table.get("step", ())))
    if settings.plots:
        plot_dynamics(folder, table, name=run.atoms.get_chemical_formula(), target=settings.temperature)
    return summary
