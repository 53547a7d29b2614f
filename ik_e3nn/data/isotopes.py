"""Isotopes: their masses, in a structure's own array, which every later step keeps."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from rdkit import Chem

from ik_e3nn.errors import DataError

# Symbols of their own that files use for isotopes of hydrogen.
HYDROGEN_ISOTOPES = {"D": ("H", 2), "T": ("H", 3)}


def set_isotopes(atoms: Atoms, isotopes: Sequence[int]) -> None:
    """Give atoms the masses of isotopes; others have the mass of the element.

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
            raise DataError(f"atom {index} is {atoms.symbols[index]}-{isotopes[index]}, an isotope that is not known")
        masses[index] = mass
    atoms.set_masses(masses)
