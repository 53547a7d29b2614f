"""Alternate locations: the choice of one conformer if an experiment gives several positions for an atom."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from ik_e3nn.arrays import BoolArray
from ik_e3nn.data.structures.geometry import connected_groups

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
