"""Normal modes of a Hessian, without the motions that cost no energy."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PER_CM = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm  # of the root of eV/(A^2 amu)
_SMALL = 1e-3  # of a rotation about the axis of a linear molecule, beside the other rotations


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
    def energies(self) -> FloatArray:
        """Energies of the quanta of the real frequencies, in eV."""
        return np.asarray(self.frequencies[self.frequencies > 0] * units.invcm)

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
        >>> rigid = rigid_motions(Atoms("H2", [[0, 0, 0], [0, 0, 1]]), rotations=True)
        >>> normal_modes(spring, rigid, np.ones(2)).frequencies.round().tolist()
        [1043.0]
    """
    root = np.sqrt(np.repeat(masses, 3))
    motions = rigid.reshape(len(rigid), len(root)) * root
    left = np.linalg.svd(motions, full_matrices=True)[2][len(rigid) :] if len(rigid) else np.eye(len(root))
    values, vectors = np.linalg.eigh(left @ (hessian / np.outer(root, root)) @ left.T)
    frequencies = np.sign(values) * np.sqrt(np.abs(values)) * PER_CM
    return Modes(frequencies, (vectors.T @ left / root).reshape(-1, len(masses), 3), masses)


def rigid_motions(atoms: Atoms, *, rotations: bool) -> FloatArray:
    """Displacements of translations, and of rotations about the center of mass, (R, N, 3), linearly independent.

    Args:
        atoms: The structure.
        rotations: Whether rotations cost no energy either.

    Example:
        >>> [len(rigid_motions(Atoms(f"H{n}", np.eye(3)[:n]), rotations=True)) for n in (1, 2, 3)]
        [3, 5, 6]
    """
    motions = np.repeat(np.eye(3)[:, None], len(atoms), axis=1)
    if not rotations:
        return motions
    turns = np.cross(np.eye(3)[:, None], atoms.positions - atoms.get_center_of_mass())
    weighted = (turns * np.sqrt(atoms.get_masses())[:, None]).reshape(3, -1)
    axes, lengths, _ = np.linalg.svd(weighted, full_matrices=False)
    axes = axes.T[: len(lengths)][lengths > max(_SMALL * lengths.max(), 1e-9)]
    return np.concatenate([motions, np.einsum("ka,aid->kid", axes, turns)])
