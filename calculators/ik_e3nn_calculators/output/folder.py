"""The folder of a run: protected from being overwritten, and cleared for a new run; see also ``ik_e3nn.locking``."""

from collections.abc import Sequence
from pathlib import Path

from ik_e3nn.data.files.writing import check_not_read
from ik_e3nn.errors import DataError
from ik_e3nn.user_path import is_file


def check_free(path: str | Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a folder that already holds a run, before any work is done.

    Args:
        path: The folder; it need not exist.
        names: Names of the files that a run leaves.
        overwrite: Accept the folder anyway.

    Raises:
        DataError: The folder holds such files, and ``overwrite`` is false.
    """
    there = [name for name in names if (Path(path) / name).exists()]
    if there and not overwrite:
        raise DataError(
            f"{path} already holds a run ({', '.join(there[:3])}); choose another output folder, or give --overwrite"
        )


def check_inputs(folder: str | Path, names: Sequence[str], inputs: Sequence[str | Path | None]) -> None:
    """Refuse to read a file that the run itself would replace, such as the last structure of the run before it.

    Args:
        folder: The folder of the run.
        names: Names of the files that a run leaves.
        inputs: Input files; entries that are no files, such as SMILES strings and None, are ignored.

    Raises:
        DataError: An input is one of the files of the run.
    """
    files = [source for source in inputs if source is not None and is_file(source)]
    check_not_read([Path(folder) / name for name in names], files, advice="choose another output folder")


def clear_folder(folder: Path, names: Sequence[str]) -> None:
    """Remove the files of an earlier run from a folder; see ``check_free``.

    Args:
        folder: The folder.
        names: Names of the files that a run leaves; no others are removed.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
