"""What forces do to bonds and to atoms that are too near to each other, which tells their sign and their unit."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.suspicions.unit_evidence import correlated, pairs_within

FloatArray = NDArray[np.float64]

# Force constants of bonds to hydrogen in eV/A^2, as in every force field (C-H 340 kcal/mol/A^2 for k/2).
STIFFNESS = {6: 32.0, 7: 42.0, 8: 50.0, 16: 26.0}
# Correlation of forces with lengths: 0.94 at least in dynamics, less in relaxations, where all atoms go one way.
_LEAST, _LEAST_OF_MOST = 0.7, 0.85
_RIGHT = 0.4
_FEWEST_BONDS, _DECAY = 4, 10.0
_USUAL_PUSH = 0.8  # eV/A


class Response(NamedTuple):
    """How forces answer to what they must answer to.

    Attributes:
        agreement: Cosine between the forces and what they should be, (n,); near 1, or -1 for gradients. NaN if unknown.
        size: Forces over what they should be, (n,), about 1 in eV/A.
    """

    agreement: FloatArray
    size: FloatArray


def hydrogen_stiffness(data: LabeledSet) -> float | None:
    """Force constants of bonds to hydrogen, as forces and positions give them, over what they are; None if unknown.

    Args:
        data: Structures with labels.

    Returns:
        About 1 in eV/A, 23 in kcal/mol/A, and negative for gradients instead of forces.
    """
    found = []
    for element, values in _all_bonds(data).items():
        _, lengths, forces = np.array(values).T
        if len(values) < 20 or abs(correlated(lengths, forces)) < _LEAST:
            continue
        low, high = np.quantile(lengths, [0.025, 0.975])  # a few long bonds must not be all that is looked at
        middle = (lengths >= low) & (lengths <= high)
        lengths, forces = lengths[middle], forces[middle]
        correlation = correlated(lengths, forces)
        if lengths.std() > 0.004 and abs(correlation) > _LEAST_OF_MOST:
            found.append((len(values), -correlation * float(forces.std() / lengths.std()) / STIFFNESS[element]))
    return max(found)[1] if found else None


def sorted_rows(data: LabeledSet) -> str:
    """How rows of forces are sorted that fit bonds to hydrogen once they are brought into the order of the atoms.

    Args:
        data: Structures with forces that do not fit as they are.

    Returns:
        "atomic number", "symbol", or the same with "(falling)"; "" if none makes force constants what they are.
    """
    for name, keys in (
        ("atomic number", lambda atoms: atoms.numbers),
        ("symbol", lambda atoms: np.array(atoms.get_chemical_symbols())),
        ("atomic number (falling)", lambda atoms: -atoms.numbers),
    ):
        orders = [np.argsort(keys(atoms), kind="stable") for atoms in data.structures]
        starts = np.repeat(np.cumsum(data.sizes) - data.sizes, data.sizes)
        rows = starts + np.concatenate([np.zeros(0, int), *orders])
        if (rows == np.arange(len(rows))).all():
            continue
        forces = np.empty_like(data.values["forces"])
        forces[rows] = data.values["forces"]
        stiffness = hydrogen_stiffness(replace(data, values=data.values | {"forces": forces}))
        if stiffness is not None and abs(stiffness - 1.0) < _RIGHT:
            return name
    return ""


def hydrogen_responses(data: LabeledSet) -> Response:
    r"""Forces along bonds to hydrogen beside :math:`-k (l - l_0)`, structure by structure.

    The length l0 at rest is the one at which the squares of the forces are least, which does not depend on their sign.

    Args:
        data: Structures with labels.

    Returns:
        NaN where there are fewer than four such bonds.
    """
    sums = np.zeros((len(data), 4))
    for element, values in _all_bonds(data).items():
        numbers, lengths, forces = np.array(values).T
        middle = float(lengths.mean())
        numbers = numbers.astype(int)
        powers = np.stack([(lengths - middle) ** 2, lengths - middle, np.ones(len(lengths))], axis=1)
        squares = np.bincount(numbers, weights=forces**2) / np.maximum(np.bincount(numbers), 1)
        weighed = forces**2 / np.maximum(squares[numbers], 1e-12)  # no structure decides by the unit of its forces
        curvature, slope, _ = np.linalg.lstsq(powers, weighed, rcond=None)[0]
        if len(values) < 20 or curvature <= 0:
            continue
        expected = -STIFFNESS[element] * (lengths - middle + 0.5 * slope / curvature)
        terms = np.stack([forces * expected, forces**2, expected**2, np.ones(len(lengths))], axis=1)
        np.add.at(sums, numbers, terms)
    return _response(sums[:, :3], sums[:, 3] >= _FEWEST_BONDS)


def repulsion_responses(data: LabeledSet) -> Response:
    r"""Forces beside a repulsion :math:`\sum_j e^{-10 (r_{ij} / (R_i + R_j) - 1)} \hat r_{ij}` of 0.8 eV/A.

    In crystals of one element that move about their places, the two agree to 0.95; in others they need not.

    Args:
        data: Structures with labels.

    Returns:
        NaN where most atoms are in places of equal surroundings, as in slabs that were cut and not moved.
    """
    sums = np.full((len(data), 3), np.nan)
    for number, (atoms, one) in enumerate(zip(data.structures, data.labels, strict=True)):
        if len(atoms) < 4 or not np.isfinite(one.forces).all() or 1 in atoms.numbers:
            continue
        radii = covalent_radii[atoms.numbers]
        pairs = pairs_within(atoms, 3.2 * float(radii.max()))
        lengths = np.maximum(pairs.distances, 1e-3)
        sizes = _USUAL_PUSH * np.exp(-_DECAY * (pairs.ratios - 1.0))
        push = np.zeros((len(atoms), 3))
        np.add.at(push, pairs.receiver, (sizes / lengths)[:, None] * pairs.vectors)
        different = len(np.unique(np.linalg.norm(push, axis=1).round(4)))
        if 2 * different > len(atoms) and np.sqrt(np.mean(push**2)) > 1e-2:
            sums[number] = np.sum(push * one.forces), np.sum(one.forces**2), np.sum(push**2)
    return _response(sums, np.isfinite(sums[:, 0]))


def _response(sums: FloatArray, known: NDArray[np.bool_]) -> Response:
    """Cosine and ratio from sums of products, of squares of the forces and of those expected, (n, 3)."""
    product, given, expected = sums.T
    known = known & (given > 0) & (expected > 0)
    agreement, size = np.full((2, len(known)), np.nan)
    agreement[known] = product[known] / np.sqrt(given[known] * expected[known])
    size[known] = np.abs(product[known]) / expected[known]
    return Response(agreement, size)


def _all_bonds(data: LabeledSet) -> dict[int, list[tuple[int, float, float]]]:
    """Number of the structure, length and force of bonds to hydrogen, by the element of the partner."""
    pairs: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
    for number, (atoms, one) in enumerate(zip(data.structures, data.labels, strict=True)):
        if 1 in atoms.numbers and np.isfinite(one.forces).all():
            for element, length, force in _bonds_to_hydrogen(atoms, one.forces):
                pairs[element].append((number, length, force))
    return pairs


def _bonds_to_hydrogen(atoms: Atoms, forces: FloatArray) -> Iterator[tuple[int, float, float]]:
    """Partner, length and the force that pulls at the hydrogen, of hydrogens with one neighbor."""
    pairs = pairs_within(atoms, 1.5)
    counts = np.bincount(pairs.receiver, minlength=len(atoms))
    for sender, receiver, vector, length, _ in zip(*pairs, strict=True):
        element = int(atoms.numbers[sender])
        if atoms.numbers[receiver] == 1 and counts[receiver] == 1 and element in STIFFNESS and length > 0:
            yield element, float(length), float(forces[receiver] @ vector / length)
