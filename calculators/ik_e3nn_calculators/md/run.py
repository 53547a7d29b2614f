"""Molecular dynamics from settings to a folder with trajectory, log, plots and summary: prepare, integrate, finish."""

import logging
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator

from ik_e3nn.errors import ExplosionError
from ik_e3nn.locking import locked_folder
from ik_e3nn_calculators.md.files import CHECKPOINT, LAST_FRAMES
from ik_e3nn_calculators.md.finish import MDSummary, finish
from ik_e3nn_calculators.md.prepare import prepare, reopen
from ik_e3nn_calculators.md.record import Record
from ik_e3nn_calculators.md.settings import ExplosionLimits, MDSettings
from ik_e3nn_calculators.runs import Engine, running

__all__ = ["ExplosionLimits", "MDSettings", "MDSummary", "run_md"]

_log = logging.getLogger(__name__)


def run_md(
    settings: MDSettings, *, atoms: Atoms | None = None, calculator: Calculator | Engine | None = None
) -> MDSummary:
    """Run molecular dynamics, or continue it.

    The folder receives ``log.csv``, the trajectory (the run proper, not the equilibration), ``final.extxyz``,
    ``energy.png``, ``temperature.png``, ``summary.json``, and what a restart needs: ``start.traj``, ``settings.json``
    and ``checkpoint.npz``. A restart continues from the last checkpoint and gives the same bits as an uninterrupted run
    on the same CPU; rows and frames written after that checkpoint are dropped and written again.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of an ``IKCalculator`` for ``settings.model``; any ASE calculator, or an
            engine.

    Returns:
        The summary, which is also in ``summary.json``.

    Raises:
        ExplosionError: The structure left the physical range. Trajectory, log, plots and summary up to then are kept,
            and the last structures are in ``last_frames.extxyz``.
        DataError: The folder already holds a run or one of the input files, is in use by another process, or cannot be
            written to; a restart has other physics than the run, or its log is damaged; or the structure does not suit
            the ensemble.
        ModelFileError: The model file is missing or broken.
    """
    with locked_folder(settings.output) as folder, running(settings, calculator) as engine:
        return _run(settings, folder, atoms, engine)


def _run(settings: MDSettings, folder: Path, atoms: Atoms | None, engine: Engine) -> MDSummary:
    """Make or continue a run in its locked folder."""
    engine.code.expect(settings.num_equilibration_steps + settings.num_steps)
    if settings.restart and (folder / CHECKPOINT).exists():
        dynamics = reopen(settings, folder, engine)
        record = Record(dynamics, settings, folder)
        record.resume()
    else:
        dynamics = prepare(settings, folder, atoms, engine)
        record = Record(dynamics, settings, folder)
        record.begin()
    try:
        dynamics.run(after_step=record.add)
        record.save()
    except KeyboardInterrupt:
        _log.warning(
            "stopped at step %d; the same command with --restart continues from the last checkpoint, step %d",
            *(dynamics.step, record.saved),
        )
        raise
    except ExplosionError as error:
        record.keep_last_frames()
        finish(dynamics, record, settings, folder, message=str(error))
        raise ExplosionError(f"{error} (the last good frames are in {folder / LAST_FRAMES})") from error
    return finish(dynamics, record, settings, folder)
