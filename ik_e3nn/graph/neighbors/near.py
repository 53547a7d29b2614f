"""Pairs of near atoms, with their distances in A and relative to covalent radii."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.graph.neighbors.search import neighbor_list


class NearPairs(NamedTuple):
    """Pairs of atoms, including periodic images, each in both directions.

    Attributes:
        sender: One atom of each pair, (E,).
        receiver: The other atom, (E,), in ascending order.
        vectors: Vectors from the sender, or its image, to the receiver, (E, 3), in A.
        distances: Lengths of the vectors, (E,), in A.
        ratios: Distances over the sums of the covalent radii, (E,).
    """

    sender: IntArray
    receiver: IntArray
    vectors: FloatArray
    distances: FloatArray
    ratios: FloatArray


def near_pairs(atoms: Atoms, reach: float) -> NearPairs:
    """All pairs of atoms at a distance below ``reach``.

    Args:
        atoms: The structure; it is only read.
        reach: Distance in A.

    Returns:
        The pairs.

    Raises:
        DataError: The neighbor search fails; see ``neighbor_list``.

    Example:
        >>> found = near_pairs(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), 1.0)
        >>> found.sender.tolist(), found.distances.tolist(), found.ratios.round(2).tolist()
        ([1, 0], [0.74, 0.74], [1.19, 1.19])
    """
    (sender, receiver), shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    vectors = atoms.positions[receiver] - atoms.positions[sender] + shifts @ atoms.cell.array
    distances = np.linalg.norm(vectors, axis=1)
    radii = covalent_radii[atoms.numbers]
    return NearPairs(sender, receiver, vectors, distances, distances / (radii[sender] + radii[receiver]))
