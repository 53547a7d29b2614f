"""Bonds stored with the atoms, in an array that ASE sorts, slices, joins and repeats like positions."""

import zlib

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph.neighbors.near import near_pairs

RECORD = "bond_partners"
SLOTS = 4
OWNER, COUNT, ATOM, FIRST = range(4)  # columns: checksum of the list of bonds, its number of atoms, the atom, partners
WIDTH = FIRST + SLOTS
ELEMENT = 10**7  # factor of the element, added to the number of an atom in smaller structures: the sum is below 2^31
NEAR, REACH = 1.3, 1.8  # in sums of covalent radii: shorter bonds are certain; the longest bond between copies


def checksum(rows: IntArray) -> int:
    """A positive number that identifies a list of bonds.

    Example:
        >>> checksum(np.array([[0, 1, 1]])) == checksum(np.array([[0, 1, 2]]))
        False
    """
    return 1 + (zlib.crc32(np.ascontiguousarray(rows, dtype="<i8").tobytes()) & 0x7FFFFFFE)


def write_record(atoms: Atoms, rows: IntArray) -> None:
    """Store bonds with the atoms, in ``atoms.arrays["bond_partners"]``, (N, 7).

    The columns are a checksum of the whole list of bonds, the number of atoms of the structure, the number of the atom
    among them (from 1) plus 10^7 times its atomic number, and up to four partners as 10 times their number plus the
    bond type. A bond is stored with that of its two atoms that has fewer bonds. The width is fixed because ASE joins
    only arrays of equal width.

    Args:
        atoms: The structure to write to.
        rows: Bonds (i, j, type), (n, 3).

    Example:
        >>> atoms = Atoms("OH")
        >>> write_record(atoms, np.array([[0, 1, 1]]))
        >>> atoms.arrays["bond_partners"][:, 1:].tolist()
        [[2, 80000001, 21, 0, 0, 0], [2, 10000002, 0, 0, 0, 0]]
    """
    atoms.arrays.pop(RECORD, None)
    number = len(atoms)
    bonds = rows[rows[:, 2] > 0]
    degree = np.bincount(bonds[:, :2].ravel(), minlength=number)
    ends = np.sort(bonds[:, :2], axis=1)
    swap = degree[ends[:, 1]] < degree[ends[:, 0]]
    owner, partner = np.where(swap, ends[:, 1], ends[:, 0]), np.where(swap, ends[:, 0], ends[:, 1])
    order = np.argsort(owner, kind="stable")
    owner, partner, kind = owner[order], partner[order], bonds[order, 2]
    slot = np.arange(len(owner)) - np.searchsorted(owner, owner)
    if number == 0 or slot.max(initial=0) >= SLOTS:  # close-packed: bonds are only in the list in `info`
        return
    record = np.zeros((number, WIDTH), dtype=np.int64)
    record[:, OWNER], record[:, COUNT], record[:, ATOM] = checksum(rows), number, np.arange(1, number + 1)
    if number < ELEMENT:
        record[:, ATOM] += ELEMENT * atoms.numbers
    record[owner, FIRST + slot] = 10 * (partner + 1) + kind
    atoms.set_array(RECORD, record)


def read_record(atoms: Atoms) -> IntArray | None:
    """The array of ``write_record``, (N, 7); None if no atom has an entry.

    Raises:
        DataError: The array has another shape or dtype.

    Example:
        >>> read_record(Atoms("H")) is None
        True
    """
    stored = atoms.arrays.get(RECORD)
    if stored is None:
        return None
    if stored.shape != (len(atoms), WIDTH) or stored.dtype.kind != "i":
        raise DataError(
            f"atoms.arrays[{RECORD!r}] must hold {WIDTH} integers for every atom, got shape {stored.shape} and type "
            f"{stored.dtype}; delete it and set the bonds again with set_bonds"
        )
    return stored.astype(np.int64, copy=False) if stored[:, OWNER].any() else None


def is_complete(record: IntArray) -> bool:
    """Whether a record has all atoms for which the bonds were set, each once, in any order.

    Example:
        >>> atoms = Atoms("OH")
        >>> write_record(atoms, np.array([[0, 1, 1]]))
        >>> [is_complete(part.arrays["bond_partners"]) for part in (atoms, atoms[::-1], atoms[:1], atoms + atoms)]
        [True, True, False, False]
    """
    number = len(record)
    if (record[:, COUNT] != number).any() or (record[:, OWNER] != record[0, OWNER]).any():
        return False
    count = np.bincount(np.clip(_places(record), 0, number), minlength=number + 1)
    return bool((count[1:] == 1).all())


def is_as_set(record: IntArray, rows: IntArray) -> bool:
    """Whether a record has all atoms for which a list of bonds was set, in their original order.

    Example:
        >>> atoms, rows = Atoms("OH"), np.array([[0, 1, 1]])
        >>> write_record(atoms, rows)
        >>> [is_as_set(part.arrays["bond_partners"], rows) for part in (atoms, atoms[::-1])]
        [True, False]
    """
    number = len(record)
    ours = (record[:, OWNER] == checksum(rows)) & (record[:, COUNT] == number)
    return bool(ours.all()) and np.array_equal(_places(record), np.arange(1, number + 1))


def check_elements(atoms: Atoms, record: IntArray) -> None:
    """Refuse bonds of atoms whose elements changed after the bonds were set; old records store no elements.

    Args:
        atoms: The structure.
        record: Its record, (N, 7).

    Raises:
        DataError: An element has changed; the message names the first such atom.

    Example:
        >>> atoms = Atoms("OH")
        >>> write_record(atoms, np.array([[0, 1, 1]]))
        >>> check_elements(atoms, atoms.arrays["bond_partners"])
    """
    then = np.where(record[:, COUNT] < ELEMENT, record[:, ATOM] // ELEMENT, 0)
    changed = np.flatnonzero((then > 0) & (then != atoms.numbers))
    if len(changed):
        number = int(changed[0])
        before = chemical_symbols[then[number]] if then[number] < len(chemical_symbols) else "no element"
        raise DataError(
            f"the bonds do not fit the structure: atom {number} is {chemical_symbols[atoms.numbers[number]]}, but was "
            f"{before} when they were set ({len(changed)} of {len(atoms)} atoms have changed). Elements, or elements "
            "and positions, were overwritten in place, and bonds cannot follow that: reorder with atoms[order], or set "
            "the right bonds with ik_e3nn.graph.set_bonds"
        )


def recorded_bonds(atoms: Atoms, record: IntArray) -> IntArray:
    """Bonds between the present atoms, in their present order.

    If a structure was repeated or joined with a copy of itself, several atoms have the same number: then an atom is
    bonded to the nearest copy of its partner within 1.8 times the sum of the covalent radii.

    Args:
        atoms: The structure.
        record: Its record, (N, 7).

    Returns:
        Rows (i, j, type) with i < j, sorted, (n, 3).

    Raises:
        DataError: It is ambiguous which atoms are bonded, because copies are too close to each other or a bond is too
            long.

    Example:
        >>> atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
        >>> write_record(atoms, np.array([[0, 1, 1]]))
        >>> two = atoms + atoms
        >>> two.positions[2:] += 9.0
        >>> recorded_bonds(two, two.arrays["bond_partners"]).tolist()
        [[0, 1, 1], [2, 3, 1]]
    """
    atom, slot = np.nonzero(record[:, FIRST:])
    entry = record[atom, FIRST + slot]
    own, wanted = _keys(record, _places(record)), _keys(record[atom], entry // 10)
    present = np.flatnonzero(record[:, OWNER] > 0)
    order = present[np.argsort(own[present], kind="stable")]
    if (np.diff(own[order]) == 0).any():
        found, partner = _nearest(atoms, own, atom, wanted)
        _check_all_found(atoms, record, atom, found)
    else:
        place = np.minimum(np.searchsorted(own[order], wanted), len(order) - 1)
        found = np.flatnonzero(own[order][place] == wanted)
        partner = order[place[found]]
    ends = np.sort(np.column_stack([atom[found], partner]), axis=1)
    rows = np.column_stack([ends, entry[found] % 10]).astype(np.int64)
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _places(record: IntArray) -> IntArray:
    """Numbers of the atoms in the structure for which the bonds were set, from 1."""
    places: IntArray = np.where(record[:, COUNT] < ELEMENT, record[:, ATOM] % ELEMENT, record[:, ATOM])
    return places


def _keys(record: IntArray, places: IntArray) -> IntArray:
    """One integer for each atom of a list of bonds."""
    return (record[:, OWNER] << 31) + places


def _nearest(atoms: Atoms, own: IntArray, atom: IntArray, wanted: IntArray) -> tuple[IntArray, IntArray]:
    """Bonds that have a partner within reach, and the nearest atom with the number of the partner."""
    if (own[atom] == wanted).any():
        raise DataError(
            "the structure was repeated, but has bonds between an atom and its own image; set the bonds of the "
            "repeated structure again with ik_e3nn.graph.set_bonds"
        )
    radii = covalent_radii[atoms.numbers]
    sender, receiver, _, _, ratio = near_pairs(atoms, 2 * REACH * float(radii[atom].max(initial=0.1)))
    names, code = np.unique(np.concatenate([own, wanted]), return_inverse=True)
    own_code, wanted_code = code[: len(own)], code[len(own) :]
    bond_code = atom * len(names) + wanted_code
    edge_code = sender * len(names) + own_code[receiver]
    near = np.flatnonzero((ratio < REACH) & np.isin(edge_code, bond_code))
    near = near[np.lexsort((ratio[near], edge_code[near]))]
    first = np.searchsorted(edge_code[near], bond_code)
    found = np.flatnonzero(np.append(edge_code[near], -1)[first] == bond_code)
    edge = near[first[found]]
    kept = _one_each(receiver[edge], own_code[atom[found]], ratio[edge])
    return found[kept], receiver[edge[kept]]


def _check_all_found(atoms: Atoms, record: IntArray, atom: IntArray, found: IntArray) -> None:
    """Raise an error if whole copies lose bonds; only bonds of partial copies may be cut."""
    owner, place = record[:, OWNER], _places(record)
    whole = []
    for one in np.unique(owner[owner > 0]).tolist():
        copies = np.bincount(place[owner == one])[1:]
        if len(copies) == record[owner == one, COUNT].max() and (copies == copies[0]).all():
            whole.append(one)
    lost = np.setdiff1d(np.flatnonzero(np.isin(owner[atom], whole)), found)
    if len(lost):
        index = int(atom[lost[0]])
        raise DataError(
            f"{len(lost)} bond(s) of the repeated structure are longer than {REACH} times the sum of the covalent "
            f"radii (the first is a bond of {atoms.symbols[index]}, atom {index}), so that it is ambiguous which "
            "copies of the atoms are bonded; set the bonds of the repeated structure again with ik_e3nn.graph.set_bonds"
        )


def _one_each(partner: IntArray, name: IntArray, ratio: FloatArray) -> IntArray:
    """Indices of the bonds to keep if several atoms of one number have the same partner: that of the nearest atom."""
    order = np.lexsort((ratio, name, partner))
    again = np.zeros(len(order), dtype=bool)
    again[1:] = (np.diff(partner[order]) == 0) & (np.diff(name[order]) == 0)
    if (ratio[order][again] < NEAR).any():
        raise DataError(
            "copies of a molecule are so close to each other that it is ambiguous which atoms are bonded; join the "
            "structures with ik_e3nn.data.structures.joined, or set the bonds again with ik_e3nn.graph.set_bonds"
        )
    return np.sort(order[~again])
