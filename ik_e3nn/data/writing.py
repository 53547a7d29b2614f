"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ase.io
from ase import Atoms

from ik_e3nn.errors import DataError


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path beside the target that takes the target's place when the block ends well.

    Args:
        path: The target.
        overwrite: Whether an existing file may be replaced.

    Yields:
        The temporary path, with the target's suffixes, to write to.

    Raises:
        DataError: The target exists and must not be replaced, or its folder cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(f"{folder}/note.txt") as temporary:
        ...         _ = temporary.write_text("done")
        ...     (Path(folder) / "note.txt").read_text()
        'done'
    """
    target = Path(path).expanduser()
    refuse_existing(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=f"-{target.name}", dir=target.parent)
    except OSError as error:
        raise DataError(f"cannot write to the folder {target.parent}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: str | Path, *, overwrite: bool) -> None:
    """Raise if a file is there and must not be replaced.

    Args:
        path: The file.
        overwrite: Whether it may be replaced.

    Raises:
        DataError: It is there and may not be.

    Example:
        >>> refuse_existing("no/such/file.xyz", overwrite=False)
    """
    if Path(path).expanduser().exists() and not overwrite:
        raise DataError(f"{path} exists already; give another name, or say --overwrite (overwrite=True) to replace it")


def write_structures(path: str | Path, structures: Sequence[Atoms], *, overwrite: bool = False) -> None:
    """Write structures in the format of the file's suffix, at once.

    Args:
        path: The file; extxyz for `.xyz`.
        structures: The structures; they are only read.
        overwrite: Whether an existing file may be replaced.

    Raises:
        DataError: The file exists and must not be replaced, or its folder cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_structures(f"{folder}/a.xyz", [Atoms("H")])
        ...     len(ase.io.read(f"{folder}/a.xyz"))
        1
    """
    name = Path(path).name.lower()
    layout = "extxyz" if name.removesuffix(".gz").endswith((".xyz", ".extxyz")) else None
    with whole_file(path, overwrite=overwrite) as temporary:
        ase.io.write(temporary, list(structures), format=layout)


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
