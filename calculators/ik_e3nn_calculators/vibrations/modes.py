"""Normal modes of a Hessian, without the motions that cost no energy."""

from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PER_CM = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm  # of the root of eV/(A^2 amu)
NEAR_ZERO = 10.0  # 1/cm; below, rounding and the remaining forces decide, and an oscillator would have too much entropy


@dataclass(frozen=True)
class Modes:
    """Normal modes, from the lowest to the highest frequency.

    Args:
        frequencies: In 1/cm, (M,); an imaginary one is negative.
        vectors: Displacements (M, n, 3) of the n atoms that move, of length one after multiplication with root masses.
        masses: Masses of these atoms, (n,), in amu.
    """

    frequencies: FloatArray
    vectors: FloatArray
    masses: FloatArray

    @property
    def imaginary(self) -> NDArray[np.bool_]:
        """Whether each frequency is imaginary, and not near zero, (M,)."""
        return self.frequencies <= -NEAR_ZERO

    @property
    def near_zero(self) -> NDArray[np.bool_]:
        """Whether each frequency, real or imaginary, is below ``NEAR_ZERO``, (M,)."""
        return np.abs(self.frequencies) < NEAR_ZERO

    @property
    def energies(self) -> FloatArray:
        """Energies of the quanta of the real frequencies that are not near zero, in eV."""
        return np.asarray(self.frequencies[self.frequencies >= NEAR_ZERO] * units.invcm)

    def shares(self) -> FloatArray:
        """Share of each atom in the kinetic energy of each mode, (M, n)."""
        return np.asarray((self.vectors**2).sum(2) * self.masses)


def normal_modes(hessian: FloatArray, rigid: FloatArray, masses: FloatArray) -> Modes:
    r"""Diagonalize the mass-weighted Hessian in the space orthogonal to rigid motions.

    .. math:: B^T M^{-1/2} H M^{-1/2} B \, v = \omega^2 v

    with the columns of B an orthonormal basis of that space.

    Args:
        hessian: (3n, 3n), in eV/A^2.
        rigid: Rigid motions, (R, n, 3), as displacements.
        masses: (n,), in amu.

    Example:
        >>> spring = np.kron([[1.0, -1], [-1, 1]], np.diag([0, 0, 2.0]))
        >>> from ase import Atoms
        >>> from ik_e3nn_calculators.vibrations.rigid import rigid_motions
        >>> rigid = rigid_motions(Atoms("H2", [[0, 0, 0], [0, 0, 1]])).vectors
        >>> normal_modes(spring, rigid, np.ones(2)).frequencies.round().tolist()
        [1043.0]
    """
    root = np.sqrt(np.repeat(masses, 3))
    motions = rigid.reshape(len(rigid), len(root)) * root
    left = np.linalg.svd(motions, full_matrices=True)[2][len(rigid) :] if len(rigid) else np.eye(len(root))
    values, vectors = np.linalg.eigh(left @ (hessian / np.outer(root, root)) @ left.T)
    frequencies = np.sign(values) * np.sqrt(np.abs(values)) * PER_CM
    return Modes(frequencies, (vectors.T @ left / root).reshape(-1, len(masses), 3), masses)
