"""Charge and spin of a structure, and checks that they still belong to its atoms."""

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ik_e3nn.arrays import IntArray
from ik_e3nn.errors import DataError, locating
from ik_e3nn.graph.bonds.record import OWNER, is_as_set, is_complete, read_record
from ik_e3nn.graph.bonds.stored import BOND_KEY, check_bonds, fitting_bonds, has_bonds, set_bonds

CHARGE_KEY = "charge"
SPIN_KEY = "spin"
USUAL = {CHARGE_KEY: 0.0, SPIN_KEY: 1.0}  # of a structure that does not say
SHARES = "formal_charges"


def structure_number(atoms: Atoms, key: str) -> float | None:
    """A number from ``atoms.info``, such as the charge, or None if it is missing.

    Args:
        atoms: The structure.
        key: Name in ``atoms.info``.

    Returns:
        The value, or None.

    Raises:
        DataError: The value is not one finite number.

    Example:
        >>> structure_number(Atoms("Na", info={"charge": 1}), "charge")
        1.0
    """
    stored = atoms.info.get(key)
    if stored is None:
        return None
    try:
        value = float(stored)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f'atoms.info["{key}"] must be one finite number; got {stored!r:.80}')
    return value


def check_possible(atoms: Atoms) -> None:
    """Refuse a charge, spin or list of bonds in ``atoms.info`` that cannot be one, also if no model uses it.

    Bonds that are stored with the atoms are checked where they are used; see ``stored_bonds``.

    Args:
        atoms: The structure.

    Raises:
        DataError: The charge or spin is not one finite number, or the bonds are impossible.

    Example:
        >>> check_possible(Atoms("Na", info={"charge": "one"}))
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: atoms.info["charge"] must be one finite number; got 'one'
    """
    for key in USUAL:
        structure_number(atoms, key)
    listed = atoms.info.get(BOND_KEY)
    if listed is not None and read_record(atoms) is None:
        check_bonds(listed, len(atoms))


def stated_number(atoms: Atoms, key: str) -> float | None:
    """The charge or spin from ``atoms.info``, checked to be set for these atoms; see ``check_stated``.

    Args:
        atoms: The structure.
        key: "charge" or "spin".

    Returns:
        The value, or None.

    Raises:
        DataError: The value is not one finite number, or was set for other atoms.

    Example:
        >>> stated_number(Atoms("Na", info={"charge": 1}), "charge")
        1.0
    """
    value = structure_number(atoms, key)
    if value is not None:
        check_stated(atoms, key)
    return value


def set_charge(atoms: Atoms, charge: float, spin: float | None = None) -> None:
    """Set the total charge, and the spin multiplicity, of the present atoms.

    For a structure that has not changed since it was made or read, ``atoms.info["charge"] = ...`` does the same. After
    a structure was cut, joined or repeated, this function is needed if its formal charges do not sum to the charge.
    Repeated atoms without bonds keep the charge of one copy; the calculator warns only if the copies cannot share it
    equally.

    Args:
        atoms: The structure to write to.
        charge: Total charge in e.
        spin: Multiplicity 2S+1; by default it is not changed.

    Raises:
        DataError: The bonds of the structure cannot be read.

    Example:
        >>> pair = Atoms("H2O", info={"charge": 0}) + Atoms("OH")
        >>> set_charge(pair, -1)
        >>> pair.info["charge"]
        -1
    """
    if read_record(atoms) is not None:
        set_bonds(atoms, fitting_bonds(atoms))
    atoms.info[CHARGE_KEY] = charge
    if spin is not None:
        atoms.info[SPIN_KEY] = spin


def set_shares(atoms: Atoms, charges: ArrayLike, unpaired: ArrayLike) -> None:
    """Store the formal charges and unpaired electrons of all atoms in ``atoms.arrays["formal_charges"]``, (N, 2).

    Nothing is stored if all are zero.

    Args:
        atoms: The structure to write to.
        charges: Formal charges in e, (N,).
        unpaired: Numbers of unpaired electrons, (N,).

    Example:
        >>> hydroxide = Atoms("OH")
        >>> set_shares(hydroxide, [-1, 0], [0, 0])
        >>> hydroxide.arrays["formal_charges"].tolist()
        [[-1, 0], [0, 0]]
    """
    shares = np.column_stack([charges, unpaired]).astype(np.int64).reshape(-1, 2)
    atoms.arrays.pop(SHARES, None)
    if shares.any():
        atoms.set_array(SHARES, shares)


def get_shares(atoms: Atoms) -> IntArray:
    """Formal charges and unpaired electrons of all atoms, (N, 2), as stored by ``set_shares``; zeros if absent.

    Example:
        >>> get_shares(Atoms("OH")).tolist()
        [[0, 0], [0, 0]]
    """
    return np.asarray(atoms.arrays.get(SHARES, np.zeros((len(atoms), 2), dtype=np.int64)))


def settle_bonds(atoms: Atoms) -> None:
    """Update the stored bonds of a structure, list and array, to its present atoms if everything is consistent.

    Otherwise they are not changed, so that code that reads them raises the error.

    Args:
        atoms: The structure to write to.

    Example:
        >>> water = Atoms("OHH", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
        >>> set_bonds(water, [[0, 1, 1], [0, 2, 1]])
        >>> turned = water[::-1]
        >>> settle_bonds(turned)
        >>> turned.info["bonds"].tolist()
        [0, 2, 1, 1, 2, 1]
    """
    try:
        record = read_record(atoms)
        if record is not None and is_as_set(record, check_bonds(atoms.info.get(BOND_KEY, []), len(atoms))):
            return
        for key in (CHARGE_KEY, SPIN_KEY):
            stated_number(atoms, key)
        if has_bonds(atoms):
            set_bonds(atoms, fitting_bonds(atoms))
    except DataError:
        return


def check_stated(atoms: Atoms, key: str) -> None:
    """Refuse a charge or spin that was set for other atoms: for a part, for the whole, or for one copy.

    This can be checked only for structures with bonds or formal charges stored with their atoms (from SMILES, SDF, or
    ``set_bonds``). The number is accepted if the formal charges sum to it, or if ``set_charge`` set it afterwards.

    Args:
        atoms: The structure.
        key: "charge" or "spin".

    Raises:
        DataError: The number was set for other atoms.

    Example:
        >>> check_stated(Atoms("OH", info={"charge": -1}), "charge")
    """
    record = read_record(atoms)
    if record is None or is_complete(record) or atoms.info.get(key) is None:
        return
    shares = get_shares(atoms)
    charge, value = structure_number(atoms, CHARGE_KEY), structure_number(atoms, key)
    total = float(shares[:, 0].sum())
    expected = total if key == CHARGE_KEY else float(shares[:, 1].sum()) + 1
    if (record[:, OWNER] == 0).any() and not shares.any():
        return  # neutral molecules were added to a structure whose charge was set by hand
    electrons = float(atoms.numbers.sum()) - (total if charge is None else charge)
    impossible = key == SPIN_KEY and not atoms.pbc.any() and electrons % 2 == expected % 2
    if (record[:, OWNER] == 0).any():
        reason = (
            "atoms with stored formal charges or unpaired electrons were joined with atoms without, so that the total "
            "is not known (ik_e3nn.data.structures.joined adds up charges)"
        )
    elif value != expected or impossible:
        what = "formal charges of its atoms sum to" if key == CHARGE_KEY else "unpaired electrons of its atoms make"
        found = "no possible value" if impossible else f"{expected:g}"
        reason = f"the structure was cut, joined or repeated since then, and the {what} {found}"
    else:
        return
    raise DataError(
        f'atoms.info["{key}"] is {value:g}, which was set for other atoms than these {len(atoms)} '
        f"({atoms.get_chemical_formula()}): {reason}. Set it again with ik_e3nn.graph.set_charge(atoms, charge, spin)"
    )


def unlikely_charge(atoms: Atoms) -> str:
    """A warning about a charge that copies of a smaller cell cannot share equally; often it is the charge of one copy.

    This is no error, because ``a * (2, 1, 1)`` cannot be distinguished from a cell that was built with this charge.

    Args:
        atoms: The structure.

    Returns:
        A sentence; empty if the charge is zero or a multiple of the number of copies, or if there are no copies.

    Raises:
        DataError: The charge is not one finite number.

    Example:
        >>> salt = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6, 5.6, 5.6], pbc=True, info={"charge": 1})
        >>> unlikely_charge(salt), unlikely_charge(salt * (2, 1, 1))[:65]
        ('', 'atoms.info["charge"] is 1, and the structure consists of 2 equal ')
    """
    charge = structure_number(atoms, CHARGE_KEY)
    copies = _copies(atoms) if charge else 1
    if not charge or charge % copies == 0:
        return ""
    return (
        f'atoms.info["charge"] is {charge:g}, and the structure consists of {copies} equal parts: if it was repeated '
        f"and this is the charge of one part, set the total charge, {charge * copies:g}, with ik_e3nn.graph.set_charge"
    )


def _copies(atoms: Atoms) -> int:
    """Number of equal blocks of at least two atoms that are related by lattice translations; 1 if there are none."""
    cell, number = atoms.cell.array, len(atoms)
    if atoms.cell.rank < 3:
        return 1
    for size in range(2, number // 2 + 1):
        copies = number // size
        if number % size or (atoms.numbers != np.tile(atoms.numbers[:size], copies)).any():
            continue
        blocks = atoms.positions.reshape(copies, size, 3)
        steps = (blocks[:, 0] - blocks[0, 0]) @ np.linalg.inv(cell) * copies
        same = np.allclose(blocks - blocks[:, :1], blocks[0] - blocks[0, :1], rtol=0.0, atol=1e-6)
        if same and np.allclose(steps, np.round(steps), rtol=0.0, atol=1e-4):
            return copies
    return 1


def check_all_stated(structures: Sequence[Atoms], keys: Collection[str], names: Sequence[str]) -> None:
    """Apply ``check_stated`` to many structures.

    Args:
        structures: The structures.
        keys: "charge", "spin" or both.
        names: Names of the structures in the message.

    Raises:
        DataError: A number was set for other atoms; the message names the first such structure.

    Example:
        >>> check_all_stated([Atoms("OH", info={"charge": -1})], ["charge"], ["structure 0"])
    """
    for name, atoms in zip(names, structures, strict=True):
        with locating(name):
            for key in keys:
                check_stated(atoms, key)
