"""Detect energies that are per atom instead of for whole structures."""

from math import log

import numpy as np

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.data.suspicions.unit_names import ENERGIES

_FEWEST = 10
# Composition fits energies per atom to this relative error, and energies of whole structures five times worse.
_SHARE, _WORSE = 0.05, 5.0
_CLOSE = 0.06  # in the logarithm


def per_atom(data: LabeledSet, slope: float | None) -> str:
    """The reason why energies seem to be per atom; "" if they do not.

    Args:
        data: Structures with labels.
        slope: Differences of energies divided by the work of the forces, None if unknown.

    Returns:
        Part of a sentence.

    Example:
        >>> from ase import Atoms
        >>> from ik_e3nn.targets import MECHANICS
        >>> chains = [Atoms(f"H{n}") for n in range(2, 14)]
        >>> def with_energies(values):
        ...     return LabeledSet(chains, MECHANICS[:1], {"energy": values})
        >>> per_atom(with_energies(np.full(12, -15.0)), None)
        'structures of 2 to 13 atoms have much the same energies'
        >>> per_atom(with_energies(-15.0 * np.arange(2, 14)), None)
        ''
    """
    energies = data.values["energy"]
    sizes = data.sizes
    known = np.isfinite(energies) & (sizes > 1)
    if known.sum() < _FEWEST:
        return ""
    low, high, middle = int(sizes[known].min()), int(sizes[known].max()), float(np.median(sizes[known]))
    if slope is not None and abs(log(abs(slope) * middle)) < _CLOSE and not _is_unit(slope):
        return f"they change by 1/{1 / abs(slope):.3g} of the work of the forces, in structures of {middle:g} atoms"
    counts = composition(data.structures)
    if high < 1.5 * low or known.sum() < 3 * counts.shape[1]:
        return ""
    shares = counts / np.maximum(sizes, 1)[:, None]
    whole, single = (_rest(matrix[known], energies[known]) for matrix in (counts, shares))
    if single < _SHARE * abs(float(np.mean(energies[known]))) and whole > _WORSE * single:
        return f"structures of {low} to {high} atoms have much the same energies"
    return ""


def _is_unit(slope: float) -> bool:
    """Whether different units of energies and forces explain the slope as well."""
    return any(abs(log(abs(slope) / size)) < _CLOSE for size in ENERGIES.values())


def _rest(matrix: FloatArray, values: FloatArray) -> float:
    """Root mean square of the residuals of linear least squares."""
    solution = np.linalg.lstsq(matrix, values, rcond=1e-10)[0]
    return float(np.sqrt(np.mean((values - matrix @ solution) ** 2)))
