"""Outliers among labels, and cells and forces that are probably wrong."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet, known_rows

OUTLIER_SCORE = 8.0
LARGE_FORCE = 50.0
LARGE_STRESS = 1.0  # 160 GPa
# At least this many frames of one composition are compared with each other instead of with all frames.
_OWN_MEDIAN = 10


@dataclass(frozen=True)
class Column:
    """One number for each structure, by which the structures of a set are compared.

    Args:
        what: What the number is, with its unit.
        values: The numbers, (n,), NaN where missing.
        scores: Distance of each number from the others, in robust standard deviations, (n,).
        far: Which are outliers, (n,).
        deviation: The robust standard deviation of the values, minus a fitted sum over atoms if there is one.
        is_sum: Whether a sum over elements explains nearly all of the spread.

    Example:
        >>> Column("gap", np.array([1.0, 2.0, np.nan]), np.zeros(3), np.array([True, False, False]), 0.7).text()
        'gap: 2 values, 1 missing; mean 1.5, median 1.5, from 1 to 2; robust standard deviation 0.7'
    """

    what: str
    values: FloatArray
    scores: FloatArray
    far: BoolArray
    deviation: float
    is_sum: bool = False

    @property
    def outliers(self) -> list[int]:
        """Numbers of the structures that are outliers, the worst first."""
        return sorted(np.flatnonzero(self.far).tolist(), key=lambda number: -abs(self.scores[number]))

    @property
    def statistics(self) -> dict[str, float]:
        """Numbers of known and missing values, and statistics of the known ones; NaN if there are none."""
        known = self.values[np.isfinite(self.values)]
        low, median, high = np.quantile(known, [0.0, 0.5, 1.0]) if len(known) else (np.nan,) * 3
        return {
            "known": len(known),
            "missing": len(self.values) - len(known),
            "min": float(low),
            "mean": float(known.mean()) if len(known) else np.nan,
            "median": float(median),
            "max": float(high),
            "std": float(known.std()) if len(known) else np.nan,
            "robust_std": self.deviation,
        }

    def text(self) -> str:
        """The statistics in one line."""
        found = self.statistics
        kind = " about a fitted sum over atoms; the target may be extensive" if self.is_sum else ""
        gaps = f", {found['missing']} missing" if found["missing"] else ""
        return (
            f"{self.what}: {found['known']} values{gaps}; mean {found['mean']:.4g}, median {found['median']:.4g}, from "
            f"{found['min']:.4g} to {found['max']:.4g}; robust standard deviation {self.deviation:.3g}{kind}"
        )


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
    """The robust standard deviation of the finite values, 1.4826 times the median absolute deviation; 0 for no values.

    >>> robust_deviation(np.array([1.0, 2.0, np.nan, 3.0, 100.0]))
    1.4826
    """
    finite = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(finite - np.median(finite)))) if len(finite) else 0.0


def energy_column(structures: Sequence[Atoms], residuals: FloatArray) -> Column:
    """Energies per atom relative to E0; outliers are far from other structures of the same composition.

    Args:
        structures: The structures.
        residuals: Energy relative to E0 per atom, (n,), in eV; NaN where missing or for isolated atoms.

    Example:
        >>> structures = [Atoms("H2")] * 12
        >>> energy_column(structures, np.r_[np.linspace(-1.01, -0.99, 11), 5.0]).outliers
        [11]
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, atoms in enumerate(structures):
        groups[atoms.get_chemical_formula()].append(number)
    scores, far = np.full(len(residuals), np.nan), np.zeros(len(residuals), dtype=bool)
    rest = [number for members in groups.values() if len(members) < _OWN_MEDIAN for number in members]
    for members in [*(group for group in groups.values() if len(group) >= _OWN_MEDIAN), rest]:
        scores[members] = robust_scores(residuals[members])
        far[members] = _few(np.abs(scores[members]) > OUTLIER_SCORE)
    what = "energy per atom relative to E0 (eV)"
    return Column(what, residuals, scores, far, robust_deviation(residuals))


def force_column(data: LabeledSet) -> Column:
    """Largest forces; outliers are far above the others, or above 50 eV/A if few structures have such forces.

    Example:
        >>> from ik_e3nn.targets import MECHANICS
        >>> forces = np.repeat([1.0, 1.1, 0.9, 60.0], 3).reshape(4, 3)
        >>> force_column(LabeledSet([Atoms("H")] * 4, MECHANICS[1:2], {"forces": forces})).outliers
        [3]
    """
    largest = largest_forces(data)
    scores = _scores_of_size(largest)
    far = _few(scores > OUTLIER_SCORE) | _few(largest > LARGE_FORCE)
    return Column("largest force (eV/A)", largest, scores, far, robust_deviation(largest))


def incomplete_column(data: LabeledSet) -> Column:
    """Numbers of atoms without a force, in structures with forces on other atoms; all these structures are outliers.

    Example:
        >>> from ik_e3nn.targets import MECHANICS
        >>> forces = np.array([[1.0, 0, 0], [np.nan, 0, 0]])
        >>> incomplete_column(LabeledSet([Atoms("H2")], MECHANICS[1:2], {"forces": forces})).values
        array([1.])
    """
    missing = np.bincount(data.atom_owners[~known_rows(data.values["forces"])], minlength=len(data))
    some = (missing > 0) & (missing < data.sizes)
    what = "atoms whose force is missing or not finite, in structures with other forces"
    return Column(what, np.where(some, missing, np.nan), np.where(some, np.inf, np.nan), some, np.nan)


def stress_column(data: LabeledSet) -> Column:
    """Largest components of stresses; outliers are far above the others.

    Example:
        >>> from ik_e3nn.targets import MECHANICS
        >>> stresses = np.array([0.01, 0.03, 0.02, 50.0])[:, None, None] * np.eye(3)
        >>> stress_column(LabeledSet([Atoms("H")] * 4, MECHANICS[2:], {"stress": stresses})).outliers
        [3]
    """
    largest = np.abs(data.values["stress"]).max(axis=(1, 2))
    scores = _scores_of_size(largest)
    # only large stresses are outliers: small ones are no fault, and moderate ones are harmless
    far = _few((scores > OUTLIER_SCORE) & (largest > LARGE_STRESS))
    return Column("largest component of the stress (eV/A^3)", largest, scores, far, robust_deviation(largest))


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
    """Sentences about cells and forces that are probably wrong.

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
    """Robust scores of the logarithms of positive numbers; NaN for other numbers."""
    with np.errstate(divide="ignore"):
        return robust_scores(np.log10(np.where(sizes > 0, sizes, np.nan)))


def _few(flags: BoolArray) -> BoolArray:
    """The flags, or none if more than a tenth is set: these are a second kind of structure rather than outliers."""
    return flags if flags.sum() <= max(1.0, 0.1 * len(flags)) else np.zeros_like(flags)
