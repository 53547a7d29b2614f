"""Large systems with few moving atoms: energies that cannot change are computed once."""

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields, neighbor_list
from ik_e3nn.models import Potential
from ik_e3nn_calculators.calculator.evaluator import Evaluator
from ik_e3nn_calculators.calculator.inputs import INFO_KEYS, Snapshot, same_inputs

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class FrozenEvaluator:
    r"""An evaluator that leaves out atoms fixed by ``FixAtoms`` which are too far from the moving atoms to matter.

    A site energy depends on atoms within as many steps from neighbor to neighbor as the model has layers. Only site
    energies within that reach of a moving atom can change; to compute them, atoms within twice that reach are needed.
    The other energies are kept from a calculation of the whole system, which is repeated when an atom has moved half
    the skin:

    .. math:: E = \sum_{i \in \text{changing}} E_i(\text{needed}) + \sum_{i \notin \text{changing}} E_i^{\text{kept}}

    Forces on fixed atoms are not computed; they are zero. Stresses come from the whole system.

    Args:
        whole: Evaluates the whole system.
        part: Evaluates the needed part, with the same model.
        skin: Twice the distance in A that atoms may move before the parts are determined again.

    Raises:
        DataError: The model uses bonds, which a part of a system does not have.
    """

    def __init__(self, whole: Evaluator, part: Evaluator, *, skin: float) -> None:
        if fields.BOND_TYPES in whole.inputs:
            raise DataError("a model that uses bonds cannot leave out fixed atoms; use skip_fixed=False")
        self.whole, self.part, self.skin = whole, part, skin
        part.watch.domain = None  # the domain does not apply to a part of a structure
        interactions = getattr(whole.model, "interactions", None)
        if interactions is None:
            raise DataError(f"only an InteratomicPotential can leave out fixed atoms, got {type(whole.model).__name__}")
        self.reach = len(interactions)
        self._start: Atoms | None = None
        self._inputs: Snapshot = {}
        self._energies: FloatArray = np.zeros(0)
        self._moving: BoolArray = np.zeros(0, dtype=bool)
        self._needed: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._changing: BoolArray = np.zeros(0, dtype=bool)

    @property
    def model(self) -> Potential:
        """The potential."""
        return self.whole.model

    @property
    def inputs(self) -> frozenset[str]:
        """Inputs that the potential declares."""
        return self.whole.inputs

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        return self.whole.r_max

    @property
    def rebuilds(self) -> int:
        """How often the neighbor list of the whole system has been built."""
        return self.whole.rebuilds

    def warn_unused(self, atoms: Atoms) -> None:
        """See ``Evaluator.warn_unused``."""
        self.whole.warn_unused(atoms)

    def evaluate(self, atoms: Atoms, inputs: Snapshot, *, stress: bool, atomic_stress: bool) -> dict[str, FloatArray]:
        """Compute energy and forces, and on request stresses; see ``Evaluator.evaluate``."""
        moving = moving_atoms(atoms)
        if stress or atomic_stress or not moving.any() or not self._is_valid(atoms, moving, inputs):
            outputs = self.whole.evaluate(atoms, inputs, stress=stress, atomic_stress=atomic_stress)
            if moving.any():
                self._divide(atoms, moving, outputs[fields.ENERGIES])
                self._inputs = inputs
            outputs[fields.FORCES] = np.where(moving[:, None], outputs[fields.FORCES], 0.0)
            return outputs
        found = self.part.evaluate(_part(atoms, self._needed), inputs, stress=False, atomic_stress=False)
        energies, forces = self._energies.copy(), np.zeros((len(atoms), 3))
        energies[self._needed[self._changing]] = found[fields.ENERGIES][self._changing]
        forces[self._needed] = np.where(moving[self._needed, None], found[fields.FORCES], 0.0)
        return {fields.ENERGY: energies.sum(keepdims=True), fields.ENERGIES: energies, fields.FORCES: forces}

    def _is_valid(self, atoms: Atoms, moving: BoolArray, inputs: Snapshot) -> bool:
        """Whether the kept energies and parts are valid for this structure."""
        start = self._start
        if start is None or len(start) != len(atoms) or not np.array_equal(moving, self._moving):
            return False
        if not np.array_equal(start.numbers, atoms.numbers) or not np.array_equal(start.pbc, atoms.pbc):
            return False
        if not np.array_equal(start.cell.array, atoms.cell.array) or not same_inputs(inputs, self._inputs):
            return False
        moves = ((atoms.positions - start.positions) ** 2).sum(1)
        return bool(moves[~moving].max(initial=0.0) == 0.0 and moves.max() <= (0.5 * self.skin) ** 2)

    def _divide(self, atoms: Atoms, moving: BoolArray, energies: FloatArray) -> None:
        """Find the energies that can change and the atoms that they need; keep the other energies."""
        edges, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, self.whole.r_max + self.skin)
        changing = within(moving, edges, self.reach)
        needed = within(changing, edges, self.reach)
        self._start, self._moving, self._energies = atoms.copy(), moving, energies.copy()
        self._needed = np.flatnonzero(needed)
        self._changing = changing[needed]


def moving_atoms(atoms: Atoms) -> BoolArray:
    """Whether each atom is free of ``FixAtoms`` constraints, (N,).

    Example:
        >>> moving_atoms(Atoms("H2", constraint=FixAtoms([0]))).tolist()
        [False, True]
    """
    moving = np.ones(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            moving[constraint.index] = False
    return moving


def within(start: BoolArray, edges: NDArray[np.int64], steps: int) -> BoolArray:
    """Whether each atom is at most ``steps`` steps along edges (2, E) from the start, (N,).

    Example:
        >>> within(np.array([True, False, False]), np.array([[0, 1, 1, 2], [1, 0, 2, 1]]), 1).tolist()
        [True, True, False]
    """
    sender, receiver = edges
    reached = start.copy()
    for _ in range(steps):
        grown = reached.copy()
        grown[receiver[reached[sender]]] = True
        reached = grown
    return reached


def _part(atoms: Atoms, indices: NDArray[np.int64]) -> Atoms:
    """Some of the atoms in the same cell, with the same charge, spin and surface."""
    info = {key: atoms.info[key] for key in INFO_KEYS.values() if key in atoms.info and key != "bonds"}
    return Atoms(atoms.numbers[indices], atoms.positions[indices], cell=atoms.cell, pbc=atoms.pbc, info=info)
