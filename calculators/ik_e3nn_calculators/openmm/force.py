"""Energy and forces of a potential as a function of OpenMM's State."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ik_e3nn.graph import fields
from ik_e3nn_calculators.calculator.evaluator import Evaluator
from ik_e3nn_calculators.calculator.inputs import Snapshot, input_snapshot
from ik_e3nn_calculators.openmm.stored import StoredPotential

KJ_PER_MOL = units.kJ / units.mol  # in eV, with ASE's constants, as everywhere in this library
A_PER_NM = 10.0


class EnergyAndForces:
    """The function of a ``PythonForce``: energy in kJ/mol and forces in kJ/mol/nm from a State.

    Copies and pickled functions contain the model files, so that the XML of a system needs no others. Each makes its
    own evaluator at its first call.

    Args:
        stored: The potential.
        atoms: The atoms in the order of the State's positions, with periodicity, and charge and spin in ``info``. They
            are copied.
        subtract_e0: Subtract the energies of isolated atoms.
    """

    def __init__(self, stored: StoredPotential, atoms: Atoms, *, subtract_e0: bool = False) -> None:
        self._settings = (stored, atoms.numbers.tolist(), bool(atoms.pbc.any()), dict(atoms.info), subtract_e0)
        self._atoms = atoms.copy()
        self._evaluator: Evaluator | None = None
        self._inputs: Snapshot = {}
        self._offset = 0.0
        self._lock = threading.Lock()

    def __call__(self, state: Any) -> tuple[float, NDArray[np.float64]]:
        """Evaluate; Contexts of one system share this object, and take turns if they run in threads.

        Args:
            state: OpenMM's State, with positions and, for a periodic system, the cell.

        Raises:
            ExplosionError: Energy or forces are not finite; OpenMM raises an OpenMMException with the message.
        """
        with self._lock:
            evaluator = self._evaluator or self._start()
            atoms = self._atoms
            atoms.positions[:] = state.getPositions(asNumpy=True)._value * A_PER_NM
            if atoms.pbc.any():
                atoms.cell[:] = state.getPeriodicBoxVectors(asNumpy=True)._value * A_PER_NM
            outputs = evaluator.evaluate(atoms, self._inputs, stress=False, atomic_stress=False)
        energy = float(outputs[fields.ENERGY].item()) - self._offset
        return energy / KJ_PER_MOL, outputs[fields.FORCES] * (A_PER_NM / KJ_PER_MOL)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, self._settings

    def _start(self) -> Evaluator:
        """Make the evaluator."""
        stored, numbers, *_, subtract_e0 = self._settings
        evaluator = stored.evaluator()
        self._inputs = input_snapshot(self._atoms, evaluator.inputs)
        if subtract_e0:
            e0 = stored.energies_of_atoms()
            self._offset = sum(e0[number] for number in numbers)
        self._evaluator = evaluator
        return evaluator


def _restored(
    stored: StoredPotential, numbers: list[int], periodic: bool, info: dict[str, Any], subtract_e0: bool
) -> EnergyAndForces:
    """A function from its pickled settings."""
    return EnergyAndForces(stored, Atoms(numbers, pbc=periodic, info=info), subtract_e0=subtract_e0)
