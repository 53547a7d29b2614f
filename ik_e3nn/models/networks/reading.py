"""Check a graph and find the species of its atoms: the first step of every model."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ik_e3nn.elements import symbols_of, unknown_symbols
from ik_e3nn.errors import UnknownSpeciesError
from ik_e3nn.graph import check_graph, fields

_ALWAYS = (
    fields.ATOMIC_NUMBERS, fields.POSITIONS, fields.CELL, fields.BATCH, fields.EDGE_INDEX, fields.EDGE_SHIFTS
)  # fmt: skip


def species_indices(
    graph: Mapping[str, Tensor], table: Tensor, species: Sequence[int], inputs: Iterable[str]
) -> Tensor:
    """Check a graph, and find the species indices of its atoms.

    Args:
        graph: Tensors by the names of ``ik_e3nn.graph.fields``.
        table: Species index of every atomic number; -1 for elements that the model does not know.
        species: Atomic numbers of the species of the model.
        inputs: Optional inputs of the model.

    Returns:
        Species indices, (N,).

    Raises:
        UnknownSpeciesError: The graph has an element for which the model was not made.
        MissingInputError: The graph lacks an input of the model.
        DataError: A tensor of the graph has a wrong shape, dtype or index.
    """
    if not torch.compiler.is_compiling():
        check_graph(graph, [*_ALWAYS, *sorted(inputs)])
    numbers = graph[fields.ATOMIC_NUMBERS]
    indices = table.index_select(0, numbers.clamp(0, len(table) - 1))
    if not torch.compiler.is_compiling() and numbers.numel() and int(indices.min()) < 0:
        unknown = unknown_symbols(numbers[indices < 0].tolist(), species)
        raise UnknownSpeciesError(f"the model does not know {unknown}; it was made for {symbols_of(species)}")
    return indices
