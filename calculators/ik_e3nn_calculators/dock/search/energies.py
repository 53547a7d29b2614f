"""Energies and forces of many poses, with the host held fixed."""

import logging
from abc import ABC, abstractmethod

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from ik_e3nn.data import joined
from ik_e3nn.graph import build_graph, fields
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators.calculator.evaluator import Evaluator
from ik_e3nn_calculators.calculator.together import batches, predict_together
from ik_e3nn_calculators.dock.system.host import Host

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

FAR = 1000.0  # A; a molecule this far over a surface does not feel it


class PoseEnergies(ABC):
    """Energies and forces of poses of one molecule.

    Args:
        ligand: The molecule, in any geometry, with charge, spin and bonds.
        host: The fixed host, with its own charge, spin and bonds.

    Attributes:
        model: The potential that computes the energies, if there is one.
    """

    model: InteratomicPotential | None = None

    def __init__(self, ligand: Atoms, host: Host) -> None:
        self.ligand, self.host = ligand, host
        self._alone, self._both = joined(Atoms(), ligand), joined(host.atoms, ligand)
        for atoms in (self._alone, self._both):
            atoms.info |= host.info
        self.calls = 0
        self.failure = "energies or forces are not finite"  # reason of the last failure, if known

    def __call__(self, poses: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies (P,) in eV and forces on the molecule (P, N, 3) in eV/A of poses (P, N, 3)."""
        return self._evaluate([self.structure(pose) for pose in poses], len(self.host.atoms))

    def alone(self, poses: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies and forces of poses without the host; for a surface without atoms, far away from it."""
        lift = [0.0, 0.0, FAR] if len(self.host.atoms) == 0 else 0.0
        return self._evaluate([self._ligand(pose + lift) for pose in poses], 0)

    def of_host(self) -> float:
        """Energy of the host alone in eV."""
        if len(self.host.atoms) == 0:
            return 0.0
        return float(self._evaluate([joined(self.host.atoms, Atoms(info={"charge": 0, "spin": 1}))], 0)[0][0])

    def structure(self, pose: FloatArray) -> Atoms:
        """The host, then the molecule in a pose."""
        both = self._both.copy()
        both.positions[len(self.host.atoms) :] = pose
        return both

    def _ligand(self, pose: FloatArray) -> Atoms:
        alone = self._alone.copy()
        alone.positions[:] = pose
        return alone

    def _evaluate(self, structures: list[Atoms], skip: int) -> tuple[FloatArray, FloatArray]:
        """Energies of structures of equal length, and forces on all atoms after the first ``skip``."""
        self.calls += len(structures)
        energies, forces = self.evaluate(structures)
        return energies, forces[:, skip:]

    @abstractmethod
    def evaluate(self, structures: list[Atoms]) -> tuple[FloatArray, FloatArray]:
        """Energies (P,) and forces (P, N, 3) of structures of equal length."""


class ModelEnergies(PoseEnergies):
    """Energies from a learned potential, for many poses in one call.

    Args:
        ligand: The molecule.
        host: The host.
        model: The potential, in evaluation mode.
        batch_atoms: Largest number of atoms in a call.
    """

    model: InteratomicPotential

    def __init__(self, ligand: Atoms, host: Host, *, model: InteratomicPotential, batch_atoms: int = 2000) -> None:
        super().__init__(ligand, host)
        self.model, self.batch_atoms = model, batch_atoms
        self._evaluator = Evaluator(model, quiet=True)

    def evaluate(self, structures: list[Atoms]) -> tuple[FloatArray, FloatArray]:
        """See the base class."""
        found = []
        for part in batches([len(atoms) for atoms in structures], self.batch_atoms):
            graphs = [build_graph(atoms, self.model.r_max, dtype=torch.float64) for atoms in structures[part]]
            found += predict_together(self._evaluator, [graph.to(self.model.device).to_dict() for graph in graphs])
        return np.concatenate([one[fields.ENERGY] for one in found]), np.stack([one[fields.FORCES] for one in found])


class CalculatorEnergies(PoseEnergies):
    """Energies from any ASE calculator, for one pose after the other.

    Args:
        ligand: The molecule.
        host: The host.
        calculator: The calculator.
    """

    def __init__(self, ligand: Atoms, host: Host, *, calculator: BaseCalculator) -> None:
        super().__init__(ligand, host)
        self.calculator = calculator

    def evaluate(self, structures: list[Atoms]) -> tuple[FloatArray, FloatArray]:
        """See the base class."""
        energies, forces = np.full(len(structures), np.nan), np.full((len(structures), len(structures[0]), 3), np.nan)
        for number, atoms in enumerate(structures):
            atoms.calc = self.calculator
            try:
                forces[number], energies[number] = atoms.get_forces(), atoms.get_potential_energy()
            except Exception as error:  # noqa: BLE001  (calculators fail in many ways; one pose must not end the search)
                self.failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
                _log.warning("a calculation failed: %s", self.failure)
        return energies, forces
