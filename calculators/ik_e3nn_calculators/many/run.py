"""Dynamics and relaxations of many structures, each in a folder of its own, with common calls of the model."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from ase import Atoms
from tqdm.auto import tqdm

from ik_e3nn.errors import ExplosionError, IKError
from ik_e3nn.locking import locked_folder
from ik_e3nn_calculators.calculator.calculator import IKCalculator
from ik_e3nn_calculators.calculator.evaluator import Predict
from ik_e3nn_calculators.many.group import Group, Job
from ik_e3nn_calculators.many.settings import ManyMDSettings, ManyRelaxSettings, are_many, settings_of_one
from ik_e3nn_calculators.many.starts import Start, starts_of
from ik_e3nn_calculators.many.table import TABLE, WAITING, Table, read_table
from ik_e3nn_calculators.md import files as md_files
from ik_e3nn_calculators.md.run import MDSettings, MDSummary, run_md
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.relax.run import FILES as RELAX_FILES
from ik_e3nn_calculators.relax.run import RelaxSettings, RelaxSummary, run_relax
from ik_e3nn_calculators.runs import Engine, running

__all__ = ["ManyMDSettings", "ManyRelaxSettings", "ManySummary", "md", "relax", "run_many_md", "run_many_relax"]

_log = logging.getLogger(__name__)

_NOT_RESULTS = ("status", "output", "structure", "trajectory", "message")  # of summaries; the folder says where
FINISHED, NOT_CONVERGED, EXPLODED, FAILED = "finished", "not converged", "exploded", "failed"


@dataclass(frozen=True)
class ManySummary:
    """Summary of runs of many structures.

    Args:
        structures: Number of structures.
        finished: Number of runs that have finished, and converged if they are relaxations.
        not_converged: Number of relaxations that have not converged; None for dynamics.
        exploded: Number of structures that left the physical range.
        failed: Number of structures that could not be computed.
        output: The folder of all.
        table: The table with a row for each structure.
    """

    structures: int
    finished: int
    not_converged: int | None
    exploded: int
    failed: int
    output: str
    table: str

    @property
    def converged(self) -> bool:
        """Whether all runs have finished, and converged if they are relaxations."""
        return self.finished == self.structures


@dataclass(frozen=True)
class _Kind:
    """What dynamics and relaxations of many structures differ in."""

    settings: type[Any]
    run: Callable[..., MDSummary | RelaxSummary]
    summary: type[Any]
    files: Sequence[str]
    name: str
    go_on: str


_MD = _Kind(
    MDSettings, run_md, MDSummary, md_files.ALL, "md",
    "the same command with --restart continues all runs from their last checkpoints",
)  # fmt: skip
_RELAX = _Kind(
    RelaxSettings, run_relax, RelaxSummary, RELAX_FILES, "relax",
    "the structures that have ended are complete, and the others can be continued from their trajectories",
)  # fmt: skip


def md(settings: ManyMDSettings) -> MDSummary | ManySummary:
    """The command ``ik-e3nn md``: ``run_md`` for one structure, ``run_many_md`` for many."""
    return run_many_md(settings) if are_many(settings) else run_md(settings_of_one(settings, MDSettings))


def relax(settings: ManyRelaxSettings) -> RelaxSummary | ManySummary:
    """The command ``ik-e3nn relax``: ``run_relax`` for one structure, ``run_many_relax`` for many."""
    return run_many_relax(settings) if are_many(settings) else run_relax(settings_of_one(settings, RelaxSettings))


def run_many_md(settings: ManyMDSettings, *, structures: Sequence[Atoms] | None = None) -> ManySummary:
    """Run molecular dynamics of many structures at once, or continue it.

    Each structure has a folder of its own, with the files of ``run_md``, and its run is the same as alone, with the
    seed of the settings plus the number of the structure. The model evaluates all structures in one call, or as many as
    have ``batch_atoms`` atoms together. ``structures.csv`` has a row for each.

    Args:
        settings: The settings.
        structures: Structures to use instead of those of the settings; they are copied.

    Returns:
        The summary. A structure that cannot be computed does not stop the others; the log and the table say why.

    Raises:
        DataError: A source is neither a readable file nor a SMILES string; the folder already holds runs, or is in use
            by another process; or other runs are to be continued.
        ModelFileError: The model file is missing or broken.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     settings = ManyMDSettings(
        ...         "[H][H]", more=["[H][H]"], steps=2, output=folder, progress=False, plots=False
        ...     )
        ...     run_many_md(settings).finished
        2
    """
    with locked_folder(settings.output) as folder, running(settings, None) as engine:
        return _run_all(_MD, settings, folder, structures, engine)


def run_many_relax(settings: ManyRelaxSettings, *, structures: Sequence[Atoms] | None = None) -> ManySummary:
    """Relax many structures at once, each with its own number of steps; constraints are respected.

    Each structure has a folder of its own, with the files of ``run_relax``; all else is as for ``run_many_md``.

    Args:
        settings: The settings.
        structures: Structures to use instead of those of the settings; they are copied.

    Returns:
        The summary; look at ``converged``.

    Raises:
        DataError: As for ``run_many_md``.
        ModelFileError: The model file is missing or broken.

    Example:
        >>> import tempfile
        >>> from ase.build import molecule
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     settings = ManyRelaxSettings("none", fmax=0.1, output=folder, progress=False, plots=False)
        ...     run_many_relax(settings, structures=[molecule("H2"), molecule("H2O")]).converged
        True
    """
    with locked_folder(settings.output) as folder, running(settings, None) as engine:
        return _run_all(_RELAX, settings, folder, structures, engine)


def _run_all(
    kind: _Kind,
    settings: ManyMDSettings | ManyRelaxSettings,
    folder: Path,
    structures: Sequence[Atoms] | None,
    engine: Engine,
) -> ManySummary:
    """Make all runs in the locked folder."""
    starts = starts_of(settings, structures)
    columns = [one.name for one in fields(kind.summary) if one.name not in _NOT_RESULTS]
    table = Table(folder, starts, columns)
    jobs = [_job(kind, settings, start, table, engine) for start in starts]
    _take_folder(kind, settings, folder, table)
    table.write()
    _run_group(kind, settings, jobs, engine, table)
    return ManySummary(
        structures=len(starts),
        finished=table.count(FINISHED),
        not_converged=table.count(NOT_CONVERGED) if kind is _RELAX else None,
        exploded=table.count(EXPLODED),
        failed=table.count(FAILED),
        output=str(folder),
        table=str(table.path),
    )


def _take_folder(kind: _Kind, settings: ManyMDSettings | ManyRelaxSettings, folder: Path, table: Table) -> None:
    """Check that the folder may be written to, and remove the runs that are to be replaced."""
    before = read_table(folder)
    if before and getattr(settings, "restart", False):
        table.check_same(before)
        return
    old = [folder / row["folder"] for row in before if row["folder"] == Path(row["folder"]).name]
    places = [folder, *dict.fromkeys([*old, *table.folders])]
    for place in places:
        names = [TABLE, *kind.files] if place == folder else kind.files
        check_free(place, names, overwrite=settings.overwrite)
        check_inputs(place, names, [settings.structure, *settings.more, settings.model])
    for place in places:
        if place.is_dir():
            clear_folder(place, kind.files)
    for place in old:
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _job(kind: _Kind, settings: ManyMDSettings | ManyRelaxSettings, start: Start, table: Table, engine: Engine) -> Job:
    """The run of one structure."""
    folder = str(table.path.parent / start.name)
    one = settings_of_one(
        settings, kind.settings, structure=start.source, seed=start.seed, frame=None, output=folder, progress=False
    )

    def work(predict: Predict) -> MDSummary | RelaxSummary:
        if isinstance(start.atoms, Exception):
            raise start.atoms
        return kind.run(one, atoms=start.atoms, calculator=engine.sharing(predict))

    size = 0 if isinstance(start.atoms, Exception) else len(start.atoms)
    return Job(start.name, size, work, partial(_report, table, start))


def _run_group(
    kind: _Kind, settings: ManyMDSettings | ManyRelaxSettings, jobs: Sequence[Job], engine: Engine, table: Table
) -> None:
    """Make the runs of all jobs, with progress."""
    group = Group(cast(IKCalculator, engine.calculator).whole, batch_atoms=settings.batch_atoms)
    with tqdm(total=len(jobs), unit="structure", desc=kind.name, miniters=0, disable=not settings.progress) as bar:

        def after_call(running: int, calls: int) -> None:
            bar.set_postfix_str(f"{running} running, evaluation {calls}", refresh=False)
            bar.update(len(jobs) - table.count(WAITING) - bar.n)

        try:
            group.run(jobs, after_call)
        except KeyboardInterrupt:
            _log.warning(
                "stopped; %d of %d structures have ended, see %s; %s",
                *(len(jobs) - table.count(WAITING), len(jobs), table.path, kind.go_on),
            )
            raise


def _report(table: Table, start: Start, outcome: Any) -> None:
    """Write the outcome of a run into the table, and report an error."""
    if not isinstance(outcome, Exception):
        status = FINISHED if getattr(outcome, "converged", True) else NOT_CONVERGED
        table.set(start.number, status, asdict(outcome), outcome.message)
        return
    expected = isinstance(outcome, IKError | OSError | ValueError)
    message = str(outcome) if expected else f"{type(outcome).__name__}: {outcome}"
    _log.error("%s (%s): %s", start.name, start.source, message)
    _log.debug("%s", start.name, exc_info=outcome)
    table.set(start.number, EXPLODED if isinstance(outcome, ExplosionError) else FAILED, {}, message)
