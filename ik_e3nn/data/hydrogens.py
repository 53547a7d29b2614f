"""Atoms whose hydrogens are not there: what crystallography and united-atom force fields leave out."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from ik_e3nn.graph import neighbour_list

BOND = 1.25  # sums of covalent radii; atoms closer than this are bonded
STRAIGHT = 150.0  # degrees; two bonds that make a larger angle are those of an sp atom
PLANAR = 342.0  # degrees; three bonds whose angles add up to more are those of an sp2 atom (at C60 348, sp3 about 330)
SHORT = {7: 1.19, 8: 1.19, 16: 1.57}  # A; a shorter bond of carbon to N, O or S has no room for hydrogens: CN-, CO, CS
DOUBLE_TO_OXYGEN = 1.3  # A
SMALLEST = 4  # atoms; C2 and C3 are molecules of their own
LIGHT = (1, 6, 7, 8, 9, 15, 16, 17, 34, 35, 53)  # elements beside which the bonds of carbon can be counted


def atoms_without_hydrogens(atoms: Atoms) -> NDArray[np.int64]:
    """Atoms that have no hydrogen at all, although the number of their bonds and the angles between these ask for one.

    Bonds are counted from distances. A carbon atom is among them if it has three bonds that do not lie in a plane, two
    that do not lie on a line, or one that is not short; without metals, carbon, nitrogen and oxygen atoms are also
    among them if they have none. Carbon atoms beside metals, silicon or boron are not judged, nor are acyl carbons,
    which cut peptide bonds leave.

    Args:
        atoms: The structure; it is only read. A single atom lacks nothing. Bare edges of carbon alone (graphene,
            diamond) look the same: such atoms count only if they are most of a molecule.

    Returns:
        Their indices.

    Example:
        >>> from ase.build import molecule
        >>> ethanol = molecule("CH3CH2OH")
        >>> atoms_without_hydrogens(ethanol).tolist()
        []
        >>> atoms_without_hydrogens(ethanol[ethanol.numbers > 1]).tolist()
        [0, 1]
    """
    numbers = atoms.numbers
    judged = np.isin(numbers, (6, 7, 8))
    carbon_alone = bool((numbers == 6).all())
    if len(atoms) < 2 or not judged.any() or (carbon_alone and (atoms.pbc.any() or len(atoms) < SMALLEST)):
        return np.zeros(0, dtype=np.int64)
    radii = covalent_radii[numbers]
    reach = BOND * float(radii[judged].max() + radii.max())
    (sender, receiver), shifts = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    vectors = atoms.positions[sender] - atoms.positions[receiver] - shifts @ atoms.cell.array
    bonded = judged[receiver] & (np.linalg.norm(vectors, axis=1) < BOND * (radii[sender] + radii[receiver]))
    sender, receiver, vectors = sender[bonded], receiver[bonded], vectors[bonded]
    counts = np.bincount(receiver, minlength=len(atoms))
    sure = np.ones(len(atoms), dtype=bool)
    sure[receiver[~np.isin(numbers[sender], LIGHT) | (numbers[sender] == 1)]] = False
    lacking = judged & (counts == 0) & bool(np.isin(numbers, LIGHT).all())
    ends = np.cumsum(counts)  # pairs are in the order of receivers
    for index in np.flatnonzero(sure & (numbers == 6) & (counts > 0) & (counts < 4)):
        own = slice(ends[index] - counts[index], ends[index])
        lacking[index] = _asks_for_hydrogen(vectors[own], numbers[sender[own]])
    return np.flatnonzero(lacking & (not carbon_alone or lacking.mean() > 0.5))


def _asks_for_hydrogen(bonds: NDArray[np.float64], numbers: NDArray[np.int64]) -> bool:
    """Whether a carbon atom with one to three bonds, (n, 3) in A, to these elements has too few of them."""
    lengths = np.linalg.norm(bonds, axis=1)
    if len(bonds) == 1:
        return bool(lengths[0] > SHORT.get(int(numbers[0]), 0.0))
    cosines = (bonds @ bonds.T / np.outer(lengths, lengths))[np.triu_indices(len(bonds), 1)]
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    if len(bonds) == 3:
        return bool(angles.sum() < PLANAR)
    acyl = ((numbers == 8) & (lengths < DOUBLE_TO_OXYGEN)).any() and (numbers == 6).any()
    return bool(angles[0] < STRAIGHT and not acyl)
