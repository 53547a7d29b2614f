"""Several similar structures at once, as in path integrals: each has a neighbor list of its own."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.graph import fields
from ik_e3nn.models import Potential
from ik_e3nn_calculators.calculator.evaluator import Evaluator, check_explosion
from ik_e3nn_calculators.calculator.inputs import input_snapshot
from ik_e3nn_calculators.calculator.model import check_arguments

_OF_ATOMS = (fields.ENERGIES, fields.FORCES)


class SeveralEvaluator:
    """Evaluates one potential on several structures in one call, as sequences that each change a little.

    The first structure of a call follows the first of the last call, and so on: it should be similar, so that its
    neighbor list need not be searched again. Only the first structure causes warnings.

    Args:
        model: A frozen potential, see ``prepare_model``.
        skin: Extra radius of the neighbor lists in A.
        compile: Compile the model at the first call.
        max_edges: Number of edges to process at once; None for no bound.

    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.models import InteratomicPotential
        >>> model = InteratomicPotential(["H", "O"], num_channels=2).eval().requires_grad_(False)
        >>> water, hydrogen = SeveralEvaluator(model).evaluate([molecule("H2O"), molecule("H2")], stress=False)
        >>> water["energy"].shape, hydrogen["forces"].shape
        ((1,), (2, 3))
    """

    def __init__(
        self,
        model: Potential,
        *,
        skin: float = 0.5,
        compile: bool = False,  # noqa: A002  (torch's word for it)
        max_edges: int | None = None,
    ) -> None:
        check_arguments(skin=skin, max_edges=max_edges, compile=compile)
        self.model, self.skin = model, skin
        self._evaluators = [Evaluator(model, skin=skin, compile=compile)]
        if max_edges is not None:
            self._evaluators[0].max_edges = max_edges

    def check(self, atoms: Atoms) -> None:
        """Raise the error that evaluating this structure would raise, without evaluating the model."""
        first = self._evaluators[0]
        first.graph(atoms, input_snapshot(atoms, first.inputs))

    def evaluate(self, structures: Sequence[Atoms], *, stress: bool) -> list[dict[str, NDArray[np.float64]]]:
        """Compute energies and forces, and on request stresses.

        Args:
            structures: The structures, at least one.
            stress: Also the stress of each cell.

        Returns:
            For each structure the arrays of ``Evaluator.evaluate``.

        Raises:
            IKError: As for ``Evaluator.evaluate``.
        """
        evaluators = self._evaluators
        while len(evaluators) < len(structures):
            evaluators.append(Evaluator(self.model, skin=self.skin, quiet=True))
        graphs = [
            evaluator.graph(atoms, input_snapshot(atoms, evaluator.inputs))
            for evaluator, atoms in zip(evaluators, structures, strict=False)
        ]
        arrays = evaluators[0].predict(joined_graphs(graphs), stress=stress)
        ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
        parts = {name: np.split(rows, ends if name in _OF_ATOMS else len(graphs)) for name, rows in arrays.items()}
        found = [{name: rows[k] for name, rows in parts.items()} for k in range(len(graphs))]
        for one, graph, atoms in zip(found, graphs, structures, strict=True):
            check_explosion(one, graph, atoms)
        return found


def joined_graphs(graphs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join graphs with the same tensors to a batch; for the small graphs of one step faster than ``batch_graphs``.

    Args:
        graphs: Plain dicts of tensors by the names of ``fields.FIELDS``, at least one, each of one structure.

    Example:
        >>> one = {"batch": torch.zeros(2, dtype=torch.long), "edge_index": torch.tensor([[0, 1], [1, 0]])}
        >>> joined_graphs([one, one])["edge_index"].tolist()
        [[0, 1, 2, 3], [1, 0, 3, 2]]
    """
    if len(graphs) == 1:
        return dict(graphs[0])
    batch = {name: torch.cat([graph[name] for graph in graphs], int(name == fields.EDGE_INDEX)) for name in graphs[0]}
    device = batch[fields.BATCH].device
    atoms = torch.tensor([graph[fields.BATCH].shape[0] for graph in graphs], device=device)
    edges = torch.tensor([graph[fields.EDGE_INDEX].shape[1] for graph in graphs], device=device)
    batch[fields.BATCH] = torch.arange(len(graphs), device=device).repeat_interleave(atoms)
    batch[fields.EDGE_INDEX] = batch[fields.EDGE_INDEX] + (atoms.cumsum(0) - atoms).repeat_interleave(edges)
    return batch
