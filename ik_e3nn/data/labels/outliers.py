"""Labels that stand out, and cells and forces that may not be meant as they are."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data.labels.labeled_set import LabeledSet, known_rows

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
    return (values - np.median(finite)) / max(robust_deviation(finite), 1e-6)


def robust_deviation(values: FloatArray) -> float:
    """The robust standard deviation of the finite values, 1.4826 times the median absolute deviation; 0 without any.

    >>> robust_deviation(np.array([1.0, 2.0, np.nan, 3.0, 100.0]))
    1.4826
    """
    finite = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(finite - np.median(finite)))) if len(finite) else 0.0


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


def force_outliers(data: LabeledSet) -> list[Outlier]:
    """Structures whose largest force is far above that of the others, or above 50 eV/A where few have such forces.

    Args:
        data: Structures with forces.

    Returns:
        Outliers, the worst first.

    Example:
        >>> from ik_e3nn.data import StructureLabels
        >>> labels = [StructureLabels(0.0, np.full((2, 3), size), np.zeros((3, 3))) for size in (1.0, 1.1, 0.9, 60.0)]
        >>> [outlier.structure for outlier in force_outliers(LabeledSet.of_labels([Atoms("H2")] * 4, labels))]
        [3]
    """
    largest = largest_forces(data)
    scores = _scores_of_size(largest)
    chosen = _few(scores > OUTLIER_SCORE) | _few(largest > LARGE_FORCE)
    return _outliers(scores, chosen, largest, "largest force (eV/A)")


def stress_outliers(data: LabeledSet) -> list[Outlier]:
    """Structures whose largest component of the stress is far above that of the others.

    Args:
        data: Structures with stresses.

    Returns:
        Outliers, the worst first.

    Example:
        >>> from ik_e3nn.data import StructureLabels
        >>> labels = [StructureLabels(0.0, np.zeros((1, 3)), size * np.eye(3)) for size in (0.01, 0.03, 0.02, 50.0)]
        >>> [outlier.structure for outlier in stress_outliers(LabeledSet.of_labels([Atoms("H")] * 4, labels))]
        [3]
    """
    largest = np.abs(data.values["stress"]).max(axis=(1, 2))
    scores = _scores_of_size(largest)
    # a stress that is small for once is no fault, and one that is not large has no say in any scale
    chosen = _few((scores > OUTLIER_SCORE) & (largest > LARGE_STRESS))
    return _outliers(scores, chosen, largest, "largest component of the stress (eV/A^3)")


def incomplete_forces(data: LabeledSet) -> list[Outlier]:
    """Structures with forces of which some are missing or not finite.

    Args:
        data: Structures with forces.

    Returns:
        One for each, its value the number of atoms without a force.

    Example:
        >>> from ik_e3nn.data import StructureLabels
        >>> labels = StructureLabels(0.0, np.array([[1.0, 0, 0], [np.nan, 0, 0]]), np.zeros((3, 3)))
        >>> [(one.structure, one.value) for one in incomplete_forces(LabeledSet.of_labels([Atoms("H2")], [labels]))]
        [(0, 1.0)]
    """
    missing = np.bincount(data.atom_owners[~known_rows(data.values["forces"])], minlength=len(data))
    what = "atoms whose force is missing or not finite, beside others"
    some = np.flatnonzero((missing > 0) & (missing < data.sizes))
    return [Outlier(int(number), what, float(missing[number]), np.inf) for number in some]


def largest_forces(data: LabeledSet) -> FloatArray:
    """Length of the largest force of each structure.

    Args:
        data: Structures with forces.

    Returns:
        Lengths in eV/A, (n,); NaN without forces.

    Example:
        >>> from ik_e3nn.data import StructureLabels
        >>> labels = [StructureLabels(0.0, np.array([[3.0, 0, 4.0]]), np.zeros((3, 3)))]
        >>> largest_forces(LabeledSet.of_labels([Atoms("H")], labels)).tolist()
        [5.0]
    """
    largest = np.full(len(data), np.nan)
    np.fmax.at(largest, data.atom_owners, np.linalg.norm(data.values["forces"], axis=1))
    return largest


def oddities(data: LabeledSet) -> list[str]:
    """Sentences about cells and forces that may not be meant as they are.

    Args:
        data: Structures with forces.

    Returns:
        Sentences.

    Example:
        >>> oddities(LabeledSet.of_labels([Atoms("H", cell=[9, 9, 9])]))
        ['1 structures have a cell but are open in all directions (a dummy cell): the cell is ignored']
    """
    cells = [(atoms.cell.array, atoms.pbc) for atoms in data.structures]
    forces = data.values["forces"]
    zero, large = (forces == 0.0).all(axis=1), (np.abs(forces) > 0.1).any(axis=1)
    net = np.zeros((len(data), 3))
    np.add.at(net, data.atom_owners, forces)
    counts = {
        "have a cell but are open in all directions (a dummy cell): the cell is ignored": sum(
            bool(cell.any()) and not pbc.any() for cell, pbc in cells
        ),
        "have a left-handed cell, which is fine here but not everywhere": sum(
            bool(pbc.all()) and np.linalg.det(cell) < 0 for cell, pbc in cells
        ),
        "have atoms with forces of exactly zero beside others: constrained forces may have been written": len(
            np.intersect1d(data.atom_owners[zero], data.atom_owners[large])
        ),
        f"have forces above {LARGE_FORCE:g} eV/A": int((largest_forces(data) > LARGE_FORCE).sum()),
        "have forces that do not sum to zero (more than 0.05 eV/A per atom)": int(
            (np.abs(net).max(axis=1) > 0.05 * data.sizes).sum()
        ),
    }
    return [f"{count} structures {sentence}" for sentence, count in counts.items() if count]


def _scores_of_size(sizes: FloatArray) -> FloatArray:
    """Robust scores of the orders of magnitude of positive numbers; NaN elsewhere."""
    with np.errstate(divide="ignore"):
        return robust_scores(np.log10(np.where(sizes > 0, sizes, np.nan)))


def _few(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The flags, or none of them if they are more than a tenth: that is a second kind of structure, not outliers."""
    return flags if flags.sum() <= max(1.0, 0.1 * len(flags)) else np.zeros_like(flags)


def _outliers(scores: FloatArray, chosen: NDArray[np.bool_], values: FloatArray, what: str) -> list[Outlier]:
    """Outliers where chosen, the worst first."""
    numbers = sorted(np.flatnonzero(chosen), key=lambda number: -abs(scores[number]))
    return [Outlier(int(number), what, float(values[number]), float(scores[number])) for number in numbers]
