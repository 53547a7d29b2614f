"""Labels that stand out, and cells and forces that may not be meant as they are."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data.labels.values import StructureLabels

FloatArray = NDArray[np.float64]

OUTLIER_SCORE = 8.0
LARGE_FORCE = 50.0
LARGE_STRESS = 1.0  # 160 GPa
# Frames of one composition are compared with each other if there are this many.
_OWN_MEDIAN = 10


@dataclass(frozen=True)
class Outlier:
    """A structure with an unusual label.

    Args:
        structure: Its number in the data set.
        what: What is unusual.
        value: The value.
        score: Distance from the median in robust standard deviations.

    Example:
        >>> Outlier(3, "energy per atom (eV)", -9.0, 20.0).structure
        3
    """

    structure: int
    what: str
    value: float
    score: float


def robust_scores(values: FloatArray) -> FloatArray:
    r"""Robust standard scores, :math:`(x - \mathrm{median}) / (1.4826\,\mathrm{MAD})`.

    Args:
        values: Numbers, NaN where missing.

    Returns:
        Scores; NaN where missing.

    Example:
        >>> robust_scores(np.array([1.0, 2.0, 3.0, 4.0, 100.0])).round(1).tolist()
        [-1.3, -0.7, 0.0, 0.7, 65.4]
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.full_like(values, np.nan)
    middle = np.median(finite)
    spread = 1.4826 * np.median(np.abs(finite - middle))
    return (values - middle) / max(spread, 1e-6)


def energy_outliers(structures: Sequence[Atoms], residuals: FloatArray) -> list[Outlier]:
    """Structures whose energy per atom, relative to E0, is far from that of the others.

    Args:
        structures: The structures.
        residuals: Energy relative to E0 per atom, (n,), in eV; NaN where missing or for isolated atoms.

    Returns:
        Outliers, the worst first.

    Example:
        >>> structures = [Atoms("H2")] * 12
        >>> energies = np.r_[np.linspace(-1.01, -0.99, 11), 5.0]
        >>> [outlier.structure for outlier in energy_outliers(structures, energies)]
        [11]
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, atoms in enumerate(structures):
        groups[atoms.get_chemical_formula()].append(number)
    scores, chosen = np.full(len(residuals), np.nan), np.zeros(len(residuals), dtype=bool)
    rest = [number for members in groups.values() if len(members) < _OWN_MEDIAN for number in members]
    for members in [*(group for group in groups.values() if len(group) >= _OWN_MEDIAN), rest]:
        scores[members] = robust_scores(residuals[members])
        chosen[members] = _few(np.abs(scores[members]) > OUTLIER_SCORE)
    return _outliers(scores, chosen, residuals, "energy per atom relative to E0 (eV)")


def force_outliers(labels: Sequence[StructureLabels]) -> list[Outlier]:
    """Structures whose largest force is far above that of the others, or above 50 eV/A where few have such forces.

    Args:
        labels: Labels of each structure.

    Returns:
        Outliers, the worst first.

    Example:
        >>> labels = [StructureLabels(0.0, np.full((2, 3), size), np.zeros((3, 3))) for size in (1.0, 1.1, 0.9, 60.0)]
        >>> [outlier.structure for outlier in force_outliers(labels)]
        [3]
    """
    largest = largest_forces(labels)
    with np.errstate(divide="ignore"):
        logarithms = np.log10(np.where(largest > 0, largest, np.nan))
    scores = robust_scores(logarithms)
    return _outliers(
        scores, _few(scores > OUTLIER_SCORE) | _few(largest > LARGE_FORCE), largest, "largest force (eV/A)"
    )


def stress_outliers(labels: Sequence[StructureLabels]) -> list[Outlier]:
    """Structures whose largest component of the stress is far above that of the others.

    Args:
        labels: Labels of each structure.

    Returns:
        Outliers, the worst first.

    Example:
        >>> labels = [StructureLabels(0.0, np.zeros((1, 3)), size * np.eye(3)) for size in (0.01, 0.03, 0.02, 50.0)]
        >>> [outlier.structure for outlier in stress_outliers(labels)]
        [3]
    """
    largest = np.array([np.abs(one.stress).max() for one in labels])
    with np.errstate(divide="ignore"):
        logarithms = np.log10(np.where(largest > 0, largest, np.nan))
    scores = robust_scores(logarithms)
    # a stress that is small for once is no fault, and one that is not large has no say in any scale
    chosen = _few((scores > OUTLIER_SCORE) & (largest > LARGE_STRESS))
    return _outliers(scores, chosen, largest, "largest component of the stress (eV/A^3)")


def incomplete_forces(labels: Sequence[StructureLabels]) -> list[Outlier]:
    """Structures with forces of which some are missing or not finite.

    Args:
        labels: Labels of each structure.

    Returns:
        One for each, its value the number of atoms without a force.

    Example:
        >>> labels = StructureLabels(0.0, np.array([[1.0, 0, 0], [np.nan, 0, 0]]), np.zeros((3, 3)))
        >>> [(outlier.structure, outlier.value) for outlier in incomplete_forces([labels])]
        [(0, 1.0)]
    """
    missing = [(~np.isfinite(one.forces)).any(axis=1) for one in labels]
    what = "atoms whose force is missing or not finite, beside others"
    return [
        Outlier(number, what, float(one.sum()), np.inf)
        for number, one in enumerate(missing)
        if one.any() and not one.all()
    ]


def largest_forces(labels: Sequence[StructureLabels]) -> FloatArray:
    """Length of the largest force of each structure.

    Args:
        labels: Labels of each structure.

    Returns:
        Lengths in eV/A, (n,); NaN without forces.

    Example:
        >>> largest_forces([StructureLabels(0.0, np.array([[3.0, 0, 4.0]]), np.zeros((3, 3)))]).tolist()
        [5.0]
    """
    lengths = [np.linalg.norm(one.forces, axis=1) for one in labels]
    return np.array([np.nanmax(one) if np.isfinite(one).any() else np.nan for one in lengths])


def oddities(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> list[str]:
    """Sentences about cells and forces that may not be meant as they are.

    Args:
        structures: The structures.
        labels: Labels of each structure.

    Returns:
        Sentences.

    Example:
        >>> oddities([Atoms("H", cell=[9, 9, 9])], [StructureLabels.empty(1)])
        ['1 structures have a cell but are open in all directions (a dummy cell): the cell is ignored']
    """
    cells = [atoms.cell.array for atoms in structures]
    counts = {
        "have a cell but are open in all directions (a dummy cell): the cell is ignored": sum(
            bool(cell.any()) and not atoms.pbc.any() for atoms, cell in zip(structures, cells, strict=True)
        ),
        "have a left-handed cell, which is fine here but not everywhere": sum(
            bool(atoms.pbc.all()) and np.linalg.det(cell) < 0 for atoms, cell in zip(structures, cells, strict=True)
        ),
        "have atoms with forces of exactly zero beside others: constrained forces may have been written": sum(
            _has_zeroed_atoms(one.forces) for one in labels
        ),
        f"have forces above {LARGE_FORCE:g} eV/A": sum(
            one > LARGE_FORCE for one in largest_forces(labels) if np.isfinite(one)
        ),
        "have forces that do not sum to zero (more than 0.05 eV/A per atom)": sum(
            bool(np.abs(one.forces.mean(axis=0)).max() > 0.05) for one in labels if np.isfinite(one.forces).all()
        ),
    }
    return [f"{count} structures {sentence}" for sentence, count in counts.items() if count]


def _has_zeroed_atoms(forces: FloatArray) -> bool:
    """Whether some atoms, but not all, have no force at all in any direction."""
    zero = (forces == 0.0).all(axis=1)
    return bool(zero.any() and (np.abs(forces) > 0.1).any())


def _few(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The flags, or none of them if they are more than a tenth: that is a second kind of structure, not outliers."""
    return flags if flags.sum() <= max(1.0, 0.1 * len(flags)) else np.zeros_like(flags)


def _outliers(scores: FloatArray, chosen: NDArray[np.bool_], values: FloatArray, what: str) -> list[Outlier]:
    """Outliers where chosen, the worst first."""
    numbers = sorted(np.flatnonzero(chosen), key=lambda number: -abs(scores[number]))
    return [Outlier(int(number), what, float(values[number]), float(scores[number])) for number in numbers]
