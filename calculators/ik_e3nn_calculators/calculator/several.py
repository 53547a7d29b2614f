"""Several similar structures at once, as in path integrals: each has a neighbor list of its own."""

from collections.abc import Sequence

from ase import Atoms

from ik_e3nn.models import Potential
from ik_e3nn_calculators.calculator.evaluator import Arrays, Evaluator, check_explosion
from ik_e3nn_calculators.calculator.inputs import input_snapshot
from ik_e3nn_calculators.calculator.model import check_arguments
from ik_e3nn_calculators.calculator.together import predict_together


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

    def evaluate(self, structures: Sequence[Atoms], *, stress: bool) -> list[Arrays]:
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
        found = predict_together(evaluators[0], graphs, stress=stress)
        for one, graph, atoms in zip(found, graphs, structures, strict=True):
            check_explosion(one, graph, atoms)
        return found
