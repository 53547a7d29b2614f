"""Checks that stop dynamics which has left the physical range."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from ik_e3nn.errors import ExplosionError
from ik_e3nn.graph import near_pairs
from ik_e3nn_calculators.md.settings import ExplosionLimits

FloatArray = NDArray[np.float64]

_ADVICE = "try a shorter time step, relax the structure first, or train the model on such structures"


class ExplosionGuard:
    """Checks a structure during dynamics.

    Args:
        atoms: The structure at the start.
        limits: Limits of the physical range.
        target: Temperature of the run in K.
        r_max: Cutoff of the model in A, or None if it has none.
    """

    def __init__(self, atoms: Atoms, limits: ExplosionLimits, *, target: float, r_max: float | None) -> None:
        self._limits = limits
        self._hottest = limits.hottest(target)
        self._contact = 2.0 * limits.contact * float(covalent_radii[atoms.numbers].max())
        self._reach = max(r_max or 0.0, self._contact)
        self._watch_leaving = limits.leaving and r_max is not None
        self._bound = self._neighbors(atoms)[0] > 0

    def check_step(self, atoms: Atoms, before: FloatArray, temperature: float, step: int) -> None:
        """Check for finite numbers, temperature and displacements; cheap enough for every step.

        Args:
            atoms: The structure after the step, with results.
            before: Positions before the step, (N, 3), in A.
            temperature: Temperature after the step in K.
            step: Number of the step, for the message.

        Raises:
            ExplosionError: A limit is exceeded; the message names it and the atom.
        """
        energy = atoms.get_potential_energy()
        if not (np.isfinite(atoms.positions).all() and np.isfinite(temperature) and np.isfinite(energy)):
            raise ExplosionError(f"step {step}: energy, positions or velocities are NaN or infinite; {_ADVICE}")
        if temperature > self._hottest:
            raise ExplosionError(
                f"step {step}: the temperature is {temperature:.0f} K, above the limit of {self._hottest:.0f} K; "
                f"{_ADVICE}"
            )
        moved = np.linalg.norm(atoms.positions - before, axis=1)
        fastest = int(moved.argmax())
        if moved[fastest] > self._limits.displacement:
            raise ExplosionError(
                f"step {step}: atom {fastest} ({atoms.symbols[fastest]}) moved {moved[fastest]:.2f} A in one step, "
                f"more than the limit of {self._limits.displacement} A; {_ADVICE}"
            )

    def check_geometry(self, atoms: Atoms, step: int) -> None:
        """Check distances: atoms that overlap, and atoms that have lost all neighbors.

        Args:
            atoms: The structure.
            step: Number of the step, for the message.

        Raises:
            ExplosionError: Atoms overlap or have left; the message names them.
        """
        counts, closest, pair = self._neighbors(atoms)
        if closest < self._limits.contact:
            first, second = (f"{index} ({atoms.symbols[index]})" for index in pair)
            raise ExplosionError(
                f"step {step}: atoms {first} and {second} are at {closest:.2f} of the sum of their covalent radii, "
                f"below the limit of {self._limits.contact}; {_ADVICE}"
            )
        gone = np.flatnonzero(self._bound & (counts == 0))
        if self._watch_leaving and gone.size:
            raise ExplosionError(
                f"step {step}: atom {gone[0]} ({atoms.symbols[gone[0]]}) no longer has a neighbor within "
                f"{self._reach:.1f} A; {_ADVICE}, or set limits.leaving to false if atoms may leave"
            )

    def _neighbors(self, atoms: Atoms) -> tuple[NDArray[np.int64], float, tuple[int, int]]:
        """Number of neighbors of each atom, the closest contact in sums of covalent radii, and its two atoms."""
        found = near_pairs(atoms, self._reach)
        counts = np.bincount(found.receiver, minlength=len(atoms))
        if not len(found.sender):
            return counts, np.inf, (0, 0)
        edge = int(found.ratios.argmin())
        return counts, float(found.ratios[edge]), (int(found.receiver[edge]), int(found.sender[edge]))
