"""Several graphs in one call of a model, in batches of bounded size."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.graph import fields, joined_graphs
from ik_e3nn_calculators.calculator.evaluator import Arrays, Evaluator

_OF_ATOMS = (fields.ENERGIES, fields.FORCES, fields.ATOMIC_VIRIALS, fields.FORCES_STD)


def predict_together(
    evaluator: Evaluator,
    graphs: Sequence[Mapping[str, Tensor]],
    *,
    stress: bool = False,
    atomic_stress: bool = False,
    std: bool = False,
) -> list[Arrays]:
    """Evaluate a model on several graphs in one call.

    Args:
        evaluator: Calls the model.
        graphs: Plain dicts of the same tensors, at least one, each of one structure.
        stress: Also the stress of each cell.
        atomic_stress: Also the virial of every atom.
        std: Also standard deviations, if the model has them.

    Returns:
        For each graph the arrays of ``Evaluator.evaluate``.

    Example:
        >>> import torch
        >>> from ase.build import molecule
        >>> from ik_e3nn.models import InteratomicPotential
        >>> model = InteratomicPotential(["H", "O"], num_channels=2).eval().requires_grad_(False)
        >>> evaluator = Evaluator(model)
        >>> graphs = [evaluator.graph(molecule(name), {}) for name in ("H2O", "H2")]
        >>> [found["forces"].shape for found in predict_together(evaluator, graphs)]
        [(3, 3), (2, 3)]
    """
    arrays = evaluator.predict(joined_graphs(graphs), stress=stress, atomic_stress=atomic_stress, std=std)
    ends = np.cumsum([len(graph[fields.BATCH]) for graph in graphs])[:-1]
    parts = {name: np.split(rows, ends if name in _OF_ATOMS else len(graphs)) for name, rows in arrays.items()}
    return [{name: rows[k] for name, rows in parts.items()} for k in range(len(graphs))]


def batches(sizes: Sequence[int] | NDArray[np.int64], most: int) -> Iterator[slice]:
    """Divide structures, in their order, into batches of at most so many atoms, or of one larger structure.

    Args:
        sizes: Number of atoms of each structure.
        most: Largest number of atoms in a batch.

    Yields:
        The structures of a batch.

    Example:
        >>> [(part.start, part.stop) for part in batches([3, 3, 9, 2], 6)]
        [(0, 2), (2, 3), (3, 4)]
    """
    start, atoms = 0, 0
    for number, size in enumerate(sizes):
        if number > start and atoms + size > most:
            yield slice(start, number)
            start, atoms = number, 0
        atoms += int(size)
    if len(sizes):
        yield slice(start, len(sizes))
