"""A compiler for tests: it takes no time, and its code differs from the eager model by a millionth."""

from collections.abc import Sequence

import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.models import InteratomicPotential

FACTOR = 1.0 + 1e-6


def potential(seed: int = 0, **options) -> InteratomicPotential:
    torch.manual_seed(seed)
    options = {"num_channels": 2, "num_layers": 1, "l_max": 1, "l_features": 1, "correlation": 2} | options
    model = InteratomicPotential(["H", "O"], 3.5, **options)
    model.set_scale(1e-3)
    return model.double().eval()


def water(seed: int = 0) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=seed)
    return atoms


def load(model: InteratomicPotential, **_) -> bool:
    """Let a model use code that differs a little."""

    def core(edges):
        kept, model.compiled = model.compiled, None
        try:
            return tuple(FACTOR * values for values in model.energies_and_gradients(edges, create_graph=False))
        finally:
            model.compiled = kept

    model.compiled = core
    return True


class Compiler:
    """Stands for the cache, and for the processes that compile: each lasts for as many looks as ``looks`` says.

    Attributes:
        cached: Whether the code is in the cache.
        looks: Number of evaluations that a process lasts.
        failure: The message of processes that fail.
        asked: Each process's models; ``None`` for one that was ended before it was done.
        foreground: The models that were compiled before a run went on.
    """

    def __init__(self) -> None:
        self.cached, self.looks, self.failure = False, 5, ""
        self.asked: list[Sequence[InteratomicPotential] | None] = []
        self.foreground: list[InteratomicPotential] = []
        self.works = True

    def load(self, model: InteratomicPotential) -> bool:
        return self.cached and load(model)

    def compile(self, model: InteratomicPotential) -> bool:
        self.foreground.append(model)
        return self.works and load(model)

    def process(self, models: Sequence[InteratomicPotential]) -> "Process":
        self.asked.append(models)
        return Process(self)


class Process:
    """A process that compiles."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler, self.left, self.ended = compiler, compiler.looks, False

    @property
    def is_running(self) -> bool:
        self.left -= 1
        if self.left <= 0:
            self.ended, self.compiler.cached = True, not self.compiler.failure
        return self.left > 0

    @property
    def failure(self) -> str:
        return self.compiler.failure

    def stop(self) -> None:
        if not self.ended:
            self.compiler.asked[-1] = None
