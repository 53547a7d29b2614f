"""Molecules over a surface: placed at random, and labeled without the atoms of the surface."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from ik_e3nn.data.generation.info_calculator import InfoCalculator
from ik_e3nn.data.generation.labeling import Labeler
from ik_e3nn.data.generation.sampling import Frame, Origin, Sampler
from ik_e3nn.data.structures.joined import joined
from ik_e3nn.data.structures.slab_symmetry import SlabFace, suggest_face
from ik_e3nn.errors import DataError, MissingDependencyError

logger = logging.getLogger(__name__)

ROOM = 6.0  # A; images of molecules that are nearer may change labels


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


def centered(substrate: Atoms) -> Atoms:
    """A copy whose highest atom is at z = 0 and whose center is at x = y = 0, without constraints."""
    copy = substrate.copy()
    copy.positions -= [*copy.positions[:, :2].mean(axis=0), copy.positions[:, 2].max()]
    copy.set_constraint()
    return copy


def face_of(substrate: Atoms) -> SlabFace | None:
    """The face of a substrate where ``OverSubstrate`` has it; None if it is not periodic, or cannot be found.

    Args:
        substrate: The atoms of the substrate, with the normal z if it is periodic.

    Raises:
        DataError: It is periodic along two vectors, but these are not the first two, across z.

    Example:
        >>> from ase.build import fcc100
        >>> face_of(fcc100("Cu", (2, 2, 2), vacuum=8.0)).group.name  # doctest: +SKIP
        'p4m'
    """
    cell = substrate.cell.array
    if substrate.pbc.sum() < 2:
        return None
    if not substrate.pbc[:2].all() or np.abs(cell[:2, 2]).max() > 1e-6 or np.cross(*cell[:2])[2] <= 0:
        raise DataError(
            "a periodic substrate must be a slab with the normal z: periodic along its first two cell vectors, which "
            f"are across z and right-handed about it; pbc is {substrate.pbc.tolist()}, the vectors {cell[:2].tolist()}"
        )
    try:
        return suggest_face(centered(substrate))
    except MissingDependencyError as error:
        logger.warning("frames are written without the lattice of the substrate, which a face needs: %s", error)
        return None


def warn_of_images(substrate: Atoms, molecules: Sequence[Atoms]) -> None:
    """Warn if molecules may feel their own images in a periodic substrate."""
    periodic = substrate.cell.array[substrate.pbc]
    if not len(periodic):
        return
    steps = np.array(np.meshgrid(*[(-1, 0, 1)] * len(periodic))).reshape(len(periodic), -1).T @ periodic
    shortest = np.sort(np.linalg.norm(steps, axis=1))[1]
    size = max(float(pdist(atoms.positions).max(initial=0.0)) for atoms in molecules)
    if shortest - size < ROOM:
        logger.warning(
            "images of a molecule in the cell of the substrate come as near as %.1f A to each other: if the calculator "
            "lets them interact, labels are those of a layer of molecules; repeat the substrate for a single one",
            shortest - size,
        )


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
        self.substrate = centered(substrate)
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
