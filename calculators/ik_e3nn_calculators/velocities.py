"""Initial velocities, and the degrees of freedom that a temperature is measured over."""

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def set_thermal_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw Maxwell-Boltzmann velocities, free of drift and (for molecules) rotation, at exactly this temperature.

    Args:
        atoms: The structure whose momenta are set; constraints are respected.
        temperature: Temperature in K over the degrees of freedom that are left, see `degrees_of_freedom`.
        rng: Random numbers.

    Example:
        >>> atoms = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> set_thermal_velocities(atoms, 300.0, np.random.default_rng(0))
        >>> round(kinetic_temperature(atoms, degrees_of_freedom(atoms, conserved=True)), 6)
        300.0
    """
    masses = atoms.get_masses()[:, None]
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature))
    remove_drift(atoms)
    now = kinetic_temperature(atoms, degrees_of_freedom(atoms, conserved=True))
    if now > 0.0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / now))


def remove_drift(atoms: Atoms) -> None:
    """Take out the momentum of the whole, and its rotation if it is open in all directions.

    Nothing is done to a single atom (it would stop) nor under constraints, which hold the structure in place.

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
    if not _keeps_momentum(atoms):
        return
    masses = atoms.get_masses()[:, None]
    velocities = atoms.get_momenta() / masses
    velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        angular = np.cross(arms, masses * velocities).sum(axis=0)
        # A linear molecule's inertia has a zero; the pseudo-inverse leaves that axis alone.
        rotation = np.linalg.pinv(_inertia(atoms), rcond=1e-8, hermitian=True) @ angular
        velocities -= np.cross(rotation, arms)
    atoms.set_momenta(masses * velocities)


def degrees_of_freedom(atoms: Atoms, *, conserved: bool) -> int:
    """Number of degrees of freedom that hold thermal energy.

    3N less those that constraints remove; where the dynamics conserves momentum (NVE), also less 3 for the drift and,
    for a structure open in all directions, less its 3 rotations (2 if linear).

    Args:
        atoms: The structure.
        conserved: Whether momentum and angular momentum stay zero.

    Returns:
        At least 1.

    Example:
        >>> water = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> degrees_of_freedom(water, conserved=True), degrees_of_freedom(water, conserved=False)
        (3, 9)
    """
    free = int(atoms.get_number_of_degrees_of_freedom())
    if conserved and _keeps_momentum(atoms):
        free -= 3
        if not atoms.pbc.any():
            free -= int(np.linalg.matrix_rank(_inertia(atoms), tol=1e-6, hermitian=True))
    return max(free, 1)


def kinetic_temperature(atoms: Atoms, freedom: int) -> float:
    """Temperature in K: twice the kinetic energy over `freedom` times Boltzmann's constant.

    Example:
        >>> kinetic_temperature(Atoms("H"), 3)
        0.0
    """
    return float(2.0 * atoms.get_kinetic_energy() / (freedom * units.kB))


def _keeps_momentum(atoms: Atoms) -> bool:
    """Whether drift is a conserved nuisance: several atoms, nothing held fixed, nothing outside that holds them."""
    return len(atoms) > 1 and not atoms.constraints and not getattr(atoms.calc, "feels_surroundings", False)


def _inertia(atoms: Atoms) -> FloatArray:
    """Inertia tensor about the centre of mass in u A^2, (3, 3)."""
    arms = atoms.positions - atoms.get_center_of_mass()
    masses = atoms.get_masses()
    tensor: FloatArray = np.einsum("a,ai,ai->", masses, arms, arms) * np.eye(3) - np.einsum(
        "a,ai,aj->ij", masses, arms, arms
    )
    return tensor
