"""The folder of a run: protected from being overwritten, and cleared for a new one; see also `ik_e3nn.locking`."""

from collections.abc import Sequence
from pathlib import Path

from ik_e3nn.errors import DataError


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


def clear_folder(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier run left in a folder; see `check_free`.

    Args:
        folder: The folder.
        names: Names of the files that a run leaves; no others are removed.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
