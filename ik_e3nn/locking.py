"""Locks that let one process at a time write to a folder or a file, and that end with the process."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ik_e3nn.atomic import remove_unfinished
from ik_e3nn.errors import DataError
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def locked_folder(path: str | Path, *, called: str = "the output folder") -> Iterator[Path]:
    """Make a folder, check that it is writable, and lock other processes out of it inside the block.

    The operating system releases the lock when the process ends, however it ends. Folders that were made for the block
    are removed after it if nothing has been written to them.

    Args:
        path: The folder; it need not exist.
        called: Its name in messages.

    Yields:
        The folder.

    Raises:
        DataError: Another process (or another run of this process) uses the folder, or it cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as top, locked_folder(f"{top}/run") as folder:
        ...     sorted(file.name for file in folder.iterdir())
        ['.lock']
    """
    folder = user_path(path)
    what = f"{called} {folder}"
    made = _make(folder, what)
    try:
        with _held(folder / LOCK, what, "wait until it has finished, or choose another output folder"):
            remove_unfinished(folder)
            yield folder
    finally:
        _remove_empty(made)


@contextmanager
def locked_file(path: str | Path) -> Iterator[Path]:
    """Make the folder of a file, and keep other processes from writing the same file inside the block.

    Args:
        path: The file; it is neither created nor opened.

    Yields:
        The file.

    Raises:
        DataError: Another process is writing the file, or its folder cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as top, locked_file(f"{top}/a.xyz") as file:
        ...     file.name
        'a.xyz'
    """
    file = user_path(path)
    made = _make(file.parent, f"the folder {file.parent}")
    try:
        with _held(file.with_name(f".{file.name}{LOCK}"), str(file), "wait until it has finished, or choose another"):
            yield file
    finally:
        _remove_empty(made)


@contextmanager
def _held(file: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock file; if the file system does not support locks, warn and continue without."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"another process is writing to {what}; {advice}") from error
    except PermissionError as error:
        raise DataError(f"cannot write to {what}: {error.strerror or error} ({file.name})") from error
    except (NotImplementedError, OSError) as error:
        if not os.access(file.parent, os.W_OK):
            raise DataError(f"cannot write to {what}: {error}") from error
        _log.warning("%s cannot be locked (%s); make sure that no other process writes there", what, error)
    try:
        yield
    finally:
        if lock.is_locked and os.name == "posix":  # other systems cannot remove an open file
            file.unlink(missing_ok=True)  # while it is held, so that nobody else's lock is removed
        lock.release()


def _make(folder: Path, what: str) -> list[Path]:
    """Make a folder and its parents, and return the new ones, innermost first."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {what}: {error.strerror or error}") from error
    return made


def _remove_empty(folders: list[Path]) -> None:
    """Remove empty folders, up to the first that is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone already
            return
