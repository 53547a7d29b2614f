"""Thermochemistry through ASE: an ideal gas for molecules, harmonic oscillators for all else."""

from dataclasses import dataclass

from ase import Atoms
from ase.thermochemistry import HarmonicThermo, IdealGasThermo

from ik_e3nn_calculators.vibrations.modes import Modes
from ik_e3nn_calculators.vibrations.multiplicity import multiplicity
from ik_e3nn_calculators.vibrations.rigid import shape
from ik_e3nn_calculators.vibrations.settings import VibrationSettings
from ik_e3nn_calculators.vibrations.symmetry import symmetry_number


@dataclass(frozen=True)
class Thermo:
    """Thermodynamic functions at one temperature; see ``VibrationSummary``."""

    treated_as: str
    symmetry_number: int | None
    multiplicity: int | None
    enthalpy: float
    entropy: float
    free_energy: float


def thermochemistry(atoms: Atoms, modes: Modes, energy: float, settings: VibrationSettings, *, is_gas: bool) -> Thermo:
    """Enthalpy, entropy and free energy; frequencies that are imaginary or near zero are left out.

    Args:
        atoms: The structure; see ``multiplicity`` for its spin.
        modes: The modes, without rigid motions.
        energy: Potential energy in eV.
        settings: Temperature, pressure and symmetry number.
        is_gas: Whether the structure is a free molecule.
    """
    T, quanta = settings.temperature, [complex(value) for value in modes.energies]
    if not is_gas:
        if not quanta:
            return Thermo("harmonic", None, None, energy, 0.0, energy)
        solid = HarmonicThermo(quanta, potentialenergy=energy)
        entropy = solid.get_entropy(T, verbose=False)
        free = solid.get_helmholtz_energy(T, verbose=False)
        return Thermo("harmonic", None, None, solid.get_internal_energy(T, verbose=False), entropy, free)
    number, multiple = settings.symmetry_number or symmetry_number(atoms), multiplicity(atoms)[0]
    gas = IdealGasThermo(
        quanta,
        shape(atoms),
        potentialenergy=energy,
        atoms=atoms,
        symmetrynumber=number,
        spin=(multiple - 1) / 2,
        vib_selection="all",
    )
    pressure = settings.pressure * 1e5
    entropy = gas.get_entropy(T, pressure, verbose=False)
    enthalpy = gas.get_enthalpy(T, verbose=False)
    free = gas.get_gibbs_energy(T, pressure, verbose=False)
    return Thermo("ideal gas", number, multiple, enthalpy, entropy, free)


def zero_point_energy(modes: Modes) -> float:
    """Half a quantum of every real frequency that is not near zero, in eV.

    Example:
        >>> import numpy as np
        >>> from ase import units
        >>> modes = Modes(np.array([-100.0, 1000.0]), np.zeros((2, 1, 3)), np.ones(1))
        >>> round(zero_point_energy(modes) / units.invcm)
        500
    """
    return float(modes.energies.sum() / 2)
