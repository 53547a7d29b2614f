"""Charge and spin of a structure, and whether they are still those of its atoms."""

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from ik_e3nn.errors import DataError
from ik_e3nn.graph.bonds.record import OWNER, is_as_set, is_complete, read_record
from ik_e3nn.graph.bonds.stored import BOND_KEY, check_bonds, fitting_bonds, has_bonds, set_bonds

CHARGE_KEY = "charge"
SPIN_KEY = "spin"
SHARES = "formal_charges"


def structure_number(atoms: Atoms, key: str) -> float | None:
    """A number from ``atoms.info``, such as the charge, or None if it is not there.

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
        raise DataError(f'atoms.info["{key}"] must be one finite number, got {stored!r:.80}')
    return value


def stated_number(atoms: Atoms, key: str) -> float | None:
    """The same for charge or spin, after a check that it was set for these atoms; see ``check_stated``.

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
    """Set the total charge, and the spin multiplicity, of the atoms that are there now.

    ``atoms.info["charge"] = ...`` does the same for a structure as it was made or read. One that was cut, joined or
    repeated since needs this function where its formal charges do not sum to the charge that is meant. Repeated atoms
    without bonds keep the charge of one copy; the calculator warns only if the copies could not share it equally.

    Args:
        atoms: The structure to write to.
        charge: Total charge in e.
        spin: Multiplicity 2S+1; what is there stays if it is not given.

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

    Nothing is stored where all are zero.

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


def get_shares(atoms: Atoms) -> NDArray[np.int64]:
    """Formal charges and unpaired electrons of all atoms, (N, 2), as ``set_shares`` stored them; zeros elsewhere.

    Example:
        >>> get_shares(Atoms("OH")).tolist()
        [[0, 0], [0, 0]]
    """
    return np.asarray(atoms.arrays.get(SHARES, np.zeros((len(atoms), 2), dtype=np.int64)))


def settle_bonds(atoms: Atoms) -> None:
    """Store the bonds of a structure for its atoms as they are now, list and arrays, where everything fits.

    What does not fit stays as it is, for those who read it to refuse it.

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

    Only structures that carry bonds or formal charges with their atoms (those from SMILES, SDF, or ``set_bonds``) tell.
    It is right if the formal charges sum to it, or if it was set since, see ``set_charge``.

    Args:
        atoms: The structure.
        key: "charge" or "spin".

    Raises:
        DataError: The number is not that of these atoms.

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
            "atoms with formal charges or unpaired electrons were joined with others of which none are stored, so that "
            "the total is not known (ik_e3nn.data.structures.joined adds up charges)"
        )
    elif value != expected or impossible:
        what = "formal charges of its atoms sum to" if key == CHARGE_KEY else "unpaired electrons of its atoms make"
        found = "none that is possible" if impossible else f"{expected:g}"
        reason = f"the structure was cut, joined or repeated since, and the {what} {found}"
    else:
        return
    raise DataError(
        f'atoms.info["{key}"] is {value:g}, which was set for other atoms than these {len(atoms)} '
        f"({atoms.get_chemical_formula()}): {reason}. Set it anew with ik_e3nn.graph.set_charge(atoms, charge, spin)"
    )


def unlikely_charge(atoms: Atoms) -> str:
    """What to say of a charge that copies of a smaller cell cannot share equally; often it is that of one copy.

    Nothing in a structure tells ``a * (2, 1, 1)`` from a charged cell that was built so, hence this is no error.

    Args:
        atoms: The structure.

    Returns:
        A sentence; empty where the charge is zero, a multiple of the number of copies, or there are no copies.

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
        f'atoms.info["charge"] is {charge:g}, and the structure consists of {copies} equal parts: if it was repeated, '
        f"and this is the charge of one part, set that of the whole, {charge * copies:g}, with ik_e3nn.graph.set_charge"
    )


def _copies(atoms: Atoms) -> int:
    """Into how many equal blocks of at least two atoms, which lattice vectors of the crystal relate, the atoms fall."""
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
    """``check_stated`` of many structures.

    Args:
        structures: The structures.
        keys: "charge", "spin" or both.
        names: What the message calls each structure.

    Raises:
        DataError: Names the first structure whose number is not that of its atoms.

    Example:
        >>> check_all_stated([Atoms("OH", info={"charge": -1})], ["charge"], ["structure 0"])
    """
    for name, atoms in zip(names, structures, strict=True):
        try:
            for key in keys:
                check_stated(atoms, key)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
