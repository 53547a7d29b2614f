"""Relaxation of atoms, and of the cell if wanted, to zero force and to a given pressure."""

import logging
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS, FIRE, LBFGS
from tqdm.auto import tqdm

from ik_e3nn.locking import locked_folder
from ik_e3nn_calculators.calculator.code_watch import CodeWatch
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.relax.cell import cell_filter
from ik_e3nn_calculators.relax.finish import PLOT, SUMMARY, finish
from ik_e3nn_calculators.relax.record import LOG, TRAJECTORY, Record, Row
from ik_e3nn_calculators.relax.settings import RelaxSettings, RelaxSummary
from ik_e3nn_calculators.runs import Engine, running, starting_structure
from ik_e3nn_calculators.systems.constraints import warn_of_lost

__all__ = ["RelaxSettings", "RelaxSummary", "run_relax"]

_log = logging.getLogger(__name__)

_OPTIMIZERS = {"fire": FIRE, "bfgs": BFGS, "lbfgs": LBFGS}
FILES = (f"{TRAJECTORY}.extxyz", f"{TRAJECTORY}.traj", LOG, "final.extxyz", "final.traj", PLOT, SUMMARY)


def run_relax(
    settings: RelaxSettings, *, atoms: Atoms | None = None, calculator: Calculator | Engine | None = None
) -> RelaxSummary:
    """Relax a structure; constraints such as ``FixAtoms`` are respected.

    The folder receives the trajectory, ``log.csv``, ``final.extxyz``, ``forces.png`` and ``summary.json``.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of an ``IKCalculator`` for ``settings.model``, or an engine.

    Returns:
        The summary; look at ``converged``.

    Raises:
        DataError: The folder already holds a relaxation or one of the input files, or is in use by another process; or
            the cell of an open structure is to be relaxed.
        ExplosionError: Energy or forces became NaN.
    """
    with locked_folder(settings.output) as folder, running(settings, calculator) as engine:
        return _relaxed(settings, folder, atoms, engine)


def _relaxed(settings: RelaxSettings, folder: Path, atoms: Atoms | None, engine: Engine) -> RelaxSummary:
    """Relax a structure in the locked folder."""
    engine.code.expect(settings.steps, sure=False)
    check_free(folder, FILES, overwrite=settings.overwrite)
    check_inputs(folder, FILES, [settings.structure if atoms is None else None, settings.model])
    structure = starting_structure(settings, atoms)
    structure.calc = engine.calculator
    target = structure if settings.cell == "fixed" else cell_filter(structure, settings)
    structure.get_forces()
    warn_of_lost(structure, settings.trajectory)
    clear_folder(folder, FILES)
    record, watch = Record(target, structure, folder, settings.trajectory), CodeWatch(engine.code)
    watch.begin(0)
    optimizer = _OPTIMIZERS[settings.optimizer](target, logfile=None)
    with tqdm(total=settings.steps, unit="step", desc="relax", disable=not settings.progress) as bar:

        def after_step() -> None:
            row = record.add(optimizer.nsteps)
            watch.look(optimizer.nsteps)
            engine.heights.look(structure, optimizer.nsteps)
            bar.set_postfix_str(_progress(row), refresh=False)
            bar.update(optimizer.nsteps - bar.n)

        optimizer.attach(after_step)
        try:
            converged = bool(optimizer.run(fmax=settings.fmax, steps=settings.steps))
        except KeyboardInterrupt:
            _log.warning(
                "stopped after %d steps; continue from the last structure in %s",
                *(optimizer.nsteps, record.frames.path),
            )
            raise
    steps, compiled_from = int(optimizer.nsteps), watch.compiled_from
    return finish(record, structure, settings, folder, converged=converged, steps=steps, compiled_from=compiled_from)


def _progress(row: Row) -> str:
    """The text of the progress bar."""
    cell = f" (cell {row['fmax_cell']:.3f})" if "fmax_cell" in row else ""
    return f"fmax {row['fmax']:.3f}{cell} eV/A"
