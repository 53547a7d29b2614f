"""Numbers that stand for a missing value, like -999: equal in several structures and far from the other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.data.labels.counted import Counted
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.outliers import robust_deviation
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.targets import Target

# Numbers that programs and people write for missing values, of either sign; one occurrence is enough.
_WELL_KNOWN = (999.0, 9999.0, 99999.0, 999999.0, 1e10, 1e20, 1e30)
_REPEATS = 3  # occurrences of a number that is not well known
_FEWEST = 5  # other values that are needed to judge what is far
_FAR = 8.0  # robust standard deviations of the other values


class Placeholder(NamedTuple):
    """A number that seems to stand for a missing value.

    Attributes:
        value: The number.
        members: Which structures have it, (n,).
    """

    value: float
    members: BoolArray


def find_placeholders(values: FloatArray, structures: Sequence[Atoms]) -> list[Placeholder]:
    """Numbers that several structures share exactly (or that are well known, like -999) and that are far from others.

    A number is far if it is more than eight robust standard deviations beyond nearly all other values. A number that is
    not well known must also be beyond all of them by more than their range and be repeated most often. A well-known
    number that is repeated three times as often as any other need only be four deviations from the median. If a sum
    over elements explains the other values, it is subtracted first. Zero is never a placeholder, because dipoles and
    gaps can be zero by symmetry.

    Args:
        values: The values, (n,), NaN where missing.
        structures: The structures that they belong to.

    Returns:
        The numbers; none if there are fewer than five other values.

    Example:
        >>> energies = np.r_[np.linspace(4.0, 6.0, 11), [-999.0] * 8]
        >>> [(one.value, int(one.members.sum())) for one in find_placeholders(energies, [Atoms("CH4")] * 19)]
        [(-999.0, 8)]
    """
    famous = np.isin(np.abs(values), _WELL_KNOWN)
    others = np.isfinite(values) & ~famous
    repeats = np.unique(values[others], return_counts=True)[1].max(initial=1)
    found = []
    for value in np.unique(values[famous]):
        members = values == value
        # a number that is repeated far more often than any other need not be beyond the tails of the others
        bounds = (0.5, 0.5) if members.sum() >= _REPEATS * repeats else (0.02, 0.98)
        if _is_far(values, members, others, structures, bounds):
            found.append(Placeholder(float(value), members))
    repeated = _most_repeated(values[others])
    if repeated is not None:
        members = values == repeated
        others = others & ~members
        if (
            members.sum() <= others.sum()
            and _differ([structures[number] for number in np.flatnonzero(members).tolist()])
            and _is_far(values, members, others, structures, (0.0, 1.0))
        ):
            found.append(Placeholder(repeated, members))
    return found


def placeholder_sentences(
    name: str, values: FloatArray, structures: Sequence[Atoms], places: Sequence[str]
) -> list[str]:
    """Sentences about numbers that seem to stand for missing values of one quantity.

    Args:
        name: What the numbers are.
        values: The numbers, (n,), NaN where missing.
        structures: The structures.
        places: What messages call each structure.

    Returns:
        Sentences.

    Example:
        >>> values = np.r_[np.linspace(4.0, 6.0, 11), -999.0]
        >>> placeholder_sentences("gap", values, [Atoms("CH4")] * 12, [f"row {k}" for k in range(1, 13)])[0][:68]
        '1 of 12 structures (the first is row 12) has the gap -999, far from '
    """
    counted = Counted(places, len(structures))
    return [
        f"{counted(one.members)} {'have the same' if one.members.sum() > 1 else 'has the'} {name}"
        f"{',' if one.members.sum() > 1 else ''} {one.value:.10g}, far from the others: a placeholder for a missing "
        "value? Remove it (a missing label is left out)"
        for one in find_placeholders(values, structures)
    ]


def label_placeholders(data: LabeledSet, values: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Sentences about labels of structures, as they are in the files.

    Args:
        data: The structures.
        values: All values of each structure, by key.
        keys: The keys that labels are read from.

    Returns:
        Sentences.

    Example:
        >>> frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(12)]
        >>> values = [{"e": -31.0 + 0.01 * k if k < 8 else 9999.0} for k in range(12)]
        >>> label_placeholders(LabeledSet.of_labels(frames), values, ["e"])[0][:63]
        '4 of 12 structures (the first is structure 8) have the same e, '
    """
    sentences = []
    for key in keys:
        found = [one.get(key) if size > 1 else None for one, size in zip(values, data.sizes, strict=True)]
        is_array = any(np.size(one) > 1 for one in found if one is not None)
        numbers = np.array([np.nan if one is None else extreme(one) for one in found], dtype=float)
        name = f"largest component of {key}" if is_array else key
        sentences += placeholder_sentences(name, numbers, data.structures, data.names)
    return sentences


def property_placeholders(data: LabeledSet) -> list[str]:
    """Sentences about the values of targets other than energy, forces and stress.

    Args:
        data: Structures with values.

    Returns:
        Sentences.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> gaps = {"gap": np.r_[np.linspace(4.0, 6.0, 11), -999.0]}
        >>> one = LabeledSet([Atoms("H2")] * 12, (Intensive("gap", "eV"),), gaps, list("abcdefghijkl"))
        >>> property_placeholders(one)[0][:49]
        '1 of 12 structures (the first is molecule l) has '
    """
    sentences = []
    for target in data.targets:
        if target.field is None:
            name = f"largest component of {target.name}" if target.shape else target.name
            sentences += placeholder_sentences(name, _extremes(data, target), data.structures, data.names)
    return sentences


def without_placeholders(data: LabeledSet) -> LabeledSet:
    """The set with NaN in place of probable placeholders, so that the other values can be judged.

    Args:
        data: Structures with values.

    Returns:
        A new set.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> gaps = {"gap": np.r_[np.linspace(4.0, 6.0, 11), -999.0]}
        >>> without_placeholders(LabeledSet([Atoms("H2")] * 12, (Intensive("gap"),), gaps)).counts()
        {'gap': 11}
    """
    values = {name: found.copy() for name, found in data.values.items()}
    for target in data.targets:
        for one in find_placeholders(_extremes(data, target), data.structures):
            values[target.name][one.members[data.owners(target)]] = np.nan
    return replace(data, values=values)


def _extremes(data: LabeledSet, target: Target) -> FloatArray:
    """The largest component of each structure; NaN for energy, forces and stress of single atoms."""
    numbers = np.array([extreme(one) for one in data.by_structure(target.name)], dtype=float)
    return numbers if target.field is None else np.where(data.sizes > 1, numbers, np.nan)


def extreme(value: ArrayLike) -> float:
    """The number of largest magnitude, with its sign; NaN if none is finite.

    >>> extreme([[1.0, -3.0], [2.0, np.nan]])
    -3.0
    """
    numbers = np.asarray(value, dtype=float).reshape(-1)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers[np.argmax(np.abs(numbers))]) if len(numbers) else float("nan")


def _most_repeated(values: FloatArray) -> float | None:
    """The one number that occurs more often than any other, at least three times, and is not zero."""
    numbers, counts = np.unique(values, return_counts=True)
    if not len(counts):
        return None
    order = np.argsort(-counts, kind="stable")
    second = counts[order[1]] if len(order) > 1 else 0
    value = float(numbers[order[0]])
    return value if counts[order[0]] >= _REPEATS and counts[order[0]] > second and value != 0.0 else None


def _differ(structures: Sequence[Atoms]) -> bool:
    """Whether the structures differ; if all are the same, equal values are expected."""
    first = structures[0]
    return any(
        len(one) != len(first)
        or (one.numbers != first.numbers).any()
        or not np.allclose(one.positions, first.positions, atol=1e-4)
        or not np.allclose(one.cell.array, first.cell.array, atol=1e-4)
        for one in structures[1:]
    )


def _is_far(
    values: FloatArray, members: BoolArray, others: BoolArray, structures: Sequence[Atoms], bounds: tuple[float, float]
) -> bool:
    """Whether the members are beyond these quantiles of the others by much more than the spread of the others."""
    if others.sum() < _FEWEST:
        return False
    rest = _beside_composition(values, others, structures)
    low, high = np.quantile(rest[others], bounds)
    gap = float(np.median(np.maximum(low - rest[members], rest[members] - high)))
    with np.errstate(over="ignore"):
        deviation = robust_deviation(rest[others]) or float(rest[others].std())
    if bounds == (0.0, 1.0):
        return 0.0 < max(_FAR * deviation, high - low) < gap
    return gap > (_FAR / 2 if bounds == (0.5, 0.5) else _FAR) * deviation


def _beside_composition(values: FloatArray, others: BoolArray, structures: Sequence[Atoms]) -> FloatArray:
    """Values minus a sum over elements that is fitted to the others, if it explains nine tenths of their spread."""
    counts = composition(structures)
    if others.sum() < 5 * max(2, counts.shape[1]):
        return values
    rest = values - counts @ np.linalg.lstsq(counts[others], values[others], rcond=None)[0]
    return rest if robust_deviation(rest[others]) < 0.1 * robust_deviation(values[others]) else values
