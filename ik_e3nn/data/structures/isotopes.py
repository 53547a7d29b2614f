"""Isotopes, stored as the masses of a structure, which every later step keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from ik_e3nn.data.structures.chem import Chem
from ik_e3nn.errors import DataError

# Symbols that files use for isotopes of hydrogen.
HYDROGEN_ISOTOPES = {"D": ("H", 2), "T": ("H", 3)}


def set_isotopes(atoms: Atoms, isotopes: Sequence[int]) -> None:
    """Set the masses of atoms to the masses of isotopes; all other atoms have the mass of the element.

    Args:
        atoms: The structure to write to.
        isotopes: Mass number of every atom, 0 for the natural mixture.

    Raises:
        DataError: There is no such isotope.

    Example:
        >>> heavy_water = Atoms("OH2")
        >>> set_isotopes(heavy_water, [0, 2, 2])
        >>> heavy_water.get_masses().round(3).tolist()
        [15.999, 2.014, 2.014]
    """
    if not any(isotopes):
        return
    masses = atoms.get_masses()
    table = Chem.GetPeriodicTable()
    for index in np.flatnonzero(isotopes).tolist():
        mass = table.GetMassForIsotope(int(atoms.numbers[index]), int(isotopes[index]))
        if not mass > 0:
            raise DataError(f"atom {index} is {atoms.symbols[index]}-{isotopes[index]}, which is not a known isotope")
        masses[index] = mass
    atoms.set_masses(masses)


def isotopes_of(atoms: Atoms) -> list[int]:
    """Mass number of every atom whose mass is the mass of an isotope, else 0; the inverse of ``set_isotopes``.

    Args:
        atoms: The structure; it is only read.

    Returns:
        One number for each atom. It is 0 for the mass of no isotope, for example if a simulation shifts mass from heavy
        atoms to hydrogens.

    Example:
        >>> isotopes_of(Atoms("OH2", masses=[15.999, 2.0141, 1.008]))
        [0, 2, 0]
    """
    if "masses" not in atoms.arrays:
        return [0] * len(atoms)
    table = Chem.GetPeriodicTable()
    found = []
    for number, mass in zip(atoms.numbers.tolist(), atoms.get_masses().tolist(), strict=True):
        nearest = round(mass) if np.isfinite(mass) and 0 < mass < 400 else 0
        is_natural = abs(mass - atomic_masses[number]) < 1e-3
        is_isotope = nearest > 0 and number > 0 and abs(table.GetMassForIsotope(number, nearest) - mass) < 2e-3
        found.append(nearest if is_isotope and not is_natural else 0)
    return found


def keep_masses(source: Atoms, target: Atoms) -> None:
    """Copy the masses that were set in one structure to another; if none were set, the other is left unchanged.

    Args:
        source: The structure with the masses.
        target: The structure to write to, of the same atoms.

    Example:
        >>> target = Atoms("H2")
        >>> keep_masses(Atoms("H2", masses=[2.014, 1.008]), target)
        >>> target.get_masses().tolist()
        [2.014, 1.008]
    """
    if "masses" in source.arrays:
        target.set_masses(source.get_masses())
