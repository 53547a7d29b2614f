"""Duplicate structures, and atoms that are too close to each other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from ik_e3nn.errors import DataError
from ik_e3nn.graph import near_pairs
from ik_e3nn.graph.parts import parts

# Atoms nearer than this share of the sum of their covalent radii are on top of each other.
CLOSE_RATIO = 0.6
_CONTACT_RADIUS = 3.0


@dataclass(frozen=True)
class Contact:
    """The shortest distance of a pair of species.

    Args:
        pair: Symbols, as in "C-H".
        distance: In A.
        ratio: Distance divided by the sum of the covalent radii.
        structure: Number of the structure in which it occurs.

    Example:
        >>> Contact("H-H", 0.74, 1.19, 0).pair
        'H-H'
    """

    pair: str
    distance: float
    ratio: float
    structure: int


def find_duplicates(structures: Sequence[Atoms]) -> list[list[int]]:
    """Groups of structures that are equal to 1e-4 A, up to a common translation, with the same charge and spin.

    Two structures are equal if all their coordinates round to the same points of one of two grids. Structures that
    differ by the rounding of a file (1e-8 A) are nearly always found; the chance of missing them grows with the number
    of atoms, to about one in fifty at 1000. Structures that differ by nearly 1e-4 A are often missed.

    Args:
        structures: The structures.

    Returns:
        Groups of two or more numbers of structures.

    Example:
        >>> find_duplicates([Atoms("H2", [[0, 0, 0], [0, 0, z]]) for z in (0.7, 0.8, 0.7)])
        [[0, 2]]
    """
    first: dict[tuple[Any, ...], int] = {}
    links = []
    for number, atoms in enumerate(structures):
        if not len(atoms):
            continue
        lengths = np.concatenate([atoms.positions - atoms.positions[0], atoms.cell.array[atoms.pbc]]) / 1e-4
        if not np.isfinite(lengths).all():
            continue
        for shift in (0.25, 0.75):  # coordinates that one grid rounds apart are equal on the other
            places = np.floor(lengths + shift).astype(np.int64)
            key = (atoms.numbers.tobytes(), atoms.pbc.tobytes(), places.tobytes(), shift, *_charge_and_spin(atoms))
            links.append((first.setdefault(key, number), number))
    return [group for group in connected_groups(links, len(structures)) if len(group) > 1]


def connected_groups(links: Iterable[Sequence[int]], count: int) -> list[list[int]]:
    """Groups of numbers that are linked with each other, directly or through others.

    Args:
        links: Each item holds numbers that are linked with each other.
        count: How many numbers there are, counted from 0.

    Returns:
        All groups, in the order of their first numbers; a number without links is a group of one.

    Example:
        >>> connected_groups([[0, 3], [3, 4], [1, 1]], 5)
        [[0, 3, 4], [1], [2]]
    """
    pairs = [(link[0], other) for link in links for other in link]
    ones, others = np.array(pairs, dtype=int).reshape(-1, 2).T
    groups: dict[int, list[int]] = defaultdict(list)
    for number, owner in enumerate(parts(ones, others, count).tolist()):
        groups[owner].append(number)
    return list(groups.values())


def _charge_and_spin(atoms: Atoms) -> tuple[str, str]:
    """Charge and multiplicity, because an ion differs from the neutral molecule of the same geometry.

    By default, the charge is 0 and the multiplicity the lowest that the number of electrons allows.
    """
    charge, spin = atoms.info.get("charge") or 0, atoms.info.get("spin")
    if spin is None:
        try:
            spin = 1 + int(atoms.numbers.sum() - round(float(charge))) % 2
        except (TypeError, ValueError, OverflowError):
            spin = ""
    return str(charge), str(spin)


def check_contacts(atoms: Atoms) -> None:
    """Refuse a structure whose atoms are on top of each other, or for which no neighbor list can be made.

    Args:
        atoms: The structure.

    Raises:
        DataError: Two atoms are nearer than 0.6 times the sum of their covalent radii, or positions or cell are broken.

    Example:
        >>> check_contacts(Atoms("H2", [[0, 0, 0], [0, 0, 0.1]]))
        Traceback (most recent call last):
        ik_e3nn.errors.DataError: atoms are on top of each other (H-H 0.10 A); look at the geometry and its units
    """
    contacts, broken = closest_contacts([atoms])
    if broken:
        raise DataError(broken[0])
    if contacts and contacts[0].ratio < CLOSE_RATIO:
        closest = f"{contacts[0].pair} {contacts[0].distance:.2f} A"
        raise DataError(f"atoms are on top of each other ({closest}); look at the geometry and its units")


def closest_contacts(structures: Sequence[Atoms]) -> tuple[list[Contact], dict[int, str]]:
    """The shortest distance of every pair of species within 3 A, and the structures without a valid neighbor list.

    Args:
        structures: The structures.

    Returns:
        Contacts, the closest relative to the covalent radii first; and the fault of each broken structure, by number.

    Example:
        >>> contacts, broken = closest_contacts([Atoms("H2", [[0, 0, 0], [0, 0, z]]) for z in (0.74, 0.70)])
        >>> contacts[0].pair, round(contacts[0].distance, 2), contacts[0].structure
        ('H-H', 0.7, 1)
    """
    best: dict[str, Contact] = {}
    broken: dict[int, str] = {}
    for number, atoms in enumerate(structures):
        try:
            pairs = near_pairs(atoms, _CONTACT_RADIUS)
        except DataError as error:
            broken[number] = str(error)
            continue
        ends = np.sort(atoms.numbers[[pairs.sender, pairs.receiver]], axis=0)
        codes = ends[0] * 1000 + ends[1]
        for code in np.unique(codes):
            low, high = divmod(int(code), 1000)
            distance = float(pairs.distances[codes == code].min())
            pair = f"{chemical_symbols[low]}-{chemical_symbols[high]}"
            if pair not in best or distance < best[pair].distance:
                ratio = distance / float(covalent_radii[low] + covalent_radii[high])
                best[pair] = Contact(pair, distance, ratio, number)
    return sorted(best.values(), key=lambda contact: contact.ratio), broken
