"""Contacts between atoms, and whether bonds between them can pair all electrons."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph.bonds.charges import CHARGE_KEY, SHARES, SPIN_KEY, structure_number
from ik_e3nn.graph.neighbors.near import near_pairs
from ik_e3nn.graph.parts import parts

# Distances in sums of covalent radii: closer atoms are certainly bonded (some atoms across rings of four are at 1.25);
# the longest contact within a molecule (hydrogen bonds begin at 1.6).
SURE, JOINED = 1.2, 1.4
STRETCHED = 1.9  # the longest contact across a stretched bond with an odd number of electrons on either side
_BONDS = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1, "Si": 4, "P": 3, "S": 2, "Cl": 1, "Se": 2, "Br": 1, "I": 1}
_MOST = {"H": 1, "C": 4, "N": 5, "O": 3, "F": 1, "Si": 6, "P": 6, "S": 6, "Cl": 7, "Se": 6, "Br": 7, "I": 7}


def _table(values: dict[str, int], other: int) -> IntArray:
    table = np.full(len(covalent_radii), other, dtype=np.int64)
    table[[atomic_numbers[symbol] for symbol in values]] = list(values.values())
    return table


BONDS, MOST_BONDS = _table(_BONDS, 0), _table(_MOST, 99)  # usual and largest numbers of bonds of a neutral atom
_NONMETAL = _table(dict.fromkeys(_BONDS, 1) | {"B": 1, "As": 1}, 0).astype(bool)


class Contacts(NamedTuple):
    """Pairs of atoms in contact, in both directions.

    Attributes:
        first: One atom of each pair, (n,).
        second: The other atom, (n,).
        sure: Whether the two are so close that they are certainly bonded, (n,).
    """

    first: IntArray
    second: IntArray
    sure: BoolArray


def contacts(atoms: Atoms) -> Contacts:
    """Pairs of atoms that are in contact by their distance.

    A fragment with an odd number of electrons indicates a bond that is stretched by motion or noise: such a fragment is
    also in contact with the nearest other fragment, up to a larger distance.

    Args:
        atoms: The structure; it is only read.

    Returns:
        The pairs.

    Example:
        >>> pairs = contacts(Atoms("OH2", [[0, 0, 0], [0, 0, 0.96], [0, 1.6, 0]]))
        >>> sorted(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.sure.tolist()))
        [(0, 1, True), (0, 2, False), (1, 0, True), (2, 0, False)]
    """
    radii = covalent_radii[atoms.numbers]
    nonmetal = is_nonmetal(atoms.numbers)
    reach = 2 * max(JOINED * float(radii.max(initial=0.1)), STRETCHED * float(radii[nonmetal].max(initial=0.1)))
    first, second, _, _, ratio = near_pairs(atoms, reach)
    near = ratio < JOINED
    wide = ~near & (ratio < STRETCHED)
    more = _stretched(atoms.numbers, (first[near], second[near]), (first[wide], second[wide]), ratio[wide])
    ends = np.concatenate([np.column_stack([first[near], second[near]]), more, more[:, ::-1]])
    return Contacts(ends[:, 0], ends[:, 1], np.r_[ratio[near] < SURE, np.zeros(2 * len(more), dtype=bool)])


def _stretched(
    numbers: IntArray, near: tuple[IntArray, IntArray], wide: tuple[IntArray, IntArray], ratio: FloatArray
) -> IntArray:
    """Stretched bonds that join fragments with odd numbers of electrons, shortest first, rows (i, j), (n, 2)."""
    found: list[tuple[int, int]] = []
    metal = ~is_nonmetal(numbers)
    labels = parts(*near, len(numbers))
    odd = np.bincount(labels, weights=numbers).astype(np.int64) % 2 == 1
    odd[labels[metal]] = False
    across = (labels[wide[0]] < labels[wide[1]]) & (odd[labels[wide[0]]] | odd[labels[wide[1]]])
    across &= ~metal[wide[0]] & ~metal[wide[1]]
    candidates = np.flatnonzero(across)
    for index in candidates[np.argsort(ratio[candidates], kind="stable")]:
        i, j = int(wide[0][index]), int(wide[1][index])
        one, other = labels[i], labels[j]
        if one != other and (odd[one] or odd[other]):
            found.append((i, j))
            odd[one] ^= odd[other]
            labels[labels == other] = one
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def is_nonmetal(numbers: IntArray) -> BoolArray:
    """Whether each atom is of an element whose electrons pair in molecules, (N,).

    Example:
        >>> is_nonmetal(np.array([6, 29])).tolist()
        [True, False]
    """
    return _NONMETAL[numbers]


def odd_electrons(charge: float, spin: float, numbers: IntArray) -> str:
    """Describe an odd number of electrons that contradicts a spin of 1; "" if there is none.

    Args:
        charge: Total charge in e.
        spin: Multiplicity 2S+1.
        numbers: Atomic numbers, (N,).

    Example:
        >>> odd_electrons(-1, 1, np.array([8, 1])), odd_electrons(0, 2, np.array([8, 1]))
        ('', '')
    """
    electrons = int(numbers.sum()) - round(charge)
    if spin != 1 or electrons % 2 == 0:
        return ""
    return (
        f"it has an odd number of electrons ({electrons}): it is a radical, an ion whose charge is not given, or lacks "
        "a hydrogen"
    )


def known_number(atoms: Atoms, key: str) -> float:
    """A charge or spin as a number, or 0 if it is missing or invalid; code that needs it refuses invalid values.

    Example:
        >>> known_number(Atoms("Na", info={"charge": 1}), "charge"), known_number(Atoms("Na"), "charge")
        (1.0, 0.0)
    """
    try:
        return structure_number(atoms, key) or 0.0
    except DataError:
        return 0.0


def open_shell(atoms: Atoms, pairs: Contacts) -> str:
    """The reason why a molecule must have unpaired electrons, in words; "" if there is none.

    Structures with metals, periodic structures and single atoms are not checked.

    Args:
        atoms: The structure; it is only read.
        pairs: Its contacts.

    Example:
        >>> from ase.build import molecule
        >>> for name in ("CH4", "CH3", "CH2_s1A1d"):
        ...     open_shell(atoms := molecule(name), contacts(atoms))
        ''
        'it has an odd number of electrons (9): it is a radical, an ion whose charge is not given, or lacks a hydrogen'
        'atom 0 (C) has too few bonds: it is a radical, a carbene, or lacks hydrogens'
    """
    if len(atoms) < 2 or atoms.pbc.any() or not is_nonmetal(atoms.numbers).all():
        return ""
    charge, spin = known_number(atoms, CHARGE_KEY), known_number(atoms, SPIN_KEY) or 1.0
    if (odd := odd_electrons(charge, spin, atoms.numbers)) or charge:
        return odd
    if spin != 1:
        return f"it has unpaired electrons (its spin is {spin:g})"
    if SHARES in atoms.arrays:
        return ""
    alone = np.flatnonzero(without_partner(atoms.numbers, pairs))
    if not len(alone):
        return ""
    several = len(alone) > 1
    first = f"atom {alone[0]} ({atoms.symbols[alone[0]]})"
    which = f"{len(alone)} atoms, the first {first}, have" if several else f"{first} has"
    return f"{which} too few bonds: it is a radical, a carbene, or lacks hydrogens"


def without_partner(numbers: IntArray, pairs: Contacts) -> BoolArray:
    """Whether each atom lacks bonds and has no neighbor that could form a multiple bond with it, (N,).

    Args:
        numbers: Atomic numbers, (N,).
        pairs: Contacts. Contacts that are not sure count as bonds of the atom, but not as bonds of its neighbors.

    Example:
        >>> from ase.build import molecule
        >>> methoxy = molecule("CH3O")
        >>> methoxy.symbols[without_partner(methoxy.numbers, contacts(methoxy))]
        Symbols('O')
    """
    counts = np.bincount(pairs.first, minlength=len(numbers))
    sure = np.bincount(pairs.first[pairs.sure], minlength=len(numbers))
    helped = np.zeros(len(numbers), dtype=bool)
    helped[pairs.first[sure[pairs.second] < MOST_BONDS[numbers[pairs.second]]]] = True
    return (counts > 0) & (counts < BONDS[numbers]) & ~helped
