"""Detect missing hydrogens, which crystallography and united-atom force fields often leave out."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.graph.bonds.contacts import BONDS, JOINED, STRETCHED, contacts, is_nonmetal, known_number, without_partner
from ik_e3nn.graph.neighbors.search import neighbor_list

BOND = 1.25  # in sums of covalent radii; closer heavy atoms are bonded, and closer hydrogens up to `JOINED`
STRAIGHT = 150.0  # degrees; an atom whose two bonds make a larger angle is sp
TRIPLE, BENT = {6: 1.28, 7: 1.22}, 125.0  # A; carbon with a bond this short is sp, even bent to this angle by motion
PLANAR = 342.0  # degrees; an atom whose three angles sum to more is sp2 (C60 has 348, sp3 about 330)
SHORT = {7: 1.19, 8: 1.19, 16: 1.57}  # A; carbon with a shorter bond to N, O or S has no hydrogen: CN-, CO, CS
DOUBLE_TO_OXYGEN = 1.3  # A
CUMULATED = 1.32  # A; pure carbon with shorter bonds is C2, C3 or a chain or ring of cumulated bonds; ethene has 1.33
MULTIPLE = (0.96, 0.84)  # in sums of covalent radii; longer bonds are not double (C=C 0.88, C-C 1.01), or not triple
BENT_DOUBLE = 135.0  # degrees; carbon whose two bonds make a smaller angle is sp2, even if it moves
LIGHT = (1, 6, 7, 8, 9, 15, 16, 17, 34, 35, 53)  # bonds of carbon can be counted beside these elements


def missing_hydrogens(atoms: Atoms) -> str:
    """The reason why a molecule lacks hydrogens although all its electrons could be paired; "" if there is none.

    Args:
        atoms: A molecule; it is only read.

    Example:
        >>> from ase.build import molecule
        >>> ethane = molecule("C2H6")
        >>> missing_hydrogens(ethane)
        ''
        >>> del ethane[[2, 5]]
        >>> missing_hydrogens(ethane)
        'C 0 and C 1 have too few bonds and are 1.52 A apart, too far for a multiple bond: they lack hydrogens'
    """
    judged = np.isin(atoms.numbers, (6, 7, 8))
    if len(atoms) < 2 or not judged.any():
        return ""
    bonds = _bonds(atoms, judged)
    if lacking := len(_lacking(atoms, judged, bonds)):
        return f"{lacking} atoms lack hydrogens by the angles between their bonds"
    if atoms.pbc.any() or not is_nonmetal(atoms.numbers).all():
        return ""
    return _unpaired(atoms, judged, bonds)


def _unpaired(atoms: Atoms, judged: BoolArray, bonds: tuple[IntArray, IntArray, FloatArray]) -> str:
    """Describe atoms that have too few bonds but form no multiple bond.

    These are two neighbors, or a carbon atom beside saturated atoms. The bonds of the carbon atom do not lie in a
    plane, or two bonds not on a line. Lengths alone are not sufficient, because motion stretches double bonds as far.
    """
    numbers, (receiver, sender, vectors) = atoms.numbers, bonds
    counts = np.bincount(receiver, minlength=len(atoms))
    free = np.where(judged, BONDS[numbers] - counts, 0)
    both = (free[receiver] > 0) & (free[sender] > 0)
    lengths = np.linalg.norm(vectors, axis=1)
    fewest = np.minimum(free[receiver], free[sender])
    most = np.where(fewest > 1, MULTIPLE[1], MULTIPLE[0]) * covalent_radii[numbers[[receiver, sender]]].sum(axis=0)
    alone = free > 0
    alone[receiver[both & (lengths < most)]] = False
    ends = np.cumsum(counts)
    for index in np.flatnonzero(alone & (numbers == 6)):
        own = slice(ends[index] - counts[index], ends[index])
        alone[index] = counts[index] > 1 and _asks_for_hydrogen(
            vectors[own], numbers[sender[own]], straight=BENT_DOUBLE
        )
    name = [f"{symbol} {index}" for index, symbol in enumerate(atoms.symbols)]
    carbene = alone & (numbers == 6) & (counts == 2)
    carbene[receiver[both]] = False
    if carbene.any():
        return f"{name[int(carbene.argmax())]} has only two bonds, at an angle: it is a carbene, or lacks hydrogens"
    found = both & alone[receiver] & alone[sender] & ((numbers[receiver] == 6) | (numbers[sender] == 6))
    if not found.any():
        return ""
    first = int(found.argmax())
    return (
        f"{name[receiver[first]]} and {name[sender[first]]} have too few bonds and are {lengths[first]:.2f} A apart, "
        "too far for a multiple bond: they lack hydrogens"
    )


def atoms_without_hydrogens(atoms: Atoms) -> IntArray:
    """Atoms without any hydrogen whose number of bonds and bond angles require one.

    Bonds are counted from distances. Carbon requires a hydrogen if it has three bonds that do not lie in a plane, two
    that do not lie on a line, or one that is not short; nitrogen and oxygen if they have too few bonds and no neighbor
    that could form a multiple bond. In structures without metals, carbon, nitrogen and oxygen without bonds require
    one too. Carbon atoms beside metals, silicon or boron are not checked, nor acyl carbons, which cut peptide bonds
    leave. If the number of electrons is even, a single hydrogen cannot be missing.

    Args:
        atoms: The structure; it is only read. A single atom requires none. Bare edges of pure carbon (graphene,
            diamond) look the same: such atoms are returned only if they are most of the structure.

    Returns:
        Indices of the atoms.

    Example:
        >>> from ase.build import molecule
        >>> ethanol = molecule("CH3CH2OH")
        >>> atoms_without_hydrogens(ethanol).tolist()
        []
        >>> atoms_without_hydrogens(ethanol[ethanol.numbers > 1]).tolist()
        [0, 1]
    """
    judged = np.isin(atoms.numbers, (6, 7, 8))
    if len(atoms) < 2 or not judged.any():
        return np.zeros(0, dtype=np.int64)
    return _lacking(atoms, judged, _bonds(atoms, judged))


def _lacking(atoms: Atoms, judged: BoolArray, bonds: tuple[IntArray, IntArray, FloatArray]) -> IntArray:
    """Indices of atoms that have no hydrogen but require one."""
    numbers, (receiver, sender, vectors) = atoms.numbers, bonds
    counts = np.bincount(receiver, minlength=len(atoms))
    sure = np.ones(len(atoms), dtype=bool)
    sure[receiver[~np.isin(numbers[sender], LIGHT) | (numbers[sender] == 1)]] = False
    lacking = judged & (counts == 0) & bool(np.isin(numbers, LIGHT).all())
    lacking |= judged & (numbers != 6) & sure & without_partner(numbers, contacts(atoms))
    carbon_alone = bool((numbers == 6).all())
    most = 2 if carbon_alone and atoms.pbc.any() else 3  # bare surfaces of diamond have atoms with three bonds
    ends = np.cumsum(counts)  # pairs are in the order of receivers
    for index in np.flatnonzero(sure & (numbers == 6) & (counts > 0) & (counts <= most)):
        own = slice(ends[index] - counts[index], ends[index])
        lacking[index] = _asks_for_hydrogen(vectors[own], numbers[sender[own]], CUMULATED if carbon_alone else 0.0)
    if carbon_alone and lacking.mean() <= 0.5:
        lacking[:] = False
    if lacking.sum() == 1 and counts[lacking].sum() == 3 and _is_even(atoms):
        lacking[:] = False
    return np.flatnonzero(lacking)


def _bonds(atoms: Atoms, judged: BoolArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Bonds of the judged atoms, sorted by atom: atoms (n,), their neighbors (n,), and vectors to them (n, 3) in A."""
    radii, hydrogen = covalent_radii[atoms.numbers], atoms.numbers == 1
    largest = float(radii[judged].max())
    reach = max(BOND * (largest + float(radii.max())), STRETCHED * (largest + float(covalent_radii[1])))
    (sender, receiver), shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    vectors = atoms.positions[sender] - atoms.positions[receiver] - shifts @ atoms.cell.array
    ratio = np.linalg.norm(vectors, axis=1) / (radii[sender] + radii[receiver])
    bonded = ratio < np.where(hydrogen[sender], JOINED, BOND)
    free = hydrogen.copy()
    free[sender[bonded]] = False
    nearest = np.full(len(atoms), STRETCHED)
    np.minimum.at(nearest, sender, ratio)
    bonded |= free[sender] & (ratio == nearest[sender])  # a hydrogen atom is always bonded, even if it is far away
    bonded &= judged[receiver]
    return receiver[bonded], sender[bonded], vectors[bonded]


def _is_even(atoms: Atoms) -> bool:
    """Whether a molecule has an even number of electrons."""
    electrons = int(atoms.numbers.sum()) - round(known_number(atoms, "charge"))
    return not atoms.pbc.any() and bool(is_nonmetal(atoms.numbers).all()) and electrons % 2 == 0


def _asks_for_hydrogen(
    bonds: FloatArray, numbers: IntArray, cumulated: float = 0.0, straight: float = STRAIGHT
) -> bool:
    """Whether a carbon atom with one to three bonds, (n, 3) in A, to elements (n,) has too few bonds."""
    lengths = np.linalg.norm(bonds, axis=1)
    if lengths.mean() < cumulated:
        return False
    if len(bonds) == 1:
        return bool(lengths[0] > SHORT.get(int(numbers[0]), 0.0))
    cosines = (bonds @ bonds.T / np.outer(lengths, lengths))[np.triu_indices(len(bonds), 1)]
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    if len(bonds) == 3:
        return bool(angles.sum() < PLANAR)
    acyl = ((numbers == 8) & (lengths < DOUBLE_TO_OXYGEN)).any() and (numbers == 6).any()
    triple = any(length < TRIPLE.get(int(z), 0.0) for length, z in zip(lengths, numbers, strict=True))
    return bool(angles[0] < (BENT if triple else straight) and not acyl)
