"""The folder of a run: protected from being overwritten, and cleared for a new one; see also ``ik_e3nn.locking``."""

from collections.abc import Sequence
from pathlib import Path

from ik_e3nn.data.files.writing import check_not_read
from ik_e3nn.errors import DataError
from ik_e3nn.user_path import is_file


def check_free(path: str | Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a folder that holds a run already, before any work is done for it.

    Args:
        path: The folder; it need not exist.
        names: Names of the files that a run leaves.
        overwrite: Accept it all the same.

    Raises:
        DataError: It holds such files and may not be overwritten.
    """
    there = [name for name in names if (Path(path) / name).exists()]
    if there and not overwrite:
        raise DataError(
            f"{path} holds a run already ({', '.join(there[:3])}); choose another output folder, or say --overwrite"
        )


def check_inputs(folder: str | Path, names: Sequence[str], inputs: Sequence[str | Path | None]) -> None:
    """Refuse to read a file that the run itself would replace, such as the last structure of the run before it.

    Args:
        folder: The folder of the run.
        names: Names of the files that a run leaves.
        inputs: What is read: files, or what stands in their place, such as SMILES strings or None.

    Raises:
        DataError: One of the files is read.
    """
    files = [source for source in inputs if source is not None and is_file(source)]
    check_not_read([Path(folder) / name for name in names], files, advice="choose another output folder")


def clear_folder(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier run left in a folder; see ``check_free``.

    Args:
        folder: The folder.
        names: Names of the files that a run leaves; no others are removed.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
