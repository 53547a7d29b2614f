"""The structure of a file that may hold several."""

import logging
from pathlib import Path

from ase import Atoms

from ik_e3nn.data import read_structures

_log = logging.getLogger(__name__)


def last_structure(path: str | Path) -> Atoms:
    """The last structure of a file; of several it is said which one is taken.

    Args:
        path: The file.

    Returns:
        The structure.

    Raises:
        DataError: The file cannot be read.
    """
    structures = read_structures(path)
    if len(structures) > 1:
        _log.warning("%s holds %d structures; the last one is taken", path, len(structures))
    return structures[-1]
