"""Initial velocities, and the degrees of freedom that a temperature is measured over."""

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ik_e3nn_calculators.systems.constraints import free_motions, has_external_restraint, unhindered

FloatArray = NDArray[np.float64]

_LINEAR = 1e-4  # of the largest; a smaller rotation is none (a linear molecule about its axis)


def set_thermal_velocities(
    atoms: Atoms, temperature: float, rng: np.random.Generator, *, conserved: bool = True
) -> None:
    """Draw Maxwell-Boltzmann velocities at exactly this temperature over the degrees of freedom of the dynamics.

    Args:
        atoms: The structure whose momenta are set; constraints are respected.
        temperature: Temperature in K over the degrees of freedom given by ``degrees_of_freedom``.
        rng: Random numbers.
        conserved: Whether the dynamics conserves momentum (NVE); velocities then have no drift and, for molecules, no
            rotation. A thermostat heats these motions too, so otherwise they start with their share.

    Example:
        >>> atoms = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> set_thermal_velocities(atoms, 300.0, np.random.default_rng(0))
        >>> round(kinetic_temperature(atoms, degrees_of_freedom(atoms, conserved=True)), 6)
        300.0
    """
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature))
    if conserved:
        remove_drift(atoms)
    now = kinetic_temperature(atoms, degrees_of_freedom(atoms, conserved=conserved))
    if now > 0.0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / now))


def remove_drift(atoms: Atoms) -> None:
    """Remove the rigid motions that the dynamics would conserve, see ``conserved_motions``.

    Args:
        atoms: The structure whose momenta are changed.

    Example:
        >>> atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]], momenta=[[1.0, 0, 0], [0, 0, 0.5]])
        >>> remove_drift(atoms)
        >>> (
        ...     bool(abs(atoms.get_momenta().sum(axis=0)).max() < 1e-12),
        ...     bool(abs(atoms.get_angular_momentum()).max() < 1e-12),
        ... )
        (True, True)
    """
    motions = conserved_motions(atoms)
    if len(motions):
        roots = np.sqrt(atoms.get_masses())[:, None]
        scaled = atoms.get_momenta() / roots
        scaled -= np.einsum("k,kai->ai", _shares(motions, scaled), motions)
        atoms.set_momenta(scaled * roots)


def drift_share(atoms: Atoms) -> float:
    """Share of the kinetic energy that is in conserved rigid motions.

    Example:
        >>> drift_share(Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]], momenta=[[1.0, 0, 0], [1.0, 0, 0]]))
        1.0
    """
    scaled = atoms.get_momenta() / np.sqrt(atoms.get_masses())[:, None]
    whole = float((scaled**2).sum())
    return round(float((_shares(conserved_motions(atoms), scaled) ** 2).sum()) / whole, 9) if whole > 0.0 else 0.0


def degrees_of_freedom(atoms: Atoms, *, conserved: bool) -> int:
    """Number of degrees of freedom that hold thermal energy.

    3N minus those that constraints remove; if the dynamics conserves momentum (NVE), also minus the rigid motions that
    stay zero: 3 translations and, for a structure open in all directions, 3 rotations (2 if linear), as far as
    constraints allow them.

    Args:
        atoms: The structure.
        conserved: Whether momentum and angular momentum stay zero.

    Returns:
        At least 1.

    Raises:
        DataError: It is not known how many degrees of freedom a constraint removes.

    Example:
        >>> water = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> degrees_of_freedom(water, conserved=True), degrees_of_freedom(water, conserved=False)
        (3, 9)
    """
    free = free_motions(atoms) - (len(conserved_motions(atoms)) if conserved else 0)
    return max(free, 1)


def conserved_motions(atoms: Atoms) -> FloatArray:
    """Drift and (for structures open in all directions) rotation, unless something holds the structure in place.

    If a structure has no other motions, they do not count: a single atom keeps its velocity, a rigid molecule its
    rotation.

    Args:
        atoms: The structure.

    Returns:
        Orthonormal motions in mass-weighted coordinates, (K, N, 3).

    Example:
        >>> len(conserved_motions(Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])))
        5
    """
    none = np.zeros((0, len(atoms), 3))
    if getattr(atoms.calc, "feels_surroundings", False) or has_external_restraint(atoms):
        return none
    free = free_motions(atoms)
    for rotating in (False,) if atoms.pbc.any() else (True, False):
        motions = unhindered(atoms, _rigid_motions(atoms, rotating))
        if len(motions) < free:
            return motions
    return none


def kinetic_temperature(atoms: Atoms, freedom: int) -> float:
    """Temperature in K: twice the kinetic energy over ``freedom`` times Boltzmann's constant.

    Example:
        >>> kinetic_temperature(Atoms("H"), 3)
        0.0
    """
    return float(2.0 * atoms.get_kinetic_energy() / (freedom * units.kB))


def _rigid_motions(atoms: Atoms, rotating: bool) -> FloatArray:
    """Translations, and rotations about the center of mass if wanted: orthonormal, mass-weighted, (K, N, 3)."""
    roots = np.sqrt(atoms.get_masses())[:, None]
    axes = np.eye(3)
    motions = [np.broadcast_to(axis, (len(atoms), 3)) * roots / np.linalg.norm(roots) for axis in axes]
    if rotating:
        arms = (atoms.positions - atoms.get_center_of_mass()) * roots
        turns = np.stack([np.cross(axis, arms) for axis in axes]).reshape(3, -1)
        _, sizes, rows = np.linalg.svd(turns, full_matrices=False)
        motions.extend(rows[(sizes > _LINEAR * sizes[0]) & (sizes > 1e-9)].reshape(-1, len(atoms), 3))
    return np.stack(motions)


def _shares(motions: FloatArray, scaled: FloatArray) -> FloatArray:
    """Components of mass-weighted velocities along motions."""
    shares: FloatArray = np.einsum("kai,ai->k", motions, scaled)
    return shares
