"""The folder of a run: its files, and the rule that nothing is overwritten by accident."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from logging.handlers import MemoryHandler
from pathlib import Path

from ik_e3nn.atomic import naming, remove_unfinished
from ik_e3nn.data.files.writing import check_not_read
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.locking import locked_folder
from ik_e3nn.user_path import user_path

CONFIG = "config.yaml"
MODEL = "model.safetensors"
METRICS = "metrics.json"
LOG = "train.log"
CHECKPOINTS = "checkpoints"
SET_ASIDE = "set_aside"
DATA = "data.json"
FINETUNE, FINETUNE_PAGE = "finetune.json", "finetune.md"
UNCERTAINTY = "uncertainty.safetensors"

_ASIDE = ".replaced"
_OURS = (
    CONFIG,
    MODEL,
    METRICS,
    LOG,
    CHECKPOINTS,
    FINETUNE,
    FINETUNE_PAGE,
    UNCERTAINTY,
    SET_ASIDE,
    DATA,
    "metrics.csv",
    "metrics.jsonl",
    "tensorboard",
)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run's folder inside the block.

    Raises:
        ConfigError: Another process is at work there, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked_folder(folder, called="the folder"))
        except DataError as error:
            raise ConfigError(f"run.output: {error}") from error
        yield


def open_run_folder(path: str | Path, *, resume: bool, overwrite: bool) -> Path:
    """Make the folder of a run, or open the folder of an earlier run.

    Args:
        path: The folder.
        resume: Continue the run that is there.
        overwrite: Set the files of an earlier run aside: ``settle`` removes them, ``abandon`` restores them.

    Returns:
        The folder.

    Raises:
        ConfigError: There is an earlier run and neither ``resume`` nor ``overwrite``, or the folder cannot be written.
    """
    folder = user_path(path)
    try:
        earlier = [name for name in _OURS if (folder / name).exists()] if folder.exists() else []
        if earlier and not resume and not overwrite:
            raise ConfigError(
                f"run.output: {folder} already holds a run ({earlier[0]}); continue it with --resume, replace it with "
                "--run.overwrite=true, or choose another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        if overwrite and not resume:
            _set_aside(folder, earlier)
            (folder / CHECKPOINTS).mkdir(exist_ok=True)
        remove_unfinished(folder / CHECKPOINTS)
        (folder / LOG).touch()
    except OSError as error:
        raise ConfigError(f"run.output: cannot write to the folder {folder}: {error.strerror}.") from error
    return folder


def has_begun(folder: Path) -> bool:
    """Whether a run has written its settings to a folder, so that the configuration there is not the user's own."""
    return (folder / DATA).exists() or (folder / CHECKPOINTS / "last.ckpt").exists()


def check_inputs(folder: Path, inputs: Sequence[str | Path]) -> None:
    """Raise if replacing the run in a folder would remove files that the new run reads.

    Args:
        folder: The folder.
        inputs: Files, globs or folders that are read.

    Raises:
        DataError: Names a file of the earlier run that the new one reads.
    """
    places = [folder / name for name in _OURS]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    check_not_read(files, inputs, advice="choose another run.output")


def abandon(folder: Path) -> None:
    """Undo ``open_run_folder`` after a run that failed before its first checkpoint; an earlier run is restored."""
    _remove(folder, _OURS)
    aside = folder / _ASIDE
    if aside.exists():
        for place in aside.iterdir():
            place.replace(folder / place.name)
        aside.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def settle(folder: Path) -> None:
    """Remove the files of an overwritten run, once the new one has a model."""
    _remove(folder, [_ASIDE])


def _set_aside(folder: Path, names: Sequence[str]) -> None:
    aside = folder / _ASIDE
    if aside.exists():  # left by a run that was killed while it replaced another: the older one is worth keeping
        _remove(folder, names)
        return
    aside.mkdir()
    for name in names:
        (folder / name).replace(aside / name)


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        place = folder / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


class _LogFile(logging.FileHandler):
    """A log whose errors, such as a full disk, stop the run and name the file; by default logging would ignore them."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming(self.baseFilename):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        raise  # noqa: PLE0704  (called by `emit` while it handles the error)


class _Held(MemoryHandler):
    """Keeps messages until ``let_go`` is called, and from then on passes each on at once."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(0, target=target, flushOnClose=False)
        self.held = True

    def shouldFlush(self, record: logging.LogRecord) -> bool:  # noqa: N802  (logging's name)
        return not self.held

    def let_go(self) -> None:
        self.held = False
        self.flush()


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[Callable[[], None]]:
    """Append this library's messages to a file inside the block.

    Args:
        path: The file.

    Yields:
        A function that writes the messages so far and all later ones; before it is called, none are written.
    """
    logger = logging.getLogger("ik_e3nn")
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    held = _Held(handler)
    level = logger.level
    logger.addHandler(held)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    try:
        yield held.let_go
    finally:
        logger.removeHandler(held)
        held.setTarget(None)  # nothing more is written, not even when Python exits
        held.close()
        logger.setLevel(level)
        with contextlib.suppress(OSError):  # already reported when a message could not be written
            handler.close()
