"""Find two kinds of values in one set, with almost no values between them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ik_e3nn.arrays import BoolArray, FloatArray

FEWEST = 3  # structures; fewer are outliers and no kind
_WIDEST = 1.3  # largest half-width of a kind in the logarithm, at most a quarter of the distance between kinds


class SecondKind(NamedTuple):
    """Values that differ from the usual ones by a known factor.

    Attributes:
        names: Names of the factors that fit, the best first.
        members: Which values are of the second kind, (n,).
    """

    names: list[str]
    members: BoolArray


def second_kind(values: FloatArray, factors: Mapping[str, float], usual: tuple[float, float]) -> SecondKind | None:
    """The values that differ by a factor from the usual ones, if nearly all values are of one of the two kinds.

    Args:
        values: Positive numbers, (n,), NaN where unknown.
        factors: Ratios of the second kind to the first kind, by name.
        usual: Smallest and largest possible center of the first kind.

    Returns:
        The second kind; None if values lie between the kinds, or a kind has fewer than three values.

    Example:
        >>> values = np.array([1.0, 1.9, 0.98, 1.02, 1.92, 1.0, 1.88])
        >>> second_kind(values, {"bohr": 1.89, "nm": 0.1}, (0.6, 1.4))
        SecondKind(names=['bohr'], members=array([False,  True, False, False,  True, False,  True]))
        >>> second_kind(np.linspace(0.8, 2.2, 50), {"bohr": 1.89}, (0.6, 1.4)) is None
        True
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(values)
    known = np.isfinite(logarithms)
    if known.sum() < 2 * FEWEST:
        return None
    middles = np.quantile(logarithms[known], np.linspace(0.0, 1.0, 41))
    middles = middles[(middles > np.log(usual[0])) & (middles < np.log(usual[1]))]
    best: tuple[int, dict[str, float], BoolArray] | None = None
    for factor in factors.values():
        shift = np.log(factor)
        width = min(_WIDEST, abs(shift) / 4)
        for middle in middles:
            first = known & (np.abs(logarithms - middle) < width)
            second = known & (np.abs(logarithms - middle - shift) < width)
            if min(first.sum(), second.sum()) < FEWEST or not few_others(known, first, second):
                continue
            gap = float(np.median(logarithms[second]) - np.median(logarithms[first]))
            distances = {one: abs(gap - float(np.log(other))) for one, other in factors.items()}
            count = int(first.sum() + second.sum())
            if min(distances.values()) < 0.35 and (best is None or count > best[0]):
                best = count, distances, second
    if best is None:
        return None
    _, distances, second = best
    return SecondKind(
        [one for one in sorted(distances, key=lambda one: distances[one]) if distances[one] < 0.35], second
    )


def few_others(known: BoolArray, first: BoolArray, second: BoolArray) -> bool:
    """Whether values of neither kind are at most a tenth of all, and a third of the smaller kind.

    Example:
        >>> every = np.ones(10, dtype=bool)
        >>> (
        ...     few_others(every, np.arange(10) < 5, np.arange(10) > 4),
        ...     few_others(every, np.arange(10) < 5, np.arange(10) > 6),
        ... )
        (True, False)
    """
    others = int((known & ~first & ~second).sum())
    return bool(others <= 0.1 * known.sum() and 3 * others <= min(first.sum(), second.sum()))
