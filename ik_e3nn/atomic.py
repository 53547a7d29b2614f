"""Files that are written at once or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_UNFINISHED = ".writing-"


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the operating system say which file they are about: a full disk does not.

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
def written_at_once(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes its place when all is written and on disk; after an error, nothing has changed.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, written_at_once(Path(folder) / "a.bin") as file:
        ...     file.write(b"abc")
        3
    """
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}{_UNFINISHED}", delete=False)  # noqa: SIM115
    try:
        with naming(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden = os.umask(0)  # temporary files are for their owner alone; this one gets what the user's files get
        os.umask(hidden)
        os.chmod(file.name, 0o666 & ~hidden)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


@contextmanager
def together(*files: Path) -> Iterator[None]:
    """Remove files that belong together, as far as they are new, where not all of them can be written.

    Args:
        files: What is written inside.

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
    """Remove what killed processes have left of files that ``written_at_once`` was writing in a folder.

    Args:
        folder: A folder that no other process is writing to.
    """
    for file in folder.glob(f".*{_UNFINISHED}*"):
        file.unlink(missing_ok=True)
