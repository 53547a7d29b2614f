"""Join two structures: atoms, charge, spin and bonds."""

import numpy as np
from ase import Atoms

from ik_e3nn.graph import fitting_bonds, get_shares, has_bonds, set_bonds, set_shares, stated_number


def joined(first: Atoms, second: Atoms) -> Atoms:
    """The atoms of the first structure, then those of the second, in the cell of the first.

    Charges are added, and so are unpaired electrons (2S of the multiplicity 2S+1), as if all were parallel. A structure
    without a multiplicity has as few unpaired electrons as possible. A quantity that neither structure has is not set.

    Args:
        first: Gives the cell.
        second: Its atoms are added where they are.

    Returns:
        Numbers, positions, masses, cell, pbc, and "charge", "spin" and "bonds" in ``info``; nothing else is copied.

    Raises:
        DataError: A charge or spin was set for other atoms than the present ones, or bonds cannot be read.

    Example:
        >>> ion, radical = Atoms("Na", info={"charge": 1, "spin": 1}), Atoms("OH", info={"spin": 2})
        >>> joined(ion, radical).info
        {'charge': 1, 'spin': 2}
    """
    atoms = Atoms(first.numbers, first.positions, cell=first.cell, pbc=first.pbc)
    atoms.extend(Atoms(second.numbers, second.positions))
    if any("masses" in part.arrays for part in (first, second)):
        atoms.set_masses(np.concatenate([first.get_masses(), second.get_masses()]))
    if any(part.info.get("charge") is not None for part in (first, second)):
        atoms.info["charge"] = _whole(_charge(first) + _charge(second))
    if any(part.info.get("spin") is not None for part in (first, second)):
        atoms.info["spin"] = _whole(_unpaired(first) + _unpaired(second) + 1)
    if has_bonds(first) or has_bonds(second):
        renumbered = fitting_bonds(second) + np.array([len(first), len(first), 0])
        set_bonds(atoms, np.concatenate([fitting_bonds(first), renumbered]))
        set_shares(atoms, *np.concatenate([get_shares(first), get_shares(second)]).T)
    return atoms


def _charge(atoms: Atoms) -> float:
    return stated_number(atoms, "charge") or 0.0


def _unpaired(atoms: Atoms) -> float:
    """Number of unpaired electrons: the number given, or the smallest possible."""
    spin = stated_number(atoms, "spin")
    return (float(atoms.numbers.sum()) - _charge(atoms)) % 2 if spin is None else spin - 1


def _whole(number: float) -> int | float:
    return int(number) if number.is_integer() else number
