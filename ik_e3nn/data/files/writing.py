"""Writing of files that are either complete or do not exist."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ase.io
from ase import Atoms

from ik_e3nn.atomic import written_at_once
from ik_e3nn.data.files.extxyz import is_extxyz, storable
from ik_e3nn.errors import DataError
from ik_e3nn.user_path import user_path


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path beside the target, which replaces the target if the block ends without an error.

    Args:
        path: The target.
        overwrite: Whether an existing file may be replaced.

    Yields:
        The temporary path, with the target's suffixes, to write to.

    Raises:
        DataError: The target exists and may not be replaced, or its folder cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(f"{folder}/note.txt") as temporary:
        ...         _ = temporary.write_text("done")
        ...     (Path(folder) / "note.txt").read_text()
        'done'
    """
    target = user_path(path)
    check_output(target, overwrite=overwrite)
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(written_at_once(target))
        except OSError as error:
            raise DataError(f"cannot write to the folder {target.parent}: {error.strerror}") from error
        yield Path(file.name)


def check_output(path: str | Path, *, overwrite: bool, inputs: Sequence[str | Path] = ()) -> None:
    """Raise if a file cannot be written, before any work is done.

    Args:
        path: The file.
        overwrite: Whether it may be replaced.
        inputs: Files, globs or folders that are read; the output must not replace any of them.

    Raises:
        DataError: The file exists and may not be replaced, is a folder, only a suffix like ".xyz", or one of the
            inputs, or its folder cannot be written to.

    Example:
        >>> check_output("no/such/file.xyz", overwrite=False)
    """
    target = user_path(path)
    if target.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file, like {target / 'output'}")
    ending = target.name.removesuffix(".gz")
    if ending.startswith(".") and "." not in ending[1:]:
        raise DataError(
            f"{path} is only the ending of a name; write a name before it, like {target.parent / 'output'}{ending}"
        )
    if target.exists() and not overwrite:
        raise DataError(f"{path} exists already; give another name, or use --overwrite (overwrite=True) to replace it")
    check_not_read([path], inputs)
    if target.is_symlink() and not target.exists():
        raise DataError(f"{path} is a link to a file that does not exist; remove the link, or give another name")
    folder = next(place for place in target.absolute().parents if place.exists())
    if not folder.is_dir():
        raise DataError(f"cannot write to the folder {target.parent}: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"cannot write to the folder {folder}: permission denied; give another folder")


def check_not_read(
    files: Iterable[str | Path], inputs: Sequence[str | Path], *, advice: str = "give another name"
) -> None:
    """Raise if an output file is one of the input files, under any name.

    Args:
        files: Files that are written or removed; they need not exist.
        inputs: Files, globs or folders that are read.
        advice: What the user should do instead, for the message.

    Raises:
        DataError: An output file is an input file; the message names the first one.

    Example:
        >>> check_not_read(["no/such/file.xyz"], ["data.xyz"])
    """
    there = [path for path in files if user_path(path).exists()]
    read = _files_of(inputs) if there else []
    for path in there:
        if any(user_path(path).samefile(file) for file in read):
            raise DataError(f"{path} is read by this command, and would be replaced by its output; {advice}")


def _files_of(inputs: Sequence[str | Path]) -> list[Path]:
    """The files of paths and globs, including the files in folders."""
    files = []
    for given in inputs:
        place = user_path(given)
        found = [place] if place.exists() else [Path(match) for match in glob.glob(str(place), recursive=True)]
        files += [file for one in found for file in (one.iterdir() if one.is_dir() else [one])]
    return [file for file in files if file.exists()]


def write_structures(path: str | Path, structures: Sequence[Atoms], *, overwrite: bool = False) -> None:
    """Write structures in the format of the file's suffix; an error leaves no partial file.

    Only extxyz keeps all of a structure's labels, arrays and entries of ``info``; see ``storable``.

    Args:
        path: The file; extxyz for ``.xyz``, other formats are ASE's.
        structures: The structures; they are only read.
        overwrite: Whether an existing file may be replaced.

    Raises:
        DataError: The file exists and may not be replaced, or its folder cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_structures(f"{folder}/a.xyz", [Atoms("H")])
        ...     len(ase.io.read(f"{folder}/a.xyz"))
        1
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        if is_extxyz(path):
            ase.io.write(temporary, storable(structures), format="extxyz")
        else:
            ase.io.write(temporary, list(structures))
