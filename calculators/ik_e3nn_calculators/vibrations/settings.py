"""Settings and summary of a calculation of vibrations."""

# ruff: noqa: N815 - units keep their case (eV)

from dataclasses import dataclass, field
from typing import Literal

from ik_e3nn.settings import Count, Positive
from ik_e3nn_calculators.run_settings import RunSettings


@dataclass(frozen=True)
class VibrationSettings(RunSettings):
    """The vibrations of a structure: it is relaxed first, and masses that were set, such as those of isotopes, count.

    The multiplicity of an ideal gas is ``atoms.info["spin"]`` (``spin=3`` in an extxyz file). Without it, a single
    neutral atom has that of its ground state, and a molecule the lowest one: 1, or 2 for an odd number of electrons.
    That of a triplet such as O2 must be given. The structure, the model and the output are settings of ``RunSettings``.

    Args:
        relax: Relax the structure first; otherwise its frequencies are meaningful only if it is at a minimum already.
        fmax: Converged when no force exceeds this, in eV/A.
        steps: Largest number of steps of the relaxation.
        temperature: Temperature of the thermochemistry, in K.
        pressure: Pressure of the ideal gas, in bar.
        symmetry_number: How many rotations map the molecule onto itself; by default they are counted.

    Example:
        >>> VibrationSettings("CCO").dtype
        'float64'
    """

    relax: bool = field(default=True, kw_only=True)
    fmax: Positive = field(default=1e-3, kw_only=True)
    steps: Count = field(default=1000, kw_only=True)
    temperature: Positive = field(default=298.15, kw_only=True)
    pressure: Positive = field(default=1.0, kw_only=True)
    symmetry_number: Count | None = field(default=None, kw_only=True)
    output: str = field(default="vibrations", kw_only=True)
    dtype: Literal["float32", "float64"] | None = field(default="float64", kw_only=True)
    compile: bool | Literal["auto"] = field(default=False, kw_only=True)


@dataclass(frozen=True)
class VibrationSummary:
    """Summary of a calculation of vibrations.

    Args:
        converged: Whether the structure is relaxed.
        energy_eV: Potential energy.
        lowest_per_cm: Lowest frequency; an imaginary one as a negative number.
        highest_per_cm: Highest frequency.
        imaginary: Number of imaginary frequencies; a minimum has none, a transition state has one.
        near_zero: Number of frequencies below 10/cm, real or imaginary, which are neither imaginary nor vibrations.
        left_out: Motions of the whole structure that cost no energy and are no modes, such as "3 translations".
        zero_point_eV: Zero-point energy of the real frequencies.
        treated_as: "ideal gas", or "harmonic" if the structure is periodic, has fixed atoms or surroundings.
        symmetry_number: How many rotations map the molecule onto itself; None unless it is an ideal gas.
        multiplicity: The spin multiplicity in the entropy; None unless it is an ideal gas.
        temperature_K: Temperature of the next three.
        enthalpy_eV: Enthalpy of the ideal gas, or internal energy; with potential and zero-point energy.
        entropy_eV_per_K: Entropy.
        free_energy_eV: Gibbs energy of the ideal gas, or Helmholtz energy.
        output: The folder.
        message: Warnings, if there are any.
    """

    converged: bool
    energy_eV: float
    lowest_per_cm: float | None
    highest_per_cm: float | None
    imaginary: int
    near_zero: int
    left_out: str
    zero_point_eV: float
    treated_as: str
    symmetry_number: int | None
    multiplicity: int | None
    temperature_K: float
    enthalpy_eV: float
    entropy_eV_per_K: float
    free_energy_eV: float
    output: str
    message: str = ""
