"""The sign and unit of forces, from their effect on bonds and on atoms that are too near to each other."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.suspicions.unit_evidence import correlated, pairs_within

# Force constants of bonds to hydrogen in eV/A^2, as in every force field (C-H 340 kcal/mol/A^2 for k/2).
STIFFNESS = {6: 32.0, 7: 42.0, 8: 50.0, 16: 26.0}
# Correlation of forces with lengths: at least 0.94 in dynamics, less in relaxations, where all atoms move one way.
_LEAST, _LEAST_OF_MOST = 0.7, 0.85
_RIGHT = 0.4
_FEWEST_BONDS, _DECAY = 4, 10.0
_USUAL_PUSH = 0.8  # eV/A


class Response(NamedTuple):
    """Comparison of forces with the forces expected from physics.

    Attributes:
        agreement: Cosine between forces and expected forces, (n,); near 1, or -1 for gradients. NaN if unknown.
        size: Forces divided by expected forces, (n,), about 1 in eV/A.
    """

    agreement: FloatArray
    size: FloatArray


def hydrogen_stiffness(data: LabeledSet) -> float | None:
    """Force constants of bonds to hydrogen from the labels, divided by the true ones; None if unknown.

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
        low, high = np.quantile(lengths, [0.025, 0.975])  # a few long bonds must not decide
        middle = (lengths >= low) & (lengths <= high)
        lengths, forces = lengths[middle], forces[middle]
        correlation = correlated(lengths, forces)
        if lengths.std() > 0.004 and abs(correlation) > _LEAST_OF_MOST:
            found.append((len(values), -correlation * float(forces.std() / lengths.std()) / STIFFNESS[element]))
    return max(found)[1] if found else None


def sorted_rows(data: LabeledSet) -> str:
    """The order in which rows of forces are sorted, if undoing it makes them fit bonds to hydrogen.

    Args:
        data: Structures with forces that do not fit in the given order.

    Returns:
        "atomic number", "symbol", or the same with "(falling)"; "" if no order gives the true force constants.
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
    r"""Compare forces along bonds to hydrogen with :math:`-k (l - l_0)`, for each structure.

    The length l0 at rest minimizes the squares of the forces, and so does not depend on their sign.

    Args:
        data: Structures with labels.

    Returns:
        The response; NaN for structures with fewer than four such bonds.
    """
    sums = np.zeros((len(data), 4))
    for element, values in _all_bonds(data).items():
        numbers, lengths, forces = np.array(values).T
        middle = float(lengths.mean())
        numbers = numbers.astype(int)
        powers = np.stack([(lengths - middle) ** 2, lengths - middle, np.ones(len(lengths))], axis=1)
        squares = np.bincount(numbers, weights=forces**2) / np.maximum(np.bincount(numbers), 1)
        weighed = forces**2 / np.maximum(squares[numbers], 1e-12)  # gives every structure the same weight in any unit
        curvature, slope, _ = np.linalg.lstsq(powers, weighed, rcond=None)[0]
        if len(values) < 20 or curvature <= 0:
            continue
        expected = -STIFFNESS[element] * (lengths - middle + 0.5 * slope / curvature)
        terms = np.stack([forces * expected, forces**2, expected**2, np.ones(len(lengths))], axis=1)
        np.add.at(sums, numbers, terms)
    return _response(sums[:, :3], sums[:, 3] >= _FEWEST_BONDS)


def repulsion_responses(data: LabeledSet) -> Response:
    r"""Compare forces with a repulsion :math:`\sum_j e^{-10 (r_{ij} / (R_i + R_j) - 1)} \hat r_{ij}` of 0.8 eV/A.

    In vibrating crystals of one element, the two agree to 0.95; in other structures they need not.

    Args:
        data: Structures with labels.

    Returns:
        The response; NaN for structures in which most atoms have equal environments, such as slabs as cut.
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


def _response(sums: FloatArray, known: BoolArray) -> Response:
    """Cosine and ratio from sums of products, of squared forces and of squared expected forces, (n, 3)."""
    product, given, expected = sums.T
    known = known & (given > 0) & (expected > 0)
    agreement, size = np.full((2, len(known)), np.nan)
    agreement[known] = product[known] / np.sqrt(given[known] * expected[known])
    size[known] = np.abs(product[known]) / expected[known]
    return Response(agreement, size)


def _all_bonds(data: LabeledSet) -> dict[int, list[tuple[int, float, float]]]:
    """Structure number, length and force of all bonds to hydrogen, by the element of the other atom."""
    pairs: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
    for number, (atoms, one) in enumerate(zip(data.structures, data.labels, strict=True)):
        if 1 in atoms.numbers and np.isfinite(one.forces).all():
            for element, length, force in _bonds_to_hydrogen(atoms, one.forces):
                pairs[element].append((number, length, force))
    return pairs


def _bonds_to_hydrogen(atoms: Atoms, forces: FloatArray) -> Iterator[tuple[int, float, float]]:
    """Element of the other atom, bond length and outward force on the hydrogen, for hydrogens with one neighbor."""
    pairs = pairs_within(atoms, 1.5)
    counts = np.bincount(pairs.receiver, minlength=len(atoms))
    for sender, receiver, vector, length, _ in zip(*pairs, strict=True):
        element = int(atoms.numbers[sender])
        if atoms.numbers[receiver] == 1 and counts[receiver] == 1 and element in STIFFNESS and length > 0:
            yield element, float(length), float(forces[receiver] @ vector / length)
