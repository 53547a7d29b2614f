"""Molecules over a surface: placed at random, and labeled without the atoms of the surface."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from scipy.spatial.transform import Rotation

from ik_e3nn.data.generation.info_calculator import InfoCalculator
from ik_e3nn.data.generation.labeling import Labeler
from ik_e3nn.data.generation.sampling import Frame, Origin, Sampler
from ik_e3nn.data.structures.joined import joined


class RandomPlacement(Sampler):
    """Frames of another sampler, each rotated at random and placed at a random height over the plane z = 0.

    Every frame is labeled twice: where the other sampler made it, and where it is placed.

    Args:
        frames: The other sampler; each frame starts from the last one, where it was placed.
        heights: Smallest and largest height of the lowest atom in A.
        lateral: Largest shift sideways in A, along x and along y.

    Example:
        >>> from ase.build import molecule
        >>> from ase.calculators.lj import LennardJones
        >>> from ik_e3nn.data.generation.sampling import RattleSampler
        >>> sampler, rng = RandomPlacement(RattleSampler(0.1, 0.0), heights=(2.0, 5.0)), np.random.default_rng(0)
        >>> frame = sampler.frame(Origin(molecule("H2O"), Labeler(LennardJones())), None, rng)
        >>> bool(2.0 < frame.positions[:, 2].min() < 5.0)
        True
    """

    def __init__(self, frames: Sampler, *, heights: Sequence[float], lateral: float = 0.0) -> None:
        self.frames, self.lateral = frames, lateral
        self.lowest, self.highest = heights
        self.name, self.needs_minimum = frames.name, frames.needs_minimum
        self.uses_temperature = frames.uses_temperature

    def prepare(self, start: Atoms, labeler: Labeler) -> dict[str, Any]:
        """See ``Sampler.prepare``."""
        return self.frames.prepare(start, labeler)

    def frame(self, origin: Origin, previous: Frame | None, rng: np.random.Generator) -> Frame:
        """The next frame; see ``Sampler.frame``."""
        made = self.frames.frame(origin, previous, rng)
        turn = Rotation.random(rng=rng)
        atoms = origin.start.copy()
        atoms.positions = turn.apply(made.positions - made.positions.mean(axis=0))
        atoms.positions[:, :2] += rng.uniform(-self.lateral, self.lateral, 2)
        atoms.positions = lifted(atoms, rng.uniform(self.lowest, self.highest)).positions
        origin.labeler.forget()
        momenta = None if made.momenta is None else turn.apply(made.momenta)
        return Frame(atoms.positions.copy(), made.cell, origin.labeler.label(atoms), momenta)


def lifted(atoms: Atoms, height: float) -> Atoms:
    """A copy whose lowest atom is at a height (A) over the plane z = 0.

    Example:
        >>> lifted(Atoms("H2", [[0, 0, 1], [0, 0, 2]]), 5.0).positions[:, 2].tolist()
        [5.0, 6.0]
    """
    copy = atoms.copy()
    copy.positions[:, 2] += height - atoms.positions[:, 2].min()
    return copy


class OverSubstrate(InfoCalculator):
    r"""Energy and forces of a molecule over a rigid substrate, for the atoms of the molecule alone.

    .. math:: E(\text{molecule}) = E(\text{molecule} + \text{substrate}) - E(\text{substrate})

    Args:
        calculator: Labels molecule and substrate together, and the substrate alone. It must take their charges and
            spins from ``info``, like ``StateCalculator``.
        substrate: The atoms of the substrate; the highest is moved to z = 0, and their center to x = y = 0.

    Example:
        >>> from ase.build import fcc111
        >>> from ase.calculators.emt import EMT
        >>> atoms = Atoms("O", [[0, 0, 1.5]], calculator=OverSubstrate(EMT(), fcc111("Cu", (2, 2, 2), vacuum=8.0)))
        >>> atoms.get_forces().shape
        (1, 3)
    """

    def __init__(self, calculator: BaseCalculator, substrate: Atoms) -> None:
        super().__init__()
        self.labeler = Labeler(calculator)
        self.substrate = lifted(substrate, 0.0)
        top, middle = self.substrate.positions[:, 2].max(), self.substrate.positions[:, :2].mean(axis=0)
        self.substrate.positions -= [*middle, top]
        self.substrate.set_constraint()
        self.alone: float | None = None

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy and forces of the molecule."""
        if self.alone is None:
            self.alone = self.labeler.label(self.substrate).energy
        labels = self.labeler.label(joined(self.substrate, atoms))
        return {"energy": labels.energy - self.alone, "forces": labels.forces[len(self.substrate) :]}

    def reset(self) -> None:
        """Forget all results, also those of the inner calculator."""
        super().reset()
        self.labeler.forget()
