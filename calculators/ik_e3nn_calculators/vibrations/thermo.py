"""Thermochemistry through ASE: an ideal gas for molecules, harmonic oscillators for all else."""

from dataclasses import dataclass

from ase import Atoms
from ase.thermochemistry import HarmonicThermo, IdealGasThermo

from ik_e3nn.graph import structure_number
from ik_e3nn_calculators.vibrations.modes import Modes
from ik_e3nn_calculators.vibrations.settings import VibrationSettings
from ik_e3nn_calculators.vibrations.symmetry import symmetry_number


@dataclass(frozen=True)
class Thermo:
    """Thermodynamic functions at one temperature; see ``VibrationSummary``."""

    treated_as: str
    symmetry_number: int | None
    enthalpy: float
    entropy: float
    free_energy: float


def thermochemistry(atoms: Atoms, modes: Modes, energy: float, settings: VibrationSettings, *, is_gas: bool) -> Thermo:
    """Enthalpy, entropy and free energy; imaginary frequencies are left out.

    Args:
        atoms: The structure; its multiplicity is ``atoms.info["spin"]``, 1 by default.
        modes: The modes, without translations and rotations if it is a gas.
        energy: Potential energy in eV.
        settings: Temperature, pressure and symmetry number.
        is_gas: Whether the structure is a free molecule.
    """
    T, quanta = settings.temperature, [complex(value) for value in modes.energies]
    if not is_gas:
        solid = HarmonicThermo(quanta, potentialenergy=energy)
        entropy = solid.get_entropy(T, verbose=False)
        free = solid.get_helmholtz_energy(T, verbose=False)
        return Thermo("harmonic", None, solid.get_internal_energy(T, verbose=False), entropy, free)
    rotations = 3 * len(atoms) - 3 - len(modes.frequencies)
    geometry = {0: "monatomic", 2: "linear", 3: "nonlinear"}[rotations]
    number = settings.symmetry_number or symmetry_number(atoms)
    spin = ((structure_number(atoms, "spin") or 1) - 1) / 2
    gas = IdealGasThermo(
        quanta, geometry, potentialenergy=energy, atoms=atoms, symmetrynumber=number, spin=spin, vib_selection="all"
    )
    pressure = settings.pressure * 1e5
    entropy = gas.get_entropy(T, pressure, verbose=False)
    enthalpy = gas.get_enthalpy(T, verbose=False)
    return Thermo("ideal gas", number, enthalpy, entropy, gas.get_gibbs_energy(T, pressure, verbose=False))


def zero_point_energy(modes: Modes) -> float:
    """Half a quantum of every real frequency, in eV.

    Example:
        >>> import numpy as np
        >>> from ase import units
        >>> modes = Modes(np.array([-100.0, 1000.0]), np.zeros((2, 1, 3)), np.ones(1))
        >>> round(zero_point_energy(modes) / units.invcm)
        500
    """
    return float(modes.energies.sum() / 2)
