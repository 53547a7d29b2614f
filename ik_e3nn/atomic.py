"""Files that are written atomically: completely or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_UNFINISHED = ".writing-"


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the name of the file to errors of the operating system that lack it, such as that of a full disk.

    Example:
        >>> with naming("log.csv"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        ...
        OSError: [Errno 28] No space left on device: 'log.csv'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def written_at_once(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a new file that replaces the old one when all is on disk; after an error, nothing has changed.

    Args:
        path: The file.
        mode: Its permissions, of which the user's mask takes some away.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, written_at_once(Path(folder) / "a.bin") as file:
        ...     file.write(b"abc")
        3
    """
    ending = f"-{path.name}"  # whose suffix tells some writers the format
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, suffix=ending, delete=False)  # noqa: SIM115
    try:
        with naming(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden = os.umask(0)  # temporary files are private; this one gets the user's permissions
        os.umask(hidden)
        os.chmod(file.name, mode & ~hidden)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


@contextmanager
def together(*files: Path) -> Iterator[None]:
    """Remove all new files of a group if one of the group cannot be written.

    Args:
        files: The files that are written inside the block.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table, plot = Path(folder) / "a.csv", Path(folder) / "a.png"
        ...     try:
        ...         with together(table, plot):
        ...             _ = table.write_text("1")
        ...             raise OSError(28, "No space left on device")
        ...     except OSError:
        ...         table.exists()
        False
    """
    new = [file for file in files if not file.exists()]
    try:
        yield
    except BaseException:
        for file in new:
            file.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove unfinished files of ``written_at_once`` that killed processes have left in a folder.

    Args:
        folder: A folder that no other process is writing to.
    """
    for file in folder.glob(f".*{_UNFINISHED[1:]}*"):
        file.unlink(missing_ok=True)
