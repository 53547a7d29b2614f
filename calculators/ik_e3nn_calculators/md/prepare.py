"""The beginning of a run: its folder, its structure with calculator and velocities, and all checks.

``start.traj`` and ``settings.json`` record the beginning; a continued run must have the same structure and physics.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLengths
from ase.io.trajectory import Trajectory
from ase.optimize import FIRE

from ik_e3nn.atomic import naming
from ik_e3nn.errors import DataError
from ik_e3nn.graph import settle_bonds
from ik_e3nn.json_file import read_json, write_json
from ik_e3nn_calculators.calculator.inputs import check_finite
from ik_e3nn_calculators.md import files
from ik_e3nn_calculators.md.integrate import Dynamics
from ik_e3nn_calculators.md.settings import MDSettings
from ik_e3nn_calculators.md.velocities import set_thermal_velocities
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.runs import Engine, file_digest, starting_structure
from ik_e3nn_calculators.systems.constraints import check_dynamics, free_motions, renew_constraints, warn_of_lost

_log = logging.getLogger(__name__)

START_DIGEST = "start_sha256"
_RELAX_STEPS = 500
_LIGHT = 1.5  # u
_LONG_STEP = 1.5  # fs


def prepare(settings: MDSettings, folder: Path, atoms: Atoms | None, engine: Engine) -> Dynamics:
    """Prepare a new run; its folder then holds the starting structure and the settings, and no other file of a run.

    Args:
        settings: The settings.
        folder: The locked folder of the run.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        engine: The calculator of the run.

    Raises:
        DataError: The folder already holds a run, or the structure does not suit the ensemble.
    """
    # A run that was killed before its first checkpoint left only these two files, so a restart may replace them.
    protected = [name for name in files.ALL if not (settings.restart and name in (files.START, files.SETTINGS))]
    check_free(folder, protected, overwrite=settings.overwrite)
    check_inputs(folder, files.ALL, [settings.structure if atoms is None else None, settings.model])
    structure = starting_structure(settings, atoms)
    check_finite(structure)
    _check_momenta(structure, settings)
    structure.calc = engine.calculator
    if settings.relax_fmax is not None:
        _relax(structure, settings.relax_fmax)
    renew_constraints(structure)
    check_dynamics(structure)
    _set_velocities(structure, settings)
    dynamics = Dynamics(structure, settings, engine.heights, engine.code)
    dynamics.start()
    warn_of_lost(structure, settings.trajectory)
    _warn_of_hydrogens(structure, settings.timestep)
    clear_folder(folder, files.ALL)
    start = folder / files.START
    with naming(start), Trajectory(start, "w") as file:
        file.write(structure.copy())  # constraints, momenta and info, but no results
    write_json(folder / files.SETTINGS, {**settings.physics(), **engine.identity, START_DIGEST: file_digest(start)})
    return dynamics


def reopen(settings: MDSettings, folder: Path, engine: Engine) -> Dynamics:
    """Reopen an earlier run at its starting structure; ``Record.resume`` then restores its last checkpoint.

    Args:
        settings: The settings.
        folder: The locked folder of the run.
        engine: The calculator of the run.

    Raises:
        DataError: The run began with other physics or another model, or its files are damaged.
    """
    before = _check_same(folder / files.SETTINGS, {**settings.physics(), **engine.identity})
    structure = read_start(folder / files.START, before.get(START_DIGEST))
    settle_bonds(structure)
    structure.calc = engine.calculator
    renew_constraints(structure)
    return Dynamics(structure, settings, engine.heights, engine.code)


def read_start(path: Path, digest: str | None) -> Atoms:
    """Read the structure that a run began with.

    Args:
        path: The file.
        digest: Its recorded SHA-256; None for runs of earlier versions, which recorded none.

    Raises:
        DataError: The file has changed or cannot be read.
    """
    if digest is not None and path.exists() and file_digest(path) != digest:
        raise DataError(f"{path} has changed since the run began; restore a copy, or start the run anew with overwrite")
    try:
        with Trajectory(path) as file:
            structure: Atoms = file[0]
    except Exception as error:  # damaged content can raise any kind of error
        raise DataError(f"{path} cannot be read ({error!r}); start the run anew with overwrite") from error
    return structure


def _check_same(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """Read the recorded settings of a run, and refuse other physics or another model."""
    before = read_json(path, "ensemble", "timestep", "temperature", "seed")
    changed = [
        f"{name}: {before[name]!r} before, {now[name]!r} now"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]
    if changed:
        raise DataError(
            f"the run in {path.parent} cannot be continued with other settings ({'; '.join(changed)}); "
            "use the original settings, or another output folder"
        )
    return before


def _check_momenta(atoms: Atoms, settings: MDSettings) -> None:
    """Refuse ``velocities='file'`` for a structure without momenta."""
    if settings.velocities == "file" and not atoms.has("momenta"):
        raise DataError(
            "velocities='file' takes the momenta from the structure, but it has none (ASE writes them as the column "
            "'momenta'), so the run would start at 0 K; use velocities='thermal', or temperature=0 to start at rest"
        )


def _relax(atoms: Atoms, fmax: float) -> None:
    """Relax the structure briefly before the velocities are set."""
    done = FIRE(atoms, logfile=None).run(fmax=fmax, steps=_RELAX_STEPS)
    if not done:
        _log.warning(
            "the structure did not relax to %g eV/A in %d steps; continuing with it as it is", fmax, _RELAX_STEPS
        )


def _set_velocities(atoms: Atoms, settings: MDSettings) -> None:
    """Set thermal velocities unless those of the file are kept, and warn if no atom can move."""
    if not free_motions(atoms):
        _log.warning("no atom can move: the constraints fix all atoms, so the run stays at 0 K")
    if settings.velocities == "thermal":
        # A separate random stream, so that the thermostat does not repeat the numbers used for the velocities.
        random = np.random.default_rng([settings.seed, 1])
        conserved = settings.ensemble == "nve" and not settings.num_equilibration_steps
        set_thermal_velocities(atoms, settings.temperature, random, conserved=conserved)


def _warn_of_hydrogens(atoms: Atoms, timestep: float) -> None:
    """Warn if the time step is long for the vibrations of light atoms whose bonds are not fixed."""
    holding = [one for one in atoms.constraints if isinstance(one, FixAtoms | FixBondLengths)]
    held = {int(index) for one in holding for index in one.get_indices()}
    light = [index for index in np.flatnonzero(atoms.get_masses() < _LIGHT) if index not in held]
    if light and timestep > _LONG_STEP:
        _log.warning(
            "a time step of %g fs is long for hydrogen, whose bonds vibrate with periods of 9 to 11 fs: energy is "
            "poorly conserved, and the run may explode; use 0.5 to 1 fs, or give hydrogen the mass of deuterium",
            timestep,
        )
