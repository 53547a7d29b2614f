"""Evidence of the units of distances, energies and stress, from physics independent of these labels."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.errors import DataError
from ik_e3nn.graph.neighbors.near import NearPairs, near_pairs

# Exact non-relativistic total energies of atoms up to argon in Hartree, which DFT reproduces to about one percent
# (E. R. Davidson et al., Phys. Rev. A 44, 7071 (1991)).
ATOMS = dict(
    enumerate(
        [0.5, 2.904, 7.478, 14.667, 24.654, 37.845, 54.589, 75.067, 99.734, 128.938, 162.255, 200.053, 242.346,
         289.359, 341.259, 398.110, 460.148, 527.540], start=1,
    )
)  # fmt: skip
NOBLE = (2, 10, 18, 36, 54, 86)
_TYPICAL_DISTANCE = 2.5  # A
_STRUCTURES, _ATOMS, _MOST_ATOMS = 1000, 100_000, 1000
_LARGEST_STRAIN, _MANY = 0.15, 20


def sample(structures: Sequence[Atoms]) -> list[int]:
    """Numbers of structures to check: all, or a random sample whose neighbors can be searched in seconds.

    Args:
        structures: The structures.

    Returns:
        Sorted numbers, the same at every call.

    Example:
        >>> sample([Atoms("H")] * 3), len(sample([Atoms("H")] * 3000))
        ([0, 1, 2], 1000)
    """
    order = np.random.default_rng(0).permutation(len(structures))[:_STRUCTURES]
    atoms = np.cumsum([len(structures[number]) for number in order])
    return sorted(order[: max(100, int(np.searchsorted(atoms, _ATOMS)))].tolist())


def is_sound(atoms: Atoms) -> bool:
    """Whether positions and cell can be used."""
    cell = atoms.cell.array
    periodic = not atoms.pbc.any() or abs(np.linalg.det(cell)) > 1e-6
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(cell).all() and periodic)


def correlated(one: FloatArray, other: FloatArray) -> float:
    """The correlation of two series, 0 if one of them is constant.

    Example:
        >>> correlated(np.arange(3.0), -np.arange(3.0)).__round__(6), correlated(np.ones(3), np.arange(3.0))
        (-1.0, 0.0)
    """
    first, second = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if np.isfinite(size) and size > 0 else 0.0


def pairs_within(atoms: Atoms, r_max: float) -> NearPairs:
    """Pairs of atoms nearer than ``r_max`` (A); none for structures that are too large or invalid."""
    if 0 < len(atoms) <= _MOST_ATOMS and is_sound(atoms):
        with suppress(DataError):
            return near_pairs(atoms, r_max)
    return near_pairs(Atoms(), r_max)


def nearest_ratios(atoms: Atoms) -> FloatArray:
    """Distance of each atom from its nearest neighbor, divided by the sum of the covalent radii.

    Args:
        atoms: The structure.

    Returns:
        One number for each atom with a near neighbor, about 1 in A and 1.9 in bohr; none for structures with noble
        gases, which have no bonds.

    Example:
        >>> nearest_ratios(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])).round(2).tolist()
        [1.0, 1.0]
    """
    if len(atoms) < 2 or set(atoms.numbers.tolist()) & {*NOBLE, 0}:
        return np.zeros(0)
    pairs = pairs_within(atoms, 4.4 * float(covalent_radii[atoms.numbers].max()))
    nearest = np.full(len(atoms), np.inf)
    np.minimum.at(nearest, pairs.receiver, pairs.ratios)
    return nearest[np.isfinite(nearest)]


def nearest_ratio(ratios: Sequence[FloatArray]) -> float | None:
    """The median of ``nearest_ratios`` of structures; None if they vary much.

    Args:
        ratios: The ``nearest_ratios`` of each structure.

    Returns:
        About 1 in A, 1.9 in bohr.
    """
    values = np.concatenate([*ratios, np.zeros(0)])
    if len(values) < 10:
        return None
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return float(middle) if high < 1.4 * middle and low > 0.7 * middle else None


def total_energy_ratios(energies: FloatArray, structures: Sequence[Atoms]) -> FloatArray:
    """Energies divided by the sums of the total energies of the atoms in Hartree.

    Args:
        energies: The energies, (n,).
        structures: The structures.

    Returns:
        (n,), about 27.2 for all-electron energies in eV; NaN for structures with elements beyond
            argon, or with none but H, He, Li and Be.

    Example:
        >>> total_energy_ratios(np.array([-76.4]), [Atoms("H2O")]).round(2).tolist()
        [1.0]
    """
    totals = [
        sum(ATOMS[int(z)] for z in atoms.numbers)
        if len(atoms) and 5 <= atoms.numbers.max() <= max(ATOMS) and atoms.numbers.min() > 0
        else np.nan
        for atoms in structures
    ]
    return -energies / np.array(totals, dtype=float)


def agreed(ratios: FloatArray) -> float | None:
    """The median, if four of five values are within 5 percent of it; otherwise None.

    Example:
        >>> agreed(np.array([1.0, 1.01, np.nan])), agreed(np.array([1.0, 2.0]))
        (1.005, None)
    """
    known = ratios[np.isfinite(ratios)]
    if not len(known):
        return None
    middle = float(np.median(known))
    return middle if np.mean(np.abs(known - middle) < 0.05 * abs(middle)) > 0.8 else None


def stress_sizes(data: LabeledSet) -> FloatArray:
    """Anisotropic stress times volume, divided by the size of the forces; both come from the same pairs of atoms.

    Args:
        data: Structures with labels.

    Returns:
        (n,), 0.05 to 0.5 in crystals and liquids; NaN without stress or forces.
    """
    found = np.full(len(data), np.nan)
    for number, (atoms, one) in enumerate(zip(data.structures, data.labels, strict=True)):
        if np.isfinite(one.stress).all() and np.isfinite(one.forces).all() and len(atoms) > 1:
            force = float(np.linalg.norm(one.forces)) / np.sqrt(3 * len(atoms))
            shear = one.stress - np.trace(one.stress) / 3 * np.eye(3)
            work = abs(np.linalg.det(atoms.cell.array)) * float(np.linalg.norm(shear)) / 3.0
            if force > 0 and work > 0:
                found[number] = work / (force * _TYPICAL_DISTANCE * np.sqrt(len(atoms)))
    return found


def elastic_stiffness(data: LabeledSet) -> float | None:
    r"""The slope of stress over strain, :math:`\sum \sigma : \epsilon / \sum \epsilon : \epsilon`.

    It is 0.02 to 5 eV/A^3, positive because crystals resist strain, and independent of energies and forces.

    Args:
        data: Structures with labels; periodic ones of the same atoms in cells that differ by up to 15 percent are
            used.

    Returns:
        The slope in the unit of the stress; None if stress and strain are not correlated.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number, (atoms, known) in enumerate(zip(data.structures, data.known("stress"), strict=True)):
        if atoms.pbc.all() and is_sound(atoms) and known:
            groups[atoms.numbers.tobytes()].append(number)
    strains, stresses = [], []
    for members in groups.values():
        cells = np.array([data.structures[number].cell.array for number in members])
        deformation = (
            np.linalg.solve(cells.mean(axis=0), cells) if abs(np.linalg.det(cells.mean(axis=0))) > 1e-6 else cells
        )
        strain = 0.5 * (deformation + deformation.transpose(0, 2, 1)) - np.eye(3)
        if len(members) >= 8 and 0.002 < np.sqrt(np.mean(strain**2)) < _LARGEST_STRAIN:
            stress = data.values["stress"][members]
            strains.append((strain - strain.mean(axis=0)).ravel())
            stresses.append((stress - stress.mean(axis=0)).ravel())
    if not strains:
        return None
    strain, stress = np.concatenate(strains), np.concatenate(stresses)
    correlation = correlated(strain, stress)
    least = 0.6 if len(strain) >= 9 * _MANY else 0.8
    return correlation * float(stress.std() / strain.std()) if abs(correlation) > least else None
