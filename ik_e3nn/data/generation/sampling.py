"""The base class of samplers of structures, and the simplest one: random displacements and strains."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.data.generation.labeling import Labeler, Labels


@dataclass(frozen=True)
class Frame:
    """One labeled structure of a chain.

    Args:
        positions: Positions, (N, 3), in A.
        cell: Cell vectors as rows, (3, 3), in A.
        labels: Its labels.
        momenta: Momenta in ASE's units, (N, 3), or None if the sampler has none.

    Example:
        >>> frame = Frame(np.zeros((1, 3)), np.eye(3), Labels(-1.0, np.zeros((1, 3)), None))
        >>> Frame.from_json(frame.to_json()).labels.energy
        -1.0
    """

    positions: FloatArray
    cell: FloatArray
    labels: Labels
    momenta: FloatArray | None = None

    def to_json(self) -> dict[str, Any]:
        """The frame as plain lists and numbers, without loss of precision.

        Returns:
            A dictionary for JSON.
        """
        values = {"positions": self.positions, "cell": self.cell, **vars(self.labels), "momenta": self.momenta}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Frame":
        """The frame that ``to_json`` wrote.

        Args:
            values: The dictionary.

        Returns:
            The frame.
        """
        arrays = {name: np.array(value) for name, value in values.items() if isinstance(value, list)}
        labels = Labels(values["energy"], arrays["forces"], arrays.get("stress"))
        return cls(arrays["positions"], arrays["cell"], labels, arrays.get("momenta"))


class Origin(NamedTuple):
    """Data that all frames of a chain share.

    Attributes:
        start: The starting structure.
        labeler: Source of labels.
        temperature: Temperature in K.
        prepared: What the sampler's ``prepare`` returned.
    """

    start: Atoms
    labeler: Labeler
    temperature: float = 0.0
    prepared: Mapping[str, Any] = MappingProxyType({})


class Sampler(ABC):
    """A method of making structures similar to a starting structure.

    Args:
        name: The ``config_type`` of the frames.
        needs_minimum: Whether the starting structure should be relaxed first.
        uses_temperature: Whether one chain of frames is made for each temperature.
    """

    name: str
    needs_minimum: bool
    uses_temperature: bool

    def prepare(self, start: Atoms, labeler: Labeler) -> dict[str, Any]:
        """Data that all frames from one starting structure need; stored in the work file.

        Args:
            start: The starting structure.
            labeler: Source of labels.

        Returns:
            A dictionary for JSON.

        Raises:
            LabelError: The calculator fails.
        """
        del start, labeler
        return {}

    @abstractmethod
    def frame(self, origin: Origin, previous: Frame | None, rng: np.random.Generator) -> Frame:
        """The next frame.

        Args:
            origin: Data that all frames of the chain share.
            previous: The last good frame of the chain, or None.
            rng: Random numbers of this frame alone.

        Returns:
            The labeled frame.

        Raises:
            LabelError: The calculator fails.
        """


class RattleSampler(Sampler):
    """Independent Gaussian displacements and, for periodic structures, a random strain.

    The strain acts along periodic directions only; each of its components is uniform within +- ``strain``.

    Args:
        displacement: Standard deviation of each coordinate in A.
        strain: Largest strain.

    Example:
        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> rng, copper = np.random.default_rng(0), bulk("Cu")
        >>> frame = RattleSampler(0.05, 0.02).frame(Origin(copper, Labeler(EMT())), None, rng)
        >>> bool(np.abs(frame.cell - copper.cell.array).max() > 1e-3), frame.labels.stress.shape
        (True, (3, 3))
    """

    name = "rattle"
    needs_minimum = False
    uses_temperature = False

    def __init__(self, displacement: float, strain: float) -> None:
        self.displacement = displacement
        self.strain = strain

    def frame(self, origin: Origin, previous: Frame | None, rng: np.random.Generator) -> Frame:
        """The next frame; see ``Sampler.frame``."""
        del previous
        atoms = origin.start.copy()
        atoms.set_positions(atoms.positions)  # constraints on bond lengths adopt the start
        strain = rng.uniform(-self.strain, self.strain, (3, 3))
        periodic = atoms.cell.array[atoms.pbc]
        # Project onto the periodic vectors, so that non-periodic directions are not strained.
        projector = np.linalg.pinv(periodic) @ periodic if len(periodic) else np.zeros((3, 3))
        deformation = np.eye(3) + projector @ (0.5 * (strain + strain.T)) @ projector
        atoms.set_cell(atoms.cell.array @ deformation)
        moves = self.displacement * rng.normal(size=(len(atoms), 3))
        atoms.positions = atoms.positions @ deformation
        atoms.set_positions(atoms.positions + moves)
        origin.labeler.forget()
        return Frame(atoms.positions.copy(), atoms.cell.array.copy(), origin.labeler.label(atoms))


def constrained_momenta(atoms: Atoms, momenta: FloatArray) -> FloatArray:
    """Momenta, (N, 3), under the constraints of a structure."""
    allowed = momenta.copy()
    for constraint in atoms.constraints:
        constraint.adjust_momenta(atoms, allowed)
    return allowed


def fixed_atoms(atoms: Atoms) -> BoolArray:
    """Which atoms a ``FixAtoms`` constraint holds.

    Args:
        atoms: The structure.

    Returns:
        One flag for each atom.

    Example:
        >>> fixed_atoms(Atoms("H2", constraint=FixAtoms([1]))).tolist()
        [False, True]
    """
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
    return fixed
