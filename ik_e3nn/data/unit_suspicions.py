"""Sentences about units that do not fit: of positions, energies, forces and stress."""

from collections.abc import Sequence
from math import log

from ase import Atoms
from ase.units import GPa, Hartree, Rydberg

from ik_e3nn.data.label_keys import ENERGY_UNITS, LENGTH_UNITS, LabelKeys
from ik_e3nn.data.label_values import StructureLabels
from ik_e3nn.data.unit_evidence import (
    energy_slopes,
    hydrogen_stiffness,
    nearest_ratio,
    stress_size,
    total_energy_ratio,
)

# What is less than this factor off is right: the evidence is good to some 20 percent.
_TOLERANCE = log(1.6)
# Those of the settings, and others that codes write.
_ENERGIES = ENERGY_UNITS | {"Ry": Rydberg, "meV": 1e-3}
_LENGTHS = {"bohr": LENGTH_UNITS["bohr"], "nm": 10.0, "pm": 0.01}
_STRESSES = {"kbar": 0.1 * GPa, "GPa": GPa}
# `stress_size` of crystals and liquids is 0.05 to 0.5.
_STRESS_SIZE, _STRESS_TOO_LARGE = 0.2, 8.0


def suspicious_units(structures: Sequence[Atoms], labels: Sequence[StructureLabels], keys: LabelKeys) -> list[str]:
    """Which units seem to be others than the settings say, which would fit, and what to set.

    What is looked at does not come from the labels in question: distances beside covalent radii, force constants of
    bonds to hydrogen, all-electron total energies, and differences of energies beside the work of forces and stress.
    Where that says nothing, neither does this.

    Args:
        structures: The structures.
        labels: Their labels, converted by the units of `keys`.
        keys: The units that were assumed.

    Returns:
        Sentences, none for data without contradiction.

    Example:
        >>> import numpy as np
        >>> water = StructureLabels(-47942.0, np.full((3, 3), np.nan), np.full((3, 3), np.nan))
        >>> suspicious_units([Atoms("H2O", np.eye(3))], [water], LabelKeys())[0][:68]
        'the energies seem to be in kcal/mol, not in eV: they are 630 times t'
    """
    distance = nearest_ratio(structures, labels)
    if distance is not None and (distance > 1.6 or distance < 0.4):
        name = _nearest(1.0 / distance, _LENGTHS)
        return [
            f"the positions seem to be in {name}, not in A: atoms are {distance:.3g} times as far from their nearest "
            f"neighbor as the sum of their covalent radii; multiply positions and cells by {_LENGTHS[name]:.6g}"
        ]
    slopes = energy_slopes(structures, labels)
    stiffness, total = hydrogen_stiffness(structures, labels), total_energy_ratio(structures, labels)
    energy, energy_sentence = _energy(total, keys)
    sentences = [energy_sentence] if energy_sentence else []
    sentences += _forces(slopes.forces, stiffness, energy, keys)
    if not sentences:
        sentences += _stress(slopes.stress, stress_size(structures, labels))
    return sentences


def _energy(total: float | None, keys: LabelKeys) -> tuple[float | None, str]:
    """What the energies are too large by, if that is known, and a sentence if it is not 1."""
    if total is None:
        return None, ""
    per_unit = Hartree / total  # eV in one unit of the energies as they were converted
    fitting = [
        name
        for name, size in _ENERGIES.items()
        if abs(log(size / keys.energy_factor / per_unit)) < 0.04 and (name != "Ry" or total > 30)
    ] if total > 0 else []  # fmt: skip
    if not fitting:
        return None, ""
    if keys.energy_unit in fitting:
        return 1.0, ""
    size = _ENERGIES[fitting[0]] / keys.energy_factor
    return 1.0 / size, (
        f"the energies seem to be in {fitting[0]}, not in {keys.energy_unit}: they are {total:.3g} times the sum of "
        f"the total energies of the atoms in Hartree, {Hartree:.3g} for energies in eV; {_setting(keys, fitting[0])}"
    )


def _forces(slope: float | None, stiffness: float | None, energy: float | None, keys: LabelKeys) -> list[str]:
    """Sentences about the sign and the unit of the forces, and whether the energies are in the same units."""
    if (stiffness is not None and stiffness < 0) or (stiffness is None and slope is not None and slope < 0):
        return [
            "the forces seem to have the wrong sign, as gradients have: they push bonds apart that are long, or "
            "energies rise where they pull; multiply them by -1"
        ]
    slope = abs(slope) if slope is not None else None
    if stiffness is None and slope is not None and energy is not None:
        stiffness = energy / slope
    sentences = []
    if stiffness is not None and abs(log(stiffness)) > _TOLERANCE:
        fitting = _force_units(1.0 / stiffness, keys)
        # energies whose unit is known share it with the forces, or one of the two must be converted
        fitting.sort(key=lambda one: energy is not None and not _shares(one[0], energy, keys))
        first = fitting[0] if fitting else ("another unit", "")
        shared = fitting and (energy is None or _shares(first[0], energy, keys))
        settings = first[1] if shared else "convert them: one setting is for energies and forces"
        others = f" (or {', '.join(name for name, _ in fitting[1:])})" if fitting[1:] else ""
        sentences.append(
            f"the forces seem to be in {first[0]}{others}, not in {keys.energy_unit}/{keys.length_unit}: force "
            f"constants of bonds are {stiffness:.3g} times what they are; {settings}"
        )
        if slope is None or abs(log(slope)) < _TOLERANCE:
            return sentences
    ratio = slope
    if ratio is None and energy is not None and stiffness is not None:
        ratio = energy / stiffness
    if ratio is not None and abs(log(ratio)) > log(1.7):
        sentences.append(
            f"energies and forces do not belong together: energies change by {ratio:.3g} times the work of the forces; "
            f"{_mismatch(ratio, keys)}"
        )
    return sentences


def _shares(unit: str, energy: float, keys: LabelKeys) -> bool:
    """Whether a unit of force has the energies' unit in it, which are too large by a factor."""
    size = _ENERGIES[unit.rpartition("/")[0]] / keys.energy_factor
    return abs(log(size * energy)) < 0.05


def _mismatch(ratio: float, keys: LabelKeys) -> str:
    """What may be behind energies and forces that differ by a factor."""
    for name, size in LENGTH_UNITS.items():
        if name != "ang" and abs(log(ratio * size)) < 0.25:
            return f"the forces seem to be per {name}; set {keys.setting('length_unit', name)}"
    names = [
        f"energies in {one}, forces in {two}/{length}"
        for one, size in _ENERGIES.items()
        for two, other in _ENERGIES.items()
        for length, width in LENGTH_UNITS.items()
        if abs(log(ratio * size / other * width)) < 0.25 and one != two and "eV" in (one, two)
    ]
    listing = f" ({' or '.join(names[:3])})" if names else ""
    return f"the units differ{listing}, or they are of different methods; convert one of them: one setting is for both"


def _force_units(size: float, keys: LabelKeys) -> list[tuple[str, str]]:
    """Units of force that fit one of a size in the unit assumed, with the settings, the nearest first."""
    found = []
    for unit, energy in _ENERGIES.items():
        for length, width in LENGTH_UNITS.items():
            distance = abs(log(energy / width / keys.force_factor / size))
            if distance < 0.35:
                found.append((distance, f"{unit}/{length}", _setting(keys, unit, length)))
    return [(name, setting) for _, name, setting in sorted(found)]


def _setting(keys: LabelKeys, unit: str, length: str | None = None) -> str:
    """What to do about a unit of energy, and of length within forces."""
    per = f"{keys.setting('length_unit', length)}" if length else ""
    if unit in ENERGY_UNITS:
        return f"set {keys.setting('energy_unit', unit)}" + (f" and {per}" if per else "")
    what = "energies and forces" if length else "energies"
    return f"multiply {what} by {_ENERGIES[unit]:.6g}" + (f" and set {per}" if per else "")


def _stress(slope: float | None, size: float | None) -> list[str]:
    """A sentence about the unit and the sign of the stress."""
    factor = None
    if slope is not None and (slope < 0 or abs(log(slope)) > log(2.5)):
        factor = 1.0 / slope
    elif slope is None and size is not None and size > _STRESS_TOO_LARGE:
        factor = size / _STRESS_SIZE
    if factor is None:
        return []
    sign = "" if factor > 0 else " and the opposite sign, as pressures and VASP have"
    if abs(log(abs(factor))) < log(2.5):
        return ["the stress seems to have the opposite sign, as pressures have: tension is positive; multiply it by -1"]
    if abs(factor) < 10:
        return [f"the stress does not fit the energies: they change by {1 / factor:.3g} times its work"]
    name = min(_STRESSES, key=lambda one: abs(log(abs(factor) * _STRESSES[one])))
    divisor = (1 if factor > 0 else -1) / _STRESSES[name]
    witness = "the energies" if slope is not None else "the forces"
    return [
        f"the stress seems to be in {name}{sign}, not in eV/A^3: it is {abs(factor):.2g} times what {witness} say "
        f"(unless those are in a smaller unit); divide it by {divisor:.6g}"
    ]


def _nearest(size: float, units: dict[str, float]) -> str:
    """The unit nearest in size."""
    return min(units, key=lambda name: abs(log(units[name] / size)))
