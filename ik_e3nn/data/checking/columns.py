"""Outliers of properties, and checks of the columns of a table against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
from ase import Atoms
from ase.units import Hartree

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.labels.outliers import Column, robust_deviation, robust_scores
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.data.suspicions.unit_evidence import agreed, total_energy_ratios
from ik_e3nn.data.suspicions.unit_names import ENERGIES

OUTLIER_SCORE = 10.0
_FEWEST = 10  # values needed to estimate a spread
_ENERGIES = {name: size for name, size in ENERGIES.items() if name != "Ry"}  # not used in tables of molecules


def property_column(name: str, values: FloatArray, structures: Sequence[Atoms]) -> Column:
    """The values of a property and its outliers, relative to a sum over elements if that explains the values.

    Args:
        name: The property.
        values: The values, (n,), NaN where missing.
        structures: The structures.

    Example:
        >>> one = property_column("gap", np.r_[np.linspace(4.0, 6.0, 11), 1e5], [Atoms("CH4")] * 12)
        >>> one.outliers, one.deviation.__round__(2), one.is_sum
        ([11], 0.89, False)
    """
    reduced = _without_composition(values, structures)
    plain = robust_deviation(values)
    is_sum = reduced is not None and robust_deviation(reduced) < 0.1 * plain
    rest = reduced if reduced is not None and is_sum else values
    known = np.isfinite(rest)
    size = (float(rest[known].std()) if known.any() else 0.0) or 1.0
    scores = robust_scores(rest / size)
    far = np.nan_to_num(np.abs(scores)) > OUTLIER_SCORE
    if known.sum() < _FEWEST or far.sum() > max(1, known.sum() // 10):  # so many are a second kind, and no outliers
        far = np.zeros_like(far)
    deviation = robust_deviation(rest) if known.any() else float("nan")
    return Column(name, values, scores, far, deviation, is_sum)


def _without_composition(values: FloatArray, structures: Sequence[Atoms]) -> FloatArray | None:
    """Values minus a sum over elements, fitted by least squares without outliers; None if there are too few values."""
    counts = composition(structures)
    chosen = np.isfinite(values)
    for _ in range(3):
        if chosen.sum() < 5 * max(2, counts.shape[1]):
            return None
        rest = values - counts @ np.linalg.lstsq(counts[chosen], values[chosen], rcond=None)[0]
        size = float(np.nanstd(rest[chosen])) or 1.0
        chosen = np.isfinite(values) & (np.abs(robust_scores(rest / size)) < OUTLIER_SCORE)
    return rest


def mixed_units(column: Column) -> str:
    """Factors of a second unit that bring all outliers into the range of the other values; "" if there are none.

    Args:
        column: The values.

    Returns:
        Part of a sentence.

    Example:
        >>> gaps = np.linspace(5.0, 9.0, 40)
        >>> gaps[10:14] /= 27.2114
        >>> mixed_units(property_column("gap", gaps, [Atoms("CH4")] * 40))
        ''
        >>> gaps[10:14] *= 27.2114**2
        >>> mixed_units(property_column("gap", gaps, [Atoms("CH4")] * 40))
        'all of them fit the other values if divided by 27.2 (as of Ha and eV) or 23.1 (as of eV and kcal/mol)'
    """
    found, values = column.outliers, column.values
    if len(found) < 3 or column.is_sum:
        return ""
    others = np.delete(values, found)
    low, high = np.nanquantile(others, [0.0, 1.0])
    fitting = [
        f"{factor:.3g} (as of {names})"
        for names, factor in _factors().items()
        if low * high > 0 and ((values[found] / factor >= low) & (values[found] / factor <= high)).all()
    ]
    return f"all of them fit the other values if divided by {' or '.join(fitting)}" if fitting else ""


def _factors() -> dict[str, float]:
    """Ratios of units of energy, by the names of the units."""
    return {
        f"{one} and {two}": size / other
        for two, other in _ENERGIES.items()
        for one, size in _ENERGIES.items()
        if one != two
    }


def column_doubts(values: Mapping[str, FloatArray]) -> list[str]:
    """Warnings about columns of a table whose units contradict each other.

    Args:
        values: The scalar properties by name, (n,) each, NaN where missing.

    Returns:
        Warnings about a gap that is not the difference of two levels.

    Example:
        >>> homo, lumo = np.linspace(-7, -6, 12), np.linspace(-1, 0.5, 12)
        >>> column_doubts({"homo": homo, "lumo": lumo, "gap": (lumo - homo) / 27.2114})
        ['gap is 0.0367 times lumo - homo in all rows: gap seems to be in Ha, the levels in eV']
    """
    sentences = []
    lower = {name.lower(): name for name in values}
    if {"homo", "lumo", "gap"} <= set(lower):
        homo, lumo, gap = (values[lower[name]] for name in ("homo", "lumo", "gap"))
        factor = _constant(gap, lumo - homo)
        if factor is not None and abs(log(factor)) > 0.02:
            units = [names for names, size in _factors().items() if abs(log(size * factor)) < 0.02]
            why = f": gap seems to be in {units[0].replace(' and ', ', the levels in ')}" if units else ""
            sentences.append(f"gap is {factor:.3g} times lumo - homo in all rows{why}")
    return sentences


def total_energy_unit(values: FloatArray, structures: Sequence[Atoms]) -> str:
    """The unit of all-electron total energies of molecules of light elements; "" if the values are not such energies.

    Args:
        values: The values, (n,), NaN where missing.
        structures: The molecules.

    Returns:
        The unit's name.

    Example:
        >>> total_energy_unit(np.array([-76.4] * 3), [Atoms("H2O")] * 3)
        'Ha'
    """
    ratios = total_energy_ratios(values, structures)
    middle = agreed(ratios) or 0.0
    if np.isfinite(ratios).sum() < 3 or middle <= 0:
        return ""
    return next((name for name, size in _ENERGIES.items() if abs(log(middle * size / Hartree)) < 0.04), "")


def _constant(one: FloatArray, other: FloatArray) -> float | None:
    """The ratio of two columns, if it is positive and the same in nearly all rows; otherwise None."""
    known = np.isfinite(one) & np.isfinite(other) & (np.abs(other) > 0)
    if known.sum() < 3:
        return None
    ratios = one[known] / other[known]
    middle = float(np.median(ratios))
    return middle if middle > 0 and np.mean(np.abs(ratios / middle - 1) < 0.02) > 0.9 else None
