"""Covalent bonds of structures: storing, reading and checking them, and finding the bond types of edges."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph.bonds.fit import check_fit
from ik_e3nn.graph.bonds.record import (
    OWNER,
    RECORD,
    check_elements,
    checksum,
    is_as_set,
    read_record,
    recorded_bonds,
    write_record,
)

BOND_KEY = "bonds"
KEPT_BY = (
    "Of the files that ASE writes, only extxyz keeps bonds: .db, .json, .sdf and most others drop them, and .traj "
    "keeps a list that becomes wrong when atoms are reordered. Write extxyz, or give the bonds again with "
    "ik_e3nn.graph.set_bonds, from a SMILES, or from an SDF file of another program"
)
BOND_NAMES = ("none", "single", "double", "triple", "aromatic")


class StoredBonds(NamedTuple):
    """Bonds of a structure, and how they are stored.

    Attributes:
        bonds: All bonds, rows (i, j, type), (n, 3).
        listed: Bonds that are only in the list ``atoms.info["bonds"]``, rows (i, j, type).
        known: Whether the bonds of an atom are stored with it, (N,).
    """

    bonds: IntArray
    listed: IntArray
    known: BoolArray


def get_bonds(atoms: Atoms) -> IntArray:
    """Bonds stored with a structure, with the present indices of the atoms.

    ``set_bonds`` stores bonds with the atoms, so that they stay right when the structure is sorted, cut, joined or
    repeated. They may also be given by hand as ``atoms.info["bonds"]``, a flat list ``[i, j, type, i, j, type, ...]``;
    such a list is used as it is. Types: 1 single, 2 double, 3 triple, 4 aromatic.

    Args:
        atoms: The structure.

    Returns:
        One row (i, j, type) per bond, (n, 3); no rows if no bonds are stored.

    Raises:
        DataError: The stored bonds are invalid for this structure.

    Example:
        >>> atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.97]], info={"bonds": [0, 1, 1]})
        >>> get_bonds(atoms).tolist()
        [[0, 1, 1]]
    """
    return stored_bonds(atoms).bonds


def stored_bonds(atoms: Atoms) -> StoredBonds:
    """Bonds stored with a structure, and how they are stored; see ``get_bonds``.

    The bonds stored with the atoms are used if the list in ``info`` is missing or is the one that ``set_bonds`` wrote,
    in any order of the atoms. A list that was changed since then was written by hand, and is used instead.

    Raises:
        DataError: The stored bonds are invalid for this structure.

    Example:
        >>> atoms = Atoms("HO", positions=[[0, 0, 0], [0, 0, 0.97]], info={"bonds": [0, 1, 1]})
        >>> stored_bonds(atoms).known.tolist()
        [False, False]
    """
    none, listed, record = np.zeros((0, 3), dtype=np.int64), atoms.info.get(BOND_KEY), read_record(atoms)
    if record is None:
        rows = none if listed is None else _real(check_bonds(listed, len(atoms)))
        return StoredBonds(rows, rows, np.zeros(len(atoms), dtype=bool))
    known = record[:, OWNER] > 0
    if listed is None:
        check_elements(atoms, record)
        # Many functions of ASE drop ``info``, also for complete structures (make_supercell, Atoms() + atoms).
        return StoredBonds(recorded_bonds(atoms, record), none, known)
    rows = _rows(listed)
    if is_as_set(record, rows):
        check_elements(atoms, record)
        return StoredBonds(_real(rows), none, known)
    if (record[:, OWNER] == checksum(rows)).any():
        check_elements(atoms, record)
        return StoredBonds(recorded_bonds(atoms, record), none, known)
    rows = _real(check_bonds(rows, len(atoms)))
    if known[rows[:, :2]].any():
        return StoredBonds(rows, rows, np.zeros(len(atoms), dtype=bool))
    check_elements(atoms, record)
    return StoredBonds(np.concatenate([rows, recorded_bonds(atoms, record)]), rows, known)


def has_bonds(atoms: Atoms) -> bool:
    """Whether bonds are stored with a structure; an empty list of bonds counts as stored.

    Example:
        >>> has_bonds(Atoms("He")), has_bonds(Atoms("He", info={"bonds": []}))
        (False, True)
    """
    return atoms.info.get(BOND_KEY) is not None or read_record(atoms) is not None


def fitting_bonds(atoms: Atoms) -> IntArray:
    """Bonds stored with a structure; a list given by hand is checked against the geometry.

    Returns:
        Rows (i, j, type), (n, 3).

    Raises:
        DataError: The bonds are invalid, or do not fit the geometry; see ``check_fit``.

    Example:
        >>> atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.97]], info={"bonds": [0, 1, 1]})
        >>> fitting_bonds(atoms).tolist()
        [[0, 1, 1]]
    """
    stored = stored_bonds(atoms)
    check_fit(atoms, stored.listed, stored.bonds, stored.known)
    return stored.bonds


def set_bonds(atoms: Atoms, bonds: ArrayLike) -> None:
    """Store bonds with a structure, and replace any bonds that it has.

    They are stored twice: as a list in ``info["bonds"]``, for other programs, and with the atoms in
    ``arrays["bond_partners"]``, so that ``get_bonds`` finds them even after the atoms were sorted, cut, joined or
    repeated, when the list is out of date. In close-packed structures, whose atoms have too many bonds for the array,
    there is only the list.

    Args:
        atoms: The structure to write to.
        bonds: Rows (i, j, type), (n, 3), or the same numbers in one flat list.

    Raises:
        DataError: The bonds do not fit the structure.

    Example:
        >>> atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.97]])
        >>> set_bonds(atoms, [[0, 1, 1]])
        >>> atoms.info["bonds"].tolist(), get_bonds(atoms[::-1]).tolist()
        ([0, 1, 1], [[0, 1, 1]])
    """
    rows = check_bonds(bonds, len(atoms))
    # extxyz writes nothing for an empty array, which corrupts the next key; it writes an empty list correctly.
    atoms.info[BOND_KEY] = rows.reshape(-1) if len(rows) else []
    write_record(atoms, rows)


def remove_bonds(atoms: Atoms) -> None:
    """Remove the bonds of a structure.

    Deleting ``atoms.info["bonds"]`` is not enough, because ``set_bonds`` also stores them with the atoms.

    Example:
        >>> atoms = Atoms("He", info={"bonds": []})
        >>> remove_bonds(atoms)
        >>> has_bonds(atoms)
        False
    """
    atoms.info.pop(BOND_KEY, None)
    atoms.arrays.pop(RECORD, None)


def check_bonds(bonds: ArrayLike, num_atoms: int) -> IntArray:
    """Bonds as an array of rows (i, j, type), checked for a structure of ``num_atoms`` atoms.

    Args:
        bonds: Rows (i, j, type) or a flat list.
        num_atoms: Number of atoms of the structure.

    Returns:
        Array (n, 3).

    Raises:
        DataError: The bonds are not triples of whole numbers, an atom does not exist, a type is unknown, or a bond is
            given twice.

    Example:
        >>> check_bonds([0, 1, 2, 1, 2, 1], 3).tolist()
        [[0, 1, 2], [1, 2, 1]]
    """
    rows = _rows(bonds)
    if not len(rows):
        return rows
    if rows[:, :2].min() < 0 or rows[:, :2].max() >= num_atoms:
        atom = min(rows[:, :2].min(), 0) or rows[:, :2].max()
        raise DataError(f"a bond refers to atom {atom}, but the structure has {num_atoms} atoms (counted from 0)")
    if rows[:, 2].min() < 0 or rows[:, 2].max() >= len(BOND_NAMES):
        raise DataError(f"bond types must be 0 to 4 ({', '.join(BOND_NAMES)}); got {sorted(set(rows[:, 2].tolist()))}")
    pairs = np.sort(rows[:, :2], axis=1)
    if len(np.unique(pairs, axis=0)) != len(rows):
        raise DataError("the list of bonds contains a pair of atoms twice; give every bond once")
    return rows


def _rows(bonds: ArrayLike) -> IntArray:
    """Bonds as rows of three whole numbers, (n, 3)."""
    raw = np.asarray(bonds)
    if isinstance(bonds, str) and not bonds.strip():
        raw = np.zeros(0)  # some files return an empty list as an empty string
    if raw.dtype.kind not in "iuf" or not np.array_equal(raw, np.round(raw)):
        raise DataError(f"bonds must be whole numbers [i, j, type, i, j, type, ...]; got {bonds!r:.80}")
    if raw.size % 3:
        raise DataError(f"bonds must be triples (i, j, type); got {raw.size} numbers")
    return raw.reshape(-1, 3).astype(np.int64)


def _real(rows: IntArray) -> IntArray:
    """The rows without those of type 0, not bonded."""
    return rows[rows[:, 2] > 0]


def edge_bond_types(
    bonds: IntArray, edge_index: IntArray, edge_shifts: IntArray | FloatArray, vectors: FloatArray, num_atoms: int
) -> IntArray:
    """Bond type of every edge: the type of its pair of atoms if the edge is the shortest image of the pair, else 0.

    Both directions of a bond get the same image even if two images are equally long, because the image is chosen among
    the edges with sender <= receiver and then mirrored. A bond applies to one image of its pair of atoms; networks in
    which an atom is bonded to several images of another atom need a larger cell.

    Args:
        bonds: Rows (i, j, type), (n, 3).
        edge_index: Senders and receivers, (2, E).
        edge_shifts: Lattice shifts, (E, 3).
        vectors: Edge vectors, (E, 3), in A.
        num_atoms: Number of atoms N.

    Returns:
        Bond types, (E,).

    Example:
        >>> edge_index, shifts = np.array([[1, 0], [0, 1]]), np.zeros((2, 3))
        >>> edge_bond_types(
        ...     np.array([[0, 1, 3]]), edge_index, shifts, np.array([[-1.1, 0, 0], [1.1, 0, 0]]), 2
        ... ).tolist()
        [3, 3]
    """
    types = np.zeros(edge_index.shape[1], dtype=np.int64)
    if len(bonds) == 0 or len(types) == 0:
        return types
    pair_of_bond, type_of_bond = _sorted_bonds(bonds, num_atoms)
    sender, receiver = edge_index
    pair = np.minimum(sender, receiver) * num_atoms + np.maximum(sender, receiver)
    slot = np.minimum(np.searchsorted(pair_of_bond, pair), len(pair_of_bond) - 1)
    bonded = np.flatnonzero(pair_of_bond[slot] == pair)
    shifts = np.asarray(edge_shifts, dtype=np.int64)[bonded]
    forward = _points_forward(sender[bonded], receiver[bonded], shifts)
    image = np.where(forward[:, None], shifts, -shifts)
    length = np.linalg.norm(vectors[bonded], axis=1)
    order = np.lexsort((image[:, 2], image[:, 1], image[:, 0], length, slot[bonded]))
    first = order[np.r_[True, np.diff(slot[bonded][order]) != 0]]
    chosen = np.zeros((len(pair_of_bond), 3), dtype=np.int64)
    chosen[slot[bonded][first]] = image[first]
    shortest = bonded[(image == chosen[slot[bonded]]).all(axis=1)]
    types[shortest] = type_of_bond[slot[shortest]]
    return types


def _sorted_bonds(bonds: IntArray, num_atoms: int) -> tuple[IntArray, IntArray]:
    """Bonds as one integer for each pair of atoms, sorted, and their types in that order."""
    low, high = bonds[:, :2].min(axis=1), bonds[:, :2].max(axis=1)
    pair = low * num_atoms + high
    order = np.argsort(pair)
    return pair[order], bonds[order, 2]


def _points_forward(sender: IntArray, receiver: IntArray, shifts: IntArray) -> BoolArray:
    """Whether an edge is that direction of a pair from which the image is chosen."""
    sign = np.where(shifts[:, 0] != 0, shifts[:, 0], np.where(shifts[:, 1] != 0, shifts[:, 1], shifts[:, 2]))
    return (sender < receiver) | ((sender == receiver) & (sign > 0))
