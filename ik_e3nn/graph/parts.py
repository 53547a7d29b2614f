"""Connected parts of a structure or any other set of linked items."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ik_e3nn.arrays import IntArray


def parts(first: IntArray, second: IntArray, number: int) -> IntArray:
    """Number of the connected part of each item, (N,).

    Args:
        first: One end of each link.
        second: Its other end.
        number: How many items there are, N.

    Example:
        >>> parts(np.array([0]), np.array([2]), 3).tolist()
        [0, 1, 0]
    """
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(number, number))
    labels = connected_components(graph, directed=False)[1] if number else np.zeros(0)
    return labels.astype(np.int64)
