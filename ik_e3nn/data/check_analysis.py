"""What to look for in a data set: outliers, duplicates, contacts, cells and forces that cannot be right."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from ik_e3nn.data.label_values import StructureLabels
from ik_e3nn.errors import DataError
from ik_e3nn.graph import neighbour_list

FloatArray = NDArray[np.float64]

OUTLIER_SCORE = 8.0
LARGE_FORCE = 50.0
# Atoms nearer than this share of the sum of their covalent radii are on top of each other.
CLOSE_RATIO = 0.6
# Frames of one composition are compared with each other if there are this many.
_OWN_MEDIAN = 10
_CONTACT_RADIUS = 3.0


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


@dataclass(frozen=True)
class Contact:
    """The shortest distance of a pair of species.

    Args:
        pair: Symbols, as in "C-H".
        distance: In A.
        ratio: Distance over the sum of the covalent radii.
        structure: Where it occurs.

    Example:
        >>> Contact("H-H", 0.74, 1.19, 0).pair
        'H-H'
    """

    pair: str
    distance: float
    ratio: float
    structure: int


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
    scores = np.full(len(residuals), np.nan)
    rest = [number for members in groups.values() if len(members) < _OWN_MEDIAN for number in members]
    for members in [*(group for group in groups.values() if len(group) >= _OWN_MEDIAN), rest]:
        scores[members] = robust_scores(residuals[members])
    return _outliers(scores, np.abs(scores) > OUTLIER_SCORE, residuals, "energy per atom relative to E0 (eV)")


def force_outliers(labels: Sequence[StructureLabels]) -> list[Outlier]:
    """Structures whose largest force is far above that of the others, or above 50 eV/A.

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
    return _outliers(scores, (scores > OUTLIER_SCORE) | (largest > LARGE_FORCE), largest, "largest force (eV/A)")


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


def find_duplicates(structures: Sequence[Atoms]) -> list[list[int]]:
    """Groups of structures that are the same to 1e-4 A, up to a shift of the whole.

    Args:
        structures: The structures.

    Returns:
        Groups of two or more numbers.

    Example:
        >>> find_duplicates([Atoms("H2", [[0, 0, 0], [0, 0, z]]) for z in (0.7, 0.8, 0.7)])
        [[0, 2]]
    """
    groups: dict[tuple[bytes, ...], list[int]] = defaultdict(list)
    for number, atoms in enumerate(structures):
        if not len(atoms) or not np.isfinite(atoms.positions).all():
            continue
        # Adding zero turns -0.0 into 0.0, whose bytes differ.
        geometry = np.round(atoms.positions - atoms.positions[0], 4) + 0.0
        cell = np.round(atoms.cell.array[atoms.pbc], 4) + 0.0
        groups[atoms.numbers.tobytes(), atoms.pbc.tobytes(), cell.tobytes(), geometry.tobytes()].append(number)
    return [members for members in groups.values() if len(members) > 1]


def closest_contacts(structures: Sequence[Atoms]) -> tuple[list[Contact], dict[int, str]]:
    """The shortest distance of every pair of species within 3 A, and the structures that have no neighbour list.

    Args:
        structures: The structures.

    Returns:
        Contacts, the closest relative to the covalent radii first, and what is wrong with broken structures.

    Example:
        >>> contacts, broken = closest_contacts([Atoms("H2", [[0, 0, 0], [0, 0, z]]) for z in (0.74, 0.70)])
        >>> contacts[0].pair, round(contacts[0].distance, 2), contacts[0].structure
        ('H-H', 0.7, 1)
    """
    best: dict[str, Contact] = {}
    broken: dict[int, str] = {}
    for number, atoms in enumerate(structures):
        try:
            edge_index, shifts = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, _CONTACT_RADIUS)
        except DataError as error:
            broken[number] = str(error)
            continue
        vectors = atoms.positions[edge_index[1]] - atoms.positions[edge_index[0]] + shifts @ atoms.cell.array
        distances = np.linalg.norm(vectors, axis=1)
        species = np.sort(atoms.numbers[edge_index], axis=0)
        codes = species[0] * 1000 + species[1]
        for code in np.unique(codes):
            low, high = divmod(int(code), 1000)
            distance = float(distances[codes == code].min())
            pair = f"{chemical_symbols[low]}-{chemical_symbols[high]}"
            if pair not in best or distance < best[pair].distance:
                ratio = distance / float(covalent_radii[low] + covalent_radii[high])
                best[pair] = Contact(pair, distance, ratio, number)
    return sorted(best.values(), key=lambda contact: contact.ratio), broken


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
        "have forces that do not sum to zero (more than 0.05 eV/A per atom)": sum(
            bool(np.abs(one.forces.mean(axis=0)).max() > 0.05) for one in labels if np.isfinite(one.forces).all()
        ),
    }
    return [f"{count} structures {sentence}" for sentence, count in counts.items() if count]


def _has_zeroed_atoms(forces: FloatArray) -> bool:
    """Whether some atoms, but not all, have no force at all in any direction."""
    zero = (forces == 0.0).all(axis=1)
    return bool(zero.any() and (np.abs(forces) > 0.1).any())


def _outliers(scores: FloatArray, chosen: NDArray[np.bool_], values: FloatArray, what: str) -> list[Outlier]:
    """Outliers where chosen, the worst first."""
    numbers = sorted(np.flatnonzero(chosen), key=lambda number: -abs(scores[number]))
    return [Outlier(int(number), what, float(values[number]), float(scores[number])) for number in numbers]
