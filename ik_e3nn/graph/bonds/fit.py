"""Check whether bonds that were listed by hand fit the geometry."""

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.geometry import find_mic

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph.neighbors.near import near_pairs
from ik_e3nn.graph.parts import parts

# Distances in sums of covalent radii: closer atoms are certainly neighbors; longer bonds are doubtful (I..I in CI4 are
# at 1.22); the longest contact within a molecule; longer bonds are broken.
CLOSE, LONG, CONTACT, BROKEN = 1.15, 1.2, 1.25, 2.5
_NONMETALS = np.array([atomic_numbers[s] for s in ["H", "B", "C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "I"]])
_METALLOIDS = np.array([atomic_numbers[s] for s in ["Si", "Ge", "As", "Sb", "Te"]])
_REMEDY = (
    "A list in atoms.info['bonds'] refers to atoms by their index and becomes wrong when they are sorted, cut, joined "
    "or repeated; .traj files of ASE keep only this list. Set the right bonds with ik_e3nn.graph.set_bonds, which "
    "stores them with every atom and does not check distances"
)


def check_fit(atoms: Atoms, listed: IntArray, bonds: IntArray, known: BoolArray) -> None:
    """Refuse bonds that do not fit the geometry.

    Bonds that ``set_bonds`` stored with the atoms are not checked, because bonds can be stretched and broken. Lists in
    ``info`` are checked: they may be wrong, or out of date because atoms were moved, removed or added.

    Args:
        atoms: The structure.
        listed: Bonds from a list in ``info``, rows (i, j, type), (n, 3).
        bonds: All bonds, rows (i, j, type), (n, 3).
        known: Whether the bonds of an atom are stored with it, (N,).

    Raises:
        DataError: A listed bond is far too long, a hydrogen or fluorine has a multiple bond, or atoms in contact have
            no bonds although others have bonds.

    Example:
        >>> hydroxyl = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
        >>> check_fit(hydroxyl, np.array([[0, 1, 1]]), np.array([[0, 1, 1]]), np.zeros(2, dtype=bool))
    """
    if not len(bonds) or (known.all() and not len(listed)):
        return
    _check_types(atoms, listed)
    sender, receiver, ratio = _contacts(atoms)
    _check_lengths(atoms, listed, bonds, sender[ratio < CLOSE], receiver[ratio < CLOSE])
    free = ~known
    free[bonds[:, :2].ravel()] = False
    if free.any():
        nonmetal = np.isin(atoms.numbers, _NONMETALS)
        sender, receiver = (ends[(nonmetal[sender] & nonmetal[receiver])] for ends in (sender, receiver))
        _check_free(atoms, bonds, free, sender, receiver)


def _contacts(atoms: Atoms) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of nonmetals and metalloids at bonding distance, in both directions, and their relative distances."""
    nonmetal = np.isin(atoms.numbers, np.r_[_NONMETALS, _METALLOIDS])
    radii = covalent_radii[atoms.numbers]
    reach = 2 * CONTACT * float(radii[nonmetal].max(initial=0.1))
    sender, receiver, _, _, ratio = near_pairs(atoms, reach)
    near = nonmetal[sender] & nonmetal[receiver] & (ratio < CONTACT)
    return sender[near], receiver[near], ratio[near]


def _check_types(atoms: Atoms, listed: IntArray) -> None:
    single = np.isin(atoms.numbers[listed[:, :2]], (1, 9)).any(axis=1)
    wrong = listed[single & (listed[:, 2] > 1)]
    if len(wrong):
        raise DataError(
            f"the bonds do not fit the structure: {_pair(atoms, wrong[0])} is listed as a multiple bond. {_REMEDY}"
        )


def _check_lengths(atoms: Atoms, listed: IntArray, bonds: IntArray, sender: IntArray, receiver: IntArray) -> None:
    """Refuse listed bonds that are far too long, or that are long while an atom has another close neighbor."""
    ends = listed[:, :2]
    lengths, ratio = _lengths(atoms, listed)
    elsewhere = np.zeros(len(atoms), dtype=bool)
    unlisted = ~np.isin(_code(sender, receiver, len(atoms)), _code(bonds[:, 0], bonds[:, 1], len(atoms)))
    elsewhere[sender[unlisted]] = True
    wrong = (ratio > BROKEN) | ((ratio > LONG) & elsewhere[ends].any(axis=1))
    if wrong.any():
        worst = int(np.argmax(np.where(wrong, ratio, 0.0)))
        raise DataError(
            f"the bonds do not fit the structure: {_pair(atoms, listed[worst])} is listed as a bond, but the two are "
            f"{lengths[worst]:.2f} A apart ({ratio[worst]:.1f} times the sum of their covalent radii). {_REMEDY}"
        )


def broken_bond(atoms: Atoms, bonds: IntArray) -> str:
    """Describe the longest bond if it is so long that it is broken, or belongs to other positions.

    Args:
        atoms: The structure.
        bonds: Its bonds, rows (i, j, type), (n, 3).

    Returns:
        A clause for a message; empty if every bond is shorter than 2.5 times the sum of the covalent radii.

    Example:
        >>> broken_bond(Atoms("OH", [[0, 0, 0], [0, 0, 3.0]]), np.array([[0, 1, 1]]))
        'the bond O-H (atoms 0 and 1) is 3.00 A long, 3.1 times the sum of their covalent radii'
    """
    lengths, ratio = _lengths(atoms, bonds)
    if not (ratio > BROKEN).any():
        return ""
    worst = int(np.argmax(ratio))
    return (
        f"the bond {_pair(atoms, bonds[worst])} is {lengths[worst]:.2f} A long, {ratio[worst]:.1f} times the sum of "
        "their covalent radii"
    )


def _lengths(atoms: Atoms, bonds: IntArray) -> tuple[FloatArray, FloatArray]:
    """Lengths of bonds (n,) in A and in sums of covalent radii; the latter are 0 for bonds to own images."""
    ends = bonds[:, :2]
    vectors = atoms.positions[ends[:, 1]] - atoms.positions[ends[:, 0]]
    lengths = find_mic(vectors, atoms.cell, atoms.pbc)[1] if len(ends) else np.zeros(0)
    ratio = lengths / covalent_radii[atoms.numbers[ends]].sum(axis=1)
    ratio[ends[:, 0] == ends[:, 1]] = 0.0
    return lengths, ratio


def _check_free(atoms: Atoms, bonds: IntArray, free: BoolArray, sender: IntArray, receiver: IntArray) -> None:
    """Refuse molecules without bonds beside molecules with bonds; periodic solids without hydrogen need no bonds."""
    number = len(atoms)
    inside = free[sender] & free[receiver]
    part = parts(sender[inside], receiver[inside], number)
    touched = np.zeros(number, dtype=bool)
    touched[part[sender[free[sender]]]] = True  # by part: it has a contact
    hydrogen = np.zeros(number, dtype=bool)
    hydrogen[part[free & (atoms.numbers == 1)]] = True
    bad = touched & (hydrogen | (not atoms.pbc.any()))
    if atoms.pbc.any():
        molecules = parts(bonds[:, 0], bonds[:, 1], number)
        formulas = {_formula(atoms, molecules == m) for m in np.unique(molecules[bonds[:, 0]])[:100]}
        for one in np.unique(part[free])[:100]:
            bad[one] |= touched[one] and _formula(atoms, part == one) in formulas
    without = np.flatnonzero(free & bad[part])
    if len(without):
        names = ", ".join(f"{i} ({chemical_symbols[atoms.numbers[i]]})" for i in without[:5].tolist())
        raise DataError(
            f"the bonds do not fit the structure: {len(without)} of {number} atoms have neighbors at bonding distance "
            f"but no bonds, although others have bonds; the first are {names}. {_REMEDY}"
        )


def _formula(atoms: Atoms, mask: BoolArray) -> tuple[int, ...]:
    return tuple(sorted(atoms.numbers[mask].tolist()))


def _code(first: IntArray, second: IntArray, number: int) -> IntArray:
    """One integer for each pair of atoms, the same in both orders."""
    return np.minimum(first, second) * number + np.maximum(first, second)


def _pair(atoms: Atoms, row: IntArray) -> str:
    i, j = int(row[0]), int(row[1])
    symbols = atoms.symbols
    return f"{symbols[i]}-{symbols[j]} (atoms {i} and {j})"
