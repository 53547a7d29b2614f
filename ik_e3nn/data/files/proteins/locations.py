"""One conformer of a PDB or mmCIF file: the choice of alternate locations, and of residues that clash."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from scipy.spatial import KDTree

from ik_e3nn.arrays import BoolArray, IntArray
from ik_e3nn.data.files.proteins.elements import WATER
from ik_e3nn.data.structures.geometry import connected_groups
from ik_e3nn.errors import DataError
from ik_e3nn.graph.occupancy import FULL

# In A; alternates of two residues that are nearer (a bond, a hydrogen bond) belong together: B is beside B, not A.
CONTACT = 3.0


class Site(NamedTuple):
    """One location of one atom in a PDB or mmCIF file.

    Attributes:
        residue: Chain, number and insertion code.
        residue_name: Name of the residue, which may differ between conformers.
        name: Name of the atom.
        location: Letter of its alternate location, "" if it has only one location.
        element: Symbol, D for deuterium.
        occupancy: From 0 to 1.
        position: x, y, z in A.
    """

    residue: tuple[str, str, str]
    residue_name: str
    name: str
    location: str
    element: str
    occupancy: float
    position: tuple[float, float, float]


def choose_locations(sites: Sequence[Site]) -> BoolArray:
    """Choose the sites of one conformer.

    All atoms of a residue have the same letter: the one with the highest occupancy (the mean of its atoms), or the
    first in the alphabet if several are equal. Residues whose alternates touch have the same letter. An atom that the
    file gives only under another letter is taken from there; a hydrogen only together with the atom that it is bonded
    to.

    Args:
        sites: All locations of one model of a file.

    Returns:
        True for each site of the conformer.

    Example:
        >>> place = (0.0, 0.0, 0.0)
        >>> serine = [
        ...     Site(("A", "7", ""), "SER", "CA", "", "C", 1.0, place),
        ...     Site(("A", "7", ""), "SER", "OG", "A", "O", 0.3, place),
        ...     Site(("A", "7", ""), "SER", "OG", "B", "O", 0.7, place),
        ... ]
        >>> choose_locations(serine).tolist()
        [True, False, True]
    """
    kept = np.array([not site.location for site in sites], dtype=bool)
    residues: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index in np.flatnonzero(~kept).tolist():
        residues[sites[index].residue].append(index)
    members = list(residues.values())
    for group in _touching(sites, members):
        weights: dict[str, float] = defaultdict(float)
        for residue in group:
            for letter, mean in _means(sites, members[residue]).items():
                weights[letter] += mean
        order = sorted(weights, key=lambda letter: (-round(weights[letter], 6), letter))
        for residue in group:
            letters = {sites[index].location for index in members[residue]}
            own = _means(sites, members[residue])
            fallback = sorted(own, key=lambda letter: (-round(own[letter], 6), letter))[0]
            chosen = order[0] if order[0] in letters else fallback
            kept[_conformer(sites, members[residue], chosen)] = True
    return kept


def _means(sites: Sequence[Site], members: Sequence[int]) -> dict[str, float]:
    """Mean occupancy of each letter of a residue."""
    values: dict[str, list[float]] = defaultdict(list)
    for index in members:
        values[sites[index].location].append(sites[index].occupancy)
    return {letter: float(np.mean(found)) for letter, found in values.items()}


def _touching(sites: Sequence[Site], members: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of residues whose alternates of one letter touch."""
    if not members:
        return []
    owner = np.concatenate([np.full(len(group), number) for number, group in enumerate(members)])
    order = np.concatenate([np.array(group) for group in members])
    pairs = KDTree(np.array([sites[index].position for index in order])).query_pairs(CONTACT, output_type="ndarray")
    letters = np.array([sites[index].location for index in order])
    pairs = pairs[letters[pairs[:, 0]] == letters[pairs[:, 1]]]
    return connected_groups(owner[pairs].tolist(), len(members))


def _conformer(sites: Sequence[Site], members: Sequence[int], letter: str) -> list[int]:
    """The sites of a residue for a letter: those with this letter, and atoms that only other letters have."""
    found = [index for index in members if sites[index].location == letter]
    name = sites[found[0]].residue_name
    names = {sites[index].name for index in found}
    others = [index for index in members if sites[index].residue_name == name and sites[index].name not in names]
    others.sort(key=lambda index: (-sites[index].occupancy, sites[index].location))
    filled: dict[str, int] = {}
    for index in others:
        if not _is_hydrogen(sites[index]):
            filled.setdefault(sites[index].name, index)
    hydrogens: dict[str, int] = {}
    for index in others:
        if _is_hydrogen(sites[index]) and _nearest_heavy(sites, members, index) in filled.values():
            hydrogens.setdefault(sites[index].name, index)
    return [*found, *filled.values(), *hydrogens.values()]


def _is_hydrogen(site: Site) -> bool:
    return site.element in ("H", "D")


def _nearest_heavy(sites: Sequence[Site], members: Sequence[int], hydrogen: int) -> int | None:
    """The atom of the same letter that a hydrogen is bonded to."""
    letter, place = sites[hydrogen].location, np.array(sites[hydrogen].position)
    heavy = [index for index in members if sites[index].location == letter and not _is_hydrogen(sites[index])]
    if not heavy:
        return None
    distances = [float(np.linalg.norm(np.array(sites[index].position) - place)) for index in heavy]
    nearest = int(np.argmin(distances))
    return heavy[nearest] if distances[nearest] < 1.3 else None


# NEAREST is in sums of covalent radii, below the shortest bonds (0.77 in N2). WATER_CONTACT is the shortest distance
# of a water from another residue, in A.
NEAREST, WATER_CONTACT = 0.76, 2.0


def without_clashing_letters(sites: Sequence[Site], kept: BoolArray) -> BoolArray:
    """Leave out residues that are alternates of another residue, because they clash with it and have other letters.

    The residue with the higher occupancy is kept, or the first letter if occupancies are equal. A residue is left out
    only if all its sites have letters.

    Args:
        sites: All sites of one model.
        kept: Which sites were chosen for the conformer, residue by residue.

    Returns:
        Which sites remain.

    Raises:
        DataError: Partially occupied sites clash with others, and no letters show which sites belong together.

    Example:
        >>> place = (0.0, 0.0, 0.0)
        >>> first = Site(("A", "1", ""), "HOH", "O", "A", "O", 0.4, place)
        >>> second = Site(("A", "2", ""), "HOH", "O", "B", "O", 0.6, place)
        >>> without_clashing_letters([first, second], np.array([True, True])).tolist()
        [False, True]
    """
    kept = kept.copy()
    pairs = _clashes(sites, np.flatnonzero(kept))
    plain = {site.residue for site in sites if not site.location}
    for pair in pairs:
        first, second = sorted((sites[index] for index in pair), key=lambda site: (-site.occupancy, site.location))
        letters = bool(first.location and second.location) and first.location != second.location
        if kept[list(pair)].all() and letters and first.residue != second.residue and second.residue not in plain:
            kept &= np.array([site.residue != second.residue for site in sites])
    least = 0.0 if any(site.occupancy for site in sites) else FULL  # 0 everywhere means unknown
    for pair in pairs:
        first, second = (sites[index] for index in pair)
        if kept[list(pair)].all() and any(least <= site.occupancy < FULL for site in (first, second)):
            distance = np.linalg.norm(np.subtract(first.position, second.position))
            raise DataError(
                f"{_words(first)} and {_words(second)} are {distance:.2f} A apart, nearer than two atoms can be: they "
                "are alternates of each other, and no letters of alternate locations show which atoms belong together; "
                "delete those of one alternative from the file, or give them letters"
            )
    return kept


def _clashes(sites: Sequence[Site], chosen: IntArray) -> list[tuple[int, int]]:
    """Pairs of sites that cannot both be present."""
    if len(chosen) < 2:
        return []
    positions = np.array([sites[index].position for index in chosen])
    pairs = KDTree(positions).query_pairs(WATER_CONTACT, output_type="ndarray")
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    numbers = np.array([atomic_numbers["H" if sites[i].element in "DT" else sites[i].element] for i in chosen])
    heavy = numbers > 1
    water = heavy & np.array([sites[index].residue_name in WATER for index in chosen])
    residues = np.unique([".".join(sites[index].residue) for index in chosen], return_inverse=True)[1]
    is_clash = lengths < NEAREST * covalent_radii[numbers][pairs].sum(axis=1)
    apart = residues[pairs[:, 0]] != residues[pairs[:, 1]]
    is_clash |= apart & heavy[pairs].all(axis=1) & water[pairs].any(axis=1)
    # a water may be that near to a metal
    is_clash &= np.isin(numbers, [1, 6, 7, 8, 9, 15, 16, 17, 35, 53])[pairs].all(axis=1)
    return [(int(i), int(j)) for i, j in np.sort(chosen[pairs[is_clash]], axis=1)]


def _words(site: Site) -> str:
    return f"{site.name} of {site.residue_name} {''.join(site.residue)} (occupancy {site.occupancy:g})"
