"""A known pose of a molecule, such as that of a crystal structure, to measure the distance of others from."""

import logging

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.dock.ligand import Ligand, heavy_graph, read_ligand

_log = logging.getLogger(__name__)


def reference_pose(ligand: Ligand, source: str | None) -> NDArray[np.float64] | None:
    """Heavy atoms of a known pose, in the order of the ligand's.

    Args:
        ligand: The molecule.
        source: File of the pose; None for none.

    Returns:
        (n, 3), in A; None where the file holds another molecule.
    """
    if source is None:
        return None
    try:
        known = read_ligand(source, 1, 0)
    except DataError as error:
        _log.warning("no distances from %s: %s", source, error)
        return None
    match = heavy_graph(known.molecule).GetSubstructMatch(heavy_graph(ligand.molecule))
    if len(match) != len(ligand.heavy) or len(match) != len(known.heavy):
        _log.info("%s holds another molecule than the ligand; no distances from it", source)
        return None
    positions: NDArray[np.float64] = known.conformers[0].positions[known.heavy][list(match)]
    return positions
