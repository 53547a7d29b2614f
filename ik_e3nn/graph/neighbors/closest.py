"""The closest two atoms of a structure, for messages about structures that are too dense for a model."""

from collections.abc import Mapping

from ase.data import chemical_symbols
from torch import Tensor

from ik_e3nn.graph import fields
from ik_e3nn.graph.edges import edge_vectors


def closest_pair(graph: Mapping[str, Tensor]) -> str:
    """Describe the closest two atoms of a structure.

    Args:
        graph: The graph of one structure.

    Returns:
        A clause for a message.

    Example:
        >>> from ase import Atoms
        >>> from ik_e3nn.graph import build_graph
        >>> closest_pair(build_graph(Atoms("CHO", [[0, 0, 0], [0, 0, 1.1], [0, 0, 1.2]]), 5.0))
        'its closest atoms, 1 (H) and 2 (O), are 0.1 A apart'
    """
    ends = graph[fields.EDGE_INDEX]
    if not ends.shape[1]:
        return "none of its atoms has a neighbor within the cutoff"
    names = (fields.POSITIONS, fields.EDGE_INDEX, fields.EDGE_SHIFTS, fields.CELL, fields.BATCH)
    lengths = edge_vectors(*(graph[name] for name in names)).norm(dim=1)
    edge = int(lengths.argmin())
    first, second = sorted(int(end) for end in ends[:, edge])
    one, two = (f"{k} ({chemical_symbols[int(graph[fields.ATOMIC_NUMBERS][k])]})" for k in (first, second))
    what = f"an atom, {one}, and its own image" if first == second else f"its closest atoms, {one} and {two},"
    return f"{what} are {float(lengths[edge]):.3g} A apart"
