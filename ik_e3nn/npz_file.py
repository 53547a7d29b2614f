"""Array files of runs: written atomically, and checked for damage when they are read."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays in a file of ``numpy.savez``, and check its checksums.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, is not such a file, or is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.npz"
        ...     write_npz(path, {"x": np.arange(3)})
        ...     read_npz(path)
        {'x': array([0, 1, 2])}
    """
    try:
        with zipfile.ZipFile(path) as file:  # numpy may stop reading before it sees a wrong checksum
            damaged = file.testzip()
        if damaged is None:
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
    except Exception as error:  # damaged content can raise any kind of error
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read as a file of arrays ({reason})") from error
    raise DataError(f"{path} is damaged (the checksum of {damaged} is wrong)")


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays with ``numpy.savez``; a kill at any moment leaves either the old file or the new one.

    Args:
        path: The file.
        arrays: The arrays by their names.
    """
    with written_at_once(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
