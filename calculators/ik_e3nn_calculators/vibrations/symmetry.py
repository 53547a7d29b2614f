"""The symmetry number of a molecule: how many rotations map it onto itself."""

from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn_calculators.vibrations.rigid import TOLERANCE, shape

FloatArray = NDArray[np.float64]


def symmetry_number(atoms: Atoms, tolerance: float = TOLERANCE) -> int:
    """Count the rotations that map atoms onto atoms of the same element and mass; 1 for a single atom.

    Args:
        atoms: The molecule.
        tolerance: How far from each other atoms may be after the rotation, in A.

    Example:
        >>> from ase.build import molecule
        >>> [symmetry_number(molecule(name)) for name in ("H2O", "NH3", "CH4", "C6H6", "HCl", "CO2", "CH3OH")]
        [2, 3, 12, 12, 1, 2, 1]
    """
    places = atoms.positions - atoms.get_center_of_mass()
    radii = np.linalg.norm(places, axis=1)
    kinds = list(zip(atoms.numbers.tolist(), atoms.get_masses().round(3).tolist(), strict=True))
    outer = [i for i in range(len(atoms)) if radii[i] > tolerance]
    if not outer:
        return 1
    alike = {i: [j for j in outer if kinds[i] == kinds[j] and abs(radii[i] - radii[j]) < tolerance] for i in outer}
    first = min(outer, key=lambda i: (len(alike[i]), -radii[i]))
    same = np.array([[a == b for a in kinds] for b in kinds])
    if shape(atoms) == "linear":
        return 2 if _maps(-places, places, same, tolerance) else 1
    across = np.linalg.norm(np.cross(places[first], places), axis=1) / radii[first]
    aside = [i for i in outer if across[i] > tolerance] or [max(outer, key=lambda i: float(across[i]))]
    second = min(aside, key=lambda i: (len(alike[i]), -radii[i]))
    own, found = _frame(places[first], places[second]), 0
    for one, other in product(alike[first], alike[second]):
        apart = np.linalg.norm(places[one] - places[other]) - np.linalg.norm(places[first] - places[second])
        if abs(apart) < 2 * tolerance:
            rotation = _frame(places[one], places[other]).T @ own
            found += _maps(places @ rotation.T, places, same, tolerance)
    return found


def _frame(a: FloatArray, b: FloatArray) -> FloatArray:
    """A right-handed frame, whose rows are a direction, one across it towards the second, and the third."""
    x = a / np.linalg.norm(a)
    y = b - (b @ x) * x
    y /= np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _maps(moved: FloatArray, places: FloatArray, same: NDArray[np.bool_], tolerance: float) -> bool:
    """Whether every moved atom lies on an atom of its kind."""
    distances = np.linalg.norm(moved[:, None] - places, axis=2)
    return bool((np.where(same, distances, np.inf).min(1) < 2 * tolerance).all())
