"""Clashing sites of a PDB or mmCIF file: too close for two atoms, and therefore alternates of each other."""

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from scipy.spatial import KDTree

from ik_e3nn.arrays import BoolArray, IntArray
from ik_e3nn.data.files.proteins.locations import Site
from ik_e3nn.data.files.proteins.residues import WATER
from ik_e3nn.errors import DataError
from ik_e3nn.graph.occupancy import FULL

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
