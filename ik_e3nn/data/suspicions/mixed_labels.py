"""Warnings about sets in which some structures have other units, signs or methods than the rest."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import log

import numpy as np

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.data.labels.counted import Counted
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.data.labels.keys import LENGTH_UNITS, LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.data.suspicions.force_evidence import Response, hydrogen_responses, repulsion_responses
from ik_e3nn.data.suspicions.two_kinds import FEWEST, few_others, second_kind
from ik_e3nn.data.suspicions.unit_evidence import stress_sizes
from ik_e3nn.data.suspicions.unit_names import ENERGIES, LENGTHS, STRESSES

# Differences in eV per atom: more than any bond, which indicates two methods; and the least for two units.
_OTHER_METHOD, _LEAST = 15.0, 1.0
_WIDTH = 0.25  # half-width of a kind, in the logarithm


def mixed_positions(ratios: Sequence[FloatArray], data: LabeledSet, counted: Counted) -> str:
    """A warning about structures whose positions are in another unit than the other structures, or "".

    Args:
        ratios: ``nearest_ratios`` of each structure.
        data: The structures.
        counted: Counts and names the structures.
    """
    sizes = [
        float(np.median(one)) if len(one) > 2 or (len(one) and atoms.pbc.any()) else np.nan
        for one, atoms in zip(ratios, data.structures, strict=True)
    ]
    kind = second_kind(np.array(sizes), {name: 1.0 / size for name, size in LENGTHS.items()}, (0.6, 1.35))
    if kind is None:
        return ""
    unit = kind.names[0]
    return (
        f"positions: {counted(kind.members)} seem to be in {unit}, the others in A, by the distances of nearest "
        f"neighbors; multiply their positions and cells by {LENGTHS[unit]:.6g}"
    )


def mixed_energies(data: LabeledSet, keys: LabelKeys, counted: Counted) -> str:
    """A warning about structures whose energies have another unit, sign or method, or "".

    Args:
        data: Structures with labels.
        keys: The assumed units.
        counted: Counts and names the structures.
    """
    ratios, gaps = _energy_ratios(data)
    known = np.isfinite(ratios)
    usual = known & (ratios > 0.67) & (ratios < 1.5)
    sizes = np.maximum(data.sizes, 1)
    best: tuple[float, str, BoolArray] | None = None
    for other, first in _energy_kinds(keys):
        scaled = np.where(known & ~usual, ratios / (1.0 / sizes if other == "per atom" else first), -1.0)
        distances = np.abs(np.log(np.where(scaled > 0, scaled, np.inf)))
        members = (distances < _WIDTH) & (np.abs(gaps) > _LEAST)
        if members.sum() >= FEWEST and few_others(known, usual, members):
            off = float(np.median(distances[members]))
            best = min(best or (off, other, members), (off, other, members), key=lambda one: one[0])
    if best is not None:
        _, what, members = best
        if what == "sign" and np.median(data.values["energy"][members]) < 0:
            members = usual
        return f"energies: {counted(members)} {_ENERGY_WORDS.get(what, what)}"
    odd = known & ~usual & (np.abs(gaps) > _OTHER_METHOD)
    if odd.sum() >= FEWEST and few_others(known, usual, odd):
        return (
            f"energies: {counted(odd)} are {float(np.median(ratios[odd])):.3g} times the energies expected "
            "from their composition and the others: they seem to come from another method or unit; train on one of them"
        )
    return ""


_ENERGY_WORDS = {
    "sign": "seem to have the wrong sign; multiply them by -1",
    "per atom": "seem to be per atom, the others for whole structures; multiply them by the numbers of atoms",
}


def _energy_kinds(keys: LabelKeys) -> list[tuple[str, float]]:
    """Possible reasons for a second kind of energies, with their ratio to the first kind."""
    units = {name: size / keys.energy_factor for name, size in ENERGIES.items() if name != keys.energy_unit}
    words = "seem to be in {}, the others in {}; convert them, because one setting applies to all"
    kinds = [("sign", -1.0)]
    kinds += [(words.format(name, keys.energy_unit), 1.0 / size) for name, size in units.items()]
    kinds += [(words.format(keys.energy_unit, name), size) for name, size in units.items()]
    return [*kinds, ("per atom", 0.0)]


def _energy_ratios(data: LabeledSet) -> tuple[FloatArray, FloatArray]:
    """Energies divided by, and per atom minus, the energies that composition predicts; NaN if unknown."""
    ratios, gaps = np.full((2, len(data)), np.nan)
    counts, energies = composition(data.structures), data.values["energy"]
    usable = np.isfinite(energies) & (energies != 0.0)
    usable &= np.array([len(atoms) > 0 and not is_isolated(atoms) for atoms in data.structures], dtype=bool)
    chosen = usable & _larger_side(energies, counts, usable)
    for _ in range(5):
        if chosen.sum() < 2 * FEWEST:
            return ratios, gaps
        solution, _, rank, _ = np.linalg.lstsq(counts[chosen], energies[chosen], rcond=1e-10)
        covered = usable & (counts[:, ~counts[chosen].any(axis=0)] == 0).all(axis=1)
        expected = np.where(covered, counts @ solution, np.nan)
        chosen = covered & (np.abs(energies / expected - 1.0) < 0.1)
    if chosen.sum() < 3 * rank or np.median(np.abs(energies[chosen] / expected[chosen] - 1.0)) > 0.03:
        return ratios, gaps
    ratios[covered] = energies[covered] / expected[covered]
    gaps[covered] = (energies[covered] - expected[covered]) / counts[covered].sum(axis=1)
    return ratios, gaps


def _larger_side(energies: FloatArray, counts: FloatArray, usable: BoolArray) -> BoolArray:
    """The larger of two groups of energies per atom that differ in sign, or by a factor of two; all if there is one."""
    per_atom = np.where(usable, energies / np.maximum(counts.sum(axis=1), 1.0), np.nan)
    negative = usable & (per_atom < 0)
    side = negative if 2 * negative.sum() >= usable.sum() else usable & ~negative
    sizes = np.log(np.abs(per_atom[side]))
    order = np.sort(sizes)
    steps = np.diff(order)[FEWEST - 1 : len(order) - FEWEST]
    if not len(steps) or steps.max() < log(2.0):
        return side
    place = int(np.argmax(steps)) + FEWEST - 1
    upper = usable & side & (np.log(np.abs(np.where(side, per_atom, 1.0))) > 0.5 * (order[place] + order[place + 1]))
    return upper if 2 * upper.sum() >= side.sum() else side & ~upper


def mixed_forces(data: LabeledSet, keys: LabelKeys, counted: Counted) -> str:
    """A warning about structures whose forces have another sign or unit than the other structures, or "".

    Args:
        data: Structures with labels.
        keys: The assumed units.
        counted: Counts and names the structures.
    """
    hydrogen, repulsion = hydrogen_responses(data), repulsion_responses(data)
    for response, least, usual in ((hydrogen, 0.5, (0.4, 2.5)), (repulsion, 0.7, (0.2, 6.0))):
        sentence = _mixed_signs(response, least, counted) or _mixed_force_units(response, least, usual, keys, counted)
        if sentence:
            return sentence
    return ""


def _mixed_signs(response: Response, least: float, counted: Counted) -> str:
    """A warning about forces of two signs, or ""."""
    known = np.isfinite(response.agreement)
    right, wrong = known & (response.agreement > least), known & (response.agreement < -least)
    if min(right.sum(), wrong.sum()) < FEWEST or not few_others(known, right, wrong):
        return ""
    return f"forces: {counted(wrong)} seem to have the wrong sign, as gradients have; multiply them by -1"


def _mixed_force_units(
    response: Response, least: float, usual: tuple[float, float], keys: LabelKeys, counted: Counted
) -> str:
    """A warning about forces in two units, or ""."""
    factors = {
        f"{energy}/{length}": keys.force_factor * width / size
        for (energy, size), (length, width) in product(ENERGIES.items(), LENGTH_UNITS.items())
        if abs(log(keys.force_factor * width / size)) > log(8.0)
    }
    sizes = np.where(response.agreement > least, response.size, np.nan)
    kind = second_kind(sizes, factors, usual)
    if kind is None or np.isfinite(sizes).sum() < 0.9 * np.isfinite(response.size).sum():
        return ""
    return (
        f"forces: {counted(kind.members)} seem to be in {' or '.join(kind.names)}, the others in "
        f"{keys.energy_unit}/{keys.length_unit}; convert them, because one setting applies to all"
    )


def mixed_stresses(data: LabeledSet, counted: Counted) -> str:
    """A warning about structures whose stress is in another unit than the other structures, or "".

    Args:
        data: Structures with labels.
        counted: Counts and names the structures.
    """
    factors: Mapping[str, float] = {name: 1.0 / size for name, size in STRESSES.items()}
    kind = second_kind(stress_sizes(data), factors, (0.02, 1.5))
    if kind is None:
        return ""
    unit = kind.names[0]
    return (
        f"stress: {counted(kind.members)} seem to be in {unit}, the others in eV/A^3; "
        f"divide them by {1.0 / STRESSES[unit]:.6g}"
    )
