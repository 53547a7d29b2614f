"""Warnings about wrong units and signs of positions, energies, forces and stress."""

from dataclasses import replace
from math import log
from typing import NamedTuple

import numpy as np
from ase.units import Hartree

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.data.labels.counted import Counted
from ik_e3nn.data.labels.keys import LENGTH_UNITS, LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.placeholders import without_placeholders
from ik_e3nn.data.suspicions.energy_extent import per_atom
from ik_e3nn.data.suspicions.force_evidence import hydrogen_stiffness, repulsion_responses, sorted_rows
from ik_e3nn.data.suspicions.label_work import energy_slopes
from ik_e3nn.data.suspicions.mixed_labels import mixed_energies, mixed_forces, mixed_positions, mixed_stresses
from ik_e3nn.data.suspicions.stress import suspicious_stress
from ik_e3nn.data.suspicions.unit_evidence import agreed, nearest_ratio, nearest_ratios, sample, total_energy_ratios
from ik_e3nn.data.suspicions.unit_names import ENERGIES, LENGTHS, force_units, nearest_unit, setting
from ik_e3nn.data.suspicions.zero_labels import zero_labels
from ik_e3nn.targets import mechanics_of

# Smaller factors count as right: the evidence is accurate to some 20 percent.
_TOLERANCE = log(1.6)
# Force constants that are off by less than this are reported only if a unit fits.
_CLEARLY_OFF = log(4.0)
_RIGHT = 0.4
_ABSURD = 1e12
_WRONG_FORCES = "the forces seem to have the wrong sign, as gradients have: {}; multiply them by -1"
_SIGNS = 0.85  # agreement with a repulsion that decides the sign of forces


def suspicious_units(data: LabeledSet, keys: LabelKeys) -> list[str]:
    """Warnings about units that seem to differ from the settings, with the units that fit and the settings to change.

    The evidence is independent of the labels that it judges: distances compared with covalent radii, force constants
    of bonds to hydrogen, all-electron total energies, and differences of energies compared with the work of forces and
    stress. Without evidence there is no warning. Of many structures, a random sample is checked.

    Args:
        data: Structures with energies, forces and stresses, converted by the units of ``keys``.
        keys: The assumed units.

    Returns:
        Warnings, an empty list for data without contradiction.

    Example:
        >>> from ase import Atoms
        >>> from ik_e3nn.targets import MECHANICS
        >>> energy = {"energy": np.array([-47942.0])}
        >>> water = LabeledSet([Atoms("H2O", np.eye(3))], MECHANICS[:1], energy)
        >>> suspicious_units(water, LabelKeys())[0][:68]
        'the energies seem to be in kcal/mol, not in eV: they are 630 times t'
    """
    some = without_placeholders(_without_absurd(data.with_mechanics().select(sample(data.structures))))
    counted = Counted(some.names, len(data))
    ratios = [nearest_ratios(atoms) for atoms in some.structures]
    mixed = mixed_positions(ratios, some, counted)
    if mixed:
        return [mixed]
    distance = nearest_ratio(ratios)
    if distance is not None and (distance > 1.6 or distance < 0.4):
        name = nearest_unit(1.0 / distance, LENGTHS)
        return [
            f"the positions seem to be in {name}, not in A: atoms are {distance:.3g} times as far from their nearest "
            f"neighbor as the sum of their covalent radii; multiply positions and cells by {LENGTHS[name]:.6g}"
        ]
    found = [
        mixed_energies(some, keys, counted),
        mixed_forces(some, keys, counted),
        mixed_stresses(some, counted),
        *zero_labels(some, counted),
    ]
    return [sentence for sentence in found if sentence] or _of_all(some, keys)


def _without_absurd(data: LabeledSet) -> LabeledSet:
    """The set without labels that are meaninglessly large, whose squares would overflow."""
    values = {name: found.copy() for name, found in data.values.items()}
    for target in mechanics_of(data.targets).values():
        owners = data.owners(target)
        absurd = owners[(np.abs(values[target.name]).reshape(-1, target.width) >= _ABSURD).any(axis=1)]
        values[target.name][np.isin(owners, absurd)] = np.nan
    return replace(data, values=values)


def _of_all(data: LabeledSet, keys: LabelKeys) -> list[str]:
    """Warnings about faults that all labels share."""
    slopes = energy_slopes(data)
    stiffness = hydrogen_stiffness(data)
    energy = _energy(data, slopes.forces, stiffness, keys)
    sentences = [energy.sentence] if energy.sentence else []
    if stiffness is None or not abs(stiffness - 1.0) < _RIGHT:
        order = sorted_rows(data)
        if order:
            return [
                *sentences,
                f"the rows of the forces seem to be in another order than the atoms: sorted by {order}, they fit the "
                "bonds to hydrogen; write them in the order of the atoms",
            ]
    if stiffness is None and slopes.forces is None and _force_sign(data, None) < 0:
        return [*sentences, _WRONG_FORCES.format("they pull atoms together that are near to each other")]
    sentences += _forces(slopes.forces if energy.is_total else None, stiffness, energy.factor, keys)
    return sentences or suspicious_stress(data, slopes.stress, keys)


class _Energy(NamedTuple):
    """The factor by which energies are too large (None if unknown), a warning, and whether forces can be checked."""

    factor: float | None
    sentence: str
    is_total: bool = True


def _energy(data: LabeledSet, slope: float | None, stiffness: float | None, keys: LabelKeys) -> _Energy:
    """Judge the unit and sign of the energies, and whether they are per atom."""
    ratios = total_energy_ratios(data.values["energy"], data.structures)
    total = agreed(ratios)
    sizes = np.maximum(data.sizes, 1)
    extent = per_atom(data, slope) or _all_electron(ratios, sizes, slope, keys)
    if total is not None and _fitting(total, keys):
        return _energy_unit(total, keys)
    if total is not None and _fitting(-total, keys):
        return _Energy(None, _wrong_sign(f"they are {total:.3g} times the sum of those of the atoms in Hartree"), False)
    if extent:
        what = "the energies seem to be per atom, not for whole structures"
        return _Energy(None, f"{what}: {extent}; multiply each by its number of atoms", False)
    if slope is not None and slope < 0 and _force_sign(data, stiffness) > 0:
        return _Energy(None, _wrong_sign("they rise along the forces, whose sign fits the bonds"), False)
    return _Energy(None, "")


def _all_electron(ratios: FloatArray, sizes: IntArray, slope: float | None, keys: LabelKeys) -> str:
    """Why energies are all-electron energies per atom; "" if they are not, or may be those of valence electrons."""
    whole = agreed(ratios * sizes)
    if whole is None or sizes.min() < 8 or (slope is not None and abs(log(abs(slope) * np.median(sizes))) > _TOLERANCE):
        return ""
    share = whole / (Hartree * keys.energy_factor / ENERGIES[keys.energy_unit])
    return "times the number of atoms they are all-electron energies" if 0.999 < share < 1.013 else ""


def _wrong_sign(why: str) -> str:
    return f"the energies seem to have the wrong sign: {why}; multiply them by -1"


def _force_sign(data: LabeledSet, stiffness: float | None) -> float:
    """The sign of the forces from bonds to hydrogen, or from the repulsion of atoms in crystals; 0 if unknown."""
    if stiffness is not None:
        return float(np.sign(stiffness))
    agreement = repulsion_responses(data).agreement
    known = agreement[np.isfinite(agreement)]
    strong = np.mean(np.abs(known) > _SIGNS) if len(known) >= 10 else 0.0
    return float(np.sign(np.median(known))) if strong > 0.8 else 0.0


def _fitting(total: float, keys: LabelKeys) -> list[str]:
    """Units of energy that fit the ratio of total energies to those of the atoms in Hartree."""
    if total <= 0:
        return []
    per_unit = Hartree / total  # eV per unit of the converted energies
    return [
        name
        for name, size in ENERGIES.items()
        if abs(log(size / keys.energy_factor / per_unit)) < 0.04 and (name != "Ry" or total > 30)
    ]


def _energy_unit(total: float, keys: LabelKeys) -> _Energy:
    """The factor by which the energies are too large, and a warning if it is not 1."""
    fitting = _fitting(total, keys)
    if keys.energy_unit in fitting:
        return _Energy(1.0, "")
    size = ENERGIES[fitting[0]] / keys.energy_factor
    return _Energy(
        1.0 / size,
        f"the energies seem to be in {fitting[0]}, not in {keys.energy_unit}: they are {total:.3g} times the sum of "
        f"the total energies of the atoms in Hartree, {Hartree:.3g} for energies in eV; {setting(keys, fitting[0])}",
    )


def _forces(slope: float | None, stiffness: float | None, energy: float | None, keys: LabelKeys) -> list[str]:
    """Warnings about the sign and unit of the forces, and about energies in other units."""
    if (stiffness is not None and stiffness < 0) or (stiffness is None and slope is not None and slope < 0):
        sign = _WRONG_FORCES.format("they push long bonds apart, or energies rise along the forces")
        slope, stiffness = (None if one is None else abs(one) for one in (slope, stiffness))
        return [sign, *_forces(slope, stiffness, energy, keys)]
    slope = abs(slope) if slope is not None else None
    if stiffness is None and slope is not None and energy is not None:
        stiffness = energy / slope
    sentences = []
    if stiffness is not None and abs(log(stiffness)) > _TOLERANCE:
        fitting = force_units(1.0 / stiffness, keys)
        if slope is not None and abs(log(slope)) < _TOLERANCE and energy in (None, 1.0):
            # the energies show that the unit of length is right
            fitting = [one for one in fitting if one[0].endswith(f"/{keys.length_unit}")]
        if not fitting and abs(log(stiffness)) < _CLEARLY_OFF:
            return []
        # prefer units that the forces share with energies of known unit; otherwise one of the two must be converted
        fitting.sort(key=lambda one: energy is not None and not _shares(one[0], energy, keys))
        first = fitting[0] if fitting else ("another unit", "")
        shared = fitting and (energy is None or _shares(first[0], energy, keys))
        what = first[1] if shared else "convert them, because one setting applies to energies and forces"
        others = f" (or {', '.join(name for name, _ in fitting[1:])})" if fitting[1:] else ""
        sentences.append(
            f"the forces seem to be in {first[0]}{others}, not in {keys.energy_unit}/{keys.length_unit}: force "
            f"constants of bonds are {stiffness:.3g} times the usual ones; {what}"
        )
        if slope is None or abs(log(slope)) < _TOLERANCE:
            return sentences
    ratio = slope
    if ratio is None and energy is not None and stiffness is not None:
        ratio = energy / stiffness
    if ratio is not None and abs(log(ratio)) > log(1.7):
        sentences.append(
            f"energies and forces do not fit each other: energies change by {ratio:.3g} times the work of the forces; "
            f"{_mismatch(ratio, keys)}"
        )
    return sentences


def _shares(unit: str, energy: float, keys: LabelKeys) -> bool:
    """Whether a unit of force contains the unit of the energies, which are too large by a factor."""
    size = ENERGIES[unit.rpartition("/")[0]] / keys.energy_factor
    return abs(log(size * energy)) < 0.05


def _mismatch(ratio: float, keys: LabelKeys) -> str:
    """Possible reasons for energies and forces that differ by a factor, with the correction."""
    for name, size in LENGTH_UNITS.items():
        if name != "ang" and abs(log(ratio * size)) < 0.25:
            return f"the forces seem to be per {name}; set {keys.setting('length_unit', name)}"
    names = [
        f"energies in {one}, forces in {two}/{length}"
        for one, size in ENERGIES.items()
        for two, other in ENERGIES.items()
        for length, width in LENGTH_UNITS.items()
        if abs(log(ratio * size / other * width)) < 0.25 and one != two and "eV" in (one, two)
    ]
    listing = f" ({' or '.join(names[:3])})" if names else ""
    return f"the units differ{listing}, or the methods; convert one of them, because one setting applies to both"
