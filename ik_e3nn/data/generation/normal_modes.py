"""Frames from thermal displacements along normal modes."""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.data.generation.labeling import Labeler
from ik_e3nn.data.generation.sampling import Frame, Origin, Sampler, constrained_momenta, fixed_atoms

# In ASE units an energy hbar*omega of 1 cm^-1 is omega = invcm / hbar.
_HBAR = units._hbar * units.J * units.s
_PER_CM = units.invcm / _HBAR


class NormalModeSampler(Sampler):
    r"""Classical harmonic displacements from a minimum; frames are independent and take one calculation each.

    .. math:: x = x_0 + \sum_k Q_k\, m^{-1/2} L_k, \qquad Q_k \sim N(0,\, k_B T / \omega_k^2)

    with :math:`\omega_k^2, L_k` the eigenvalues and eigenvectors of the mass-weighted Hessian, from central differences
    of the forces. Modes below 30 cm^-1 (translations, rotations, saddle points) are left out; other modes below
    100 cm^-1 are treated as 100 cm^-1, because straight lines are poor approximations of torsions.

    Args:
        step: Displacement of the finite differences in A.

    Example:
        >>> from ase.build import molecule
        >>> from ase.calculators.emt import EMT
        >>> labeler, atoms, sampler = Labeler(EMT()), molecule("H2O"), NormalModeSampler()
        >>> prepared = sampler.prepare(atoms, labeler)
        >>> frame = sampler.frame(Origin(atoms, labeler, 300.0, prepared), None, np.random.default_rng(0))
        >>> bool(0.0 < np.abs(frame.positions - atoms.positions).max() < 1.0)
        True
    """

    name = "normal_modes"
    needs_minimum = True
    uses_temperature = True

    def __init__(self, step: float = 0.01) -> None:
        self.step = step

    def prepare(self, start: Atoms, labeler: Labeler) -> dict[str, Any]:
        """The Hessian of the free atoms under the constraints, (3F, 3F), in eV/A^2; see ``Sampler.prepare``."""
        free = np.flatnonzero(~fixed_atoms(start))
        rows = []
        labeler.forget()
        for atom in free:
            for axis in range(3):
                ends = []
                for sign in (1.0, -1.0):
                    atoms = start.copy()
                    atoms.positions[atom, axis] += sign * self.step
                    ends.append(_sprung(atoms, labeler.forces(atoms))[free].reshape(-1))
                rows.append((ends[1] - ends[0]) / (2.0 * self.step))
        hessian = np.array(rows)
        return {"hessian": _allowed(start, free, 0.5 * (hessian + hessian.T)).tolist()}

    def frame(self, origin: Origin, previous: Frame | None, rng: np.random.Generator) -> Frame:
        """The next frame; see ``Sampler.frame``."""
        del previous
        start, labeler, temperature, prepared = origin
        free = np.flatnonzero(~fixed_atoms(start))
        hessian = np.array(prepared["hessian"], dtype=np.float64).reshape(3 * len(free), 3 * len(free))
        atoms, goal = start.copy(), start.get_positions()
        goal[free] += thermal_displacement(hessian, start.get_masses()[free], temperature, rng)
        atoms.set_positions(goal)
        labeler.forget()
        return Frame(atoms.positions.copy(), atoms.cell.array.copy(), labeler.label(atoms))


def _sprung(atoms: Atoms, forces: FloatArray) -> FloatArray:
    """Forces including those of springs and other constraints that have an energy."""
    pulled = forces.copy()
    for constraint in atoms.constraints:
        if hasattr(constraint, "adjust_potential_energy"):
            constraint.adjust_forces(atoms, pulled)
    return pulled


def _allowed(start: Atoms, free: IntArray, hessian: FloatArray) -> FloatArray:
    r"""A Hessian without the directions fixed by constraints, :math:`M P^T M^{-1} H M^{-1} P M`.

    P applies the constraints to momenta, so that the modes are small motions under the constraints.
    """
    if all(isinstance(constraint, FixAtoms) for constraint in start.constraints):
        return hessian
    columns = []
    for atom in free:
        for axis in range(3):
            momenta = np.zeros((len(start), 3))
            momenta[atom, axis] = 1.0
            columns.append(constrained_momenta(start, momenta)[free].reshape(-1))
    masses = np.repeat(start.get_masses()[free], 3)
    projector = np.stack(columns, axis=1) * masses / masses[:, None]
    allowed: FloatArray = projector.T @ hessian @ projector
    return allowed


def thermal_displacement(
    hessian: FloatArray, masses: FloatArray, temperature: float, rng: np.random.Generator
) -> FloatArray:
    """A random classical displacement of a harmonic system.

    Args:
        hessian: Second derivatives of the energy, (3N, 3N), in eV/A^2.
        masses: Masses, (N,), in u.
        temperature: Temperature in K.
        rng: Random numbers.

    Returns:
        Displacements, (N, 3), in A.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> moves = [thermal_displacement(2.0 * np.eye(3), np.ones(1), 300.0, rng) for _ in range(2000)]
        >>> bool(abs(np.var(moves) / (units.kB * 300.0 / 2.0) - 1.0) < 0.05)
        True
    """
    weights = np.repeat(1.0 / np.sqrt(masses), 3)
    squares, modes = np.linalg.eigh(weights[:, None] * hessian * weights)
    frequencies = np.sqrt(np.maximum(squares, 0.0))
    kept = frequencies > 30.0 * _PER_CM
    stiffness = np.maximum(frequencies[kept], 100.0 * _PER_CM)
    amplitudes = np.sqrt(units.kB * temperature) / stiffness * rng.normal(size=int(kept.sum()))
    return (weights * (modes[:, kept] @ amplitudes)).reshape(-1, 3)
