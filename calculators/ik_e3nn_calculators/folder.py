"""The folder of a run: made, protected from being overwritten, or taken up again."""

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


def claim_folder(path: str | Path, names: Sequence[str]) -> Path:
    """Make a folder for a run and remove what an earlier run left in it; see `check_free`.

    Args:
        path: The folder.
        names: Names of the files that a run leaves; no others are removed.

    Returns:
        The folder.

    Raises:
        DataError: It cannot be written to.
    """
    folder = make_folder(path)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return folder


def make_folder(path: str | Path) -> Path:
    """Make a folder that can be written to.

    Raises:
        DataError: It cannot be made or written to.
    """
    folder = Path(path)
    probe = folder / ".write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"cannot write to the output folder {folder}: {error.strerror or error}") from error
    return folder
