"""Poses outside of a model's domain: heights, bonds and contacts that its training data do not have."""

import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.vdw_alvarez import vdw_radii
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ik_e3nn.data.structures.ranges import GeometryRanges, atom_pairs, pair_name
from ik_e3nn.graph.bonds.hydrogens import LIGHT
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators.dock.system.host import SITE, Host
from ik_e3nn_calculators.dock.system.ligand import Ligand
from ik_e3nn_calculators.systems.heights import ranges_of

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

SLACK = 0.1  # A; distances shorter than those of the training data by up to this much still count as inside
NEAREST = 0.7  # of the sum of the van der Waals radii; only bonds and hydrogen bonds are shorter
SHORTEST = 0.8  # sums of covalent radii; no bond to a metal is shorter
BROKEN = 1.5  # sums of covalent radii; a longer bond of the molecule counts as broken
ACCEPTORS = (7, 8, 9, 16, 17)  # elements that accept hydrogen bonds
WALL = 1.7  # A, van der Waals radius of an unknown surface: that of carbon
NEIGHBORHOOD = 8.0  # A around the pose; holds its contacts and the bonds that decide which pairs are contacts
FADED = 2.0  # cutoffs from a surface or site without atoms; farther away, the model's field has vanished
UNSEEN = 1.25  # A from the centers of voxels, which are up to 0.65 A from places in them


def known_ranges(model: str | None) -> GeometryRanges | None:
    """The ranges of geometries in the training data of a model; None if its file lacks them."""
    if model is None:
        return None
    ranges = ranges_of(model)
    if ranges is None:
        _log.info(
            "the model file lacks the heights and contacts of its training data; poses are compared with van der Waals "
            "radii instead"
        )
    return ranges


def reasons_outside(
    positions: FloatArray, ligand: Ligand, host: Host, model: InteratomicPotential, ranges: GeometryRanges | None
) -> list[str]:
    """Find out why relaxed poses are outside of the model's domain.

    Args:
        positions: The poses, (P, N, 3), in A.
        ligand: The molecule.
        host: The part of the host within reach.
        model: The model.
        ranges: Distances in its training data; None if the model file lacks them.

    Returns:
        A short reason for each pose; empty if it is inside.
    """
    numbers = ligand.conformers[0].numbers
    left_out = cKDTree(host.left_out) if len(host.left_out) else None
    felt = len(model.interactions) * model.r_max

    def reason(pose: FloatArray) -> str:
        if not np.isfinite(pose).all():
            return ""
        if host.name == SITE:
            beside = _place(pose, ligand.conformers[0].get_chemical_symbols(), model, host)
        elif len(host.atoms) == 0:
            beside = _height(pose, numbers, model, ranges)
        else:
            beside = _contact(pose, numbers, host, ranges)
        gone = np.inf if left_out is None else float(left_out.query(pose)[0].min())
        left = f"it left the region: atoms of the host that were left out are {gone:.1f} A away" if gone < felt else ""
        return beside or _broken(pose, ligand) or left

    return [reason(pose) for pose in positions]


def _height(
    pose: FloatArray, numbers: NDArray[np.int64], model: InteratomicPotential, ranges: GeometryRanges | None
) -> str:
    """The reason if a height over a surface without atoms is outside, otherwise empty."""
    heights = {} if ranges is None else ranges.heights
    for z in np.unique(numbers).tolist():
        symbol, lowest = chemical_symbols[z], float(pose[numbers == z, 2].min())
        if symbol in heights:
            if lowest < heights[symbol][0] - SLACK:
                return f"{symbol} at {lowest:.2f} A, below {heights[symbol][0]:.2f} A, the least of the training data"
        elif lowest < NEAREST * (_vdw(z) + WALL):
            return f"{symbol} at {lowest:.2f} A, nearer to the surface than a van der Waals contact"
    lowest = float(pose[:, 2].min())
    if heights and max(high for _, high in heights.values()) + SLACK < lowest < FADED * model.r_max:
        return f"at {lowest:.2f} A, above all heights of the training data"
    return ""


def _place(pose: FloatArray, symbols: Sequence[str], model: InteratomicPotential, host: Host) -> str:
    """The reason if an atom in a site is where no such atom of the training data was, otherwise empty."""
    distances = host.from_places(pose, symbols)
    distances[np.linalg.norm(pose, axis=1) > FADED * model.r_max] = 0.0
    atom = int(distances.argmax())
    if not host.places and distances[atom] > 0:
        return "the model file lacks the places of its training data"
    if np.isinf(distances[atom]):
        return f"the training data have no {symbols[atom]} in the site"
    if distances[atom] > UNSEEN:
        return f"{symbols[atom]} is {distances[atom]:.1f} A from all places of {symbols[atom]} in the training data"
    return ""


def _contact(pose: FloatArray, numbers: NDArray[np.int64], host: Host, ranges: GeometryRanges | None) -> str:
    """The reason if a distance between molecule and host is outside; the relatively shortest comes first."""
    near = Atoms(numbers, pose, cell=host.atoms.cell, pbc=host.atoms.pbc)
    low, high = pose.min(axis=0) - NEIGHBORHOOD, pose.max(axis=0) + NEIGHBORHOOD
    inside = ((host.atoms.positions > low) & (host.atoms.positions < high)).all(axis=1) | host.atoms.pbc.any()
    near.extend(Atoms(host.atoms.numbers[inside], host.atoms.positions[inside]))
    pairs = atom_pairs(near)
    mixed = (np.minimum(pairs.first, pairs.second) < len(numbers)) & (
        np.maximum(pairs.first, pairs.second) >= len(numbers)
    )
    relative = pairs.distances / covalent_radii[near.numbers[[pairs.first, pairs.second]]].sum(axis=0)
    candidates = np.flatnonzero(mixed & (pairs.bonded | pairs.apart))
    for k in candidates[np.argsort(relative[candidates], kind="stable")].tolist():
        pair, distance = (int(near.numbers[pairs.first[k]]), int(near.numbers[pairs.second[k]])), pairs.distances[k]
        if pairs.bonded[k]:
            problem = _short_bond(pair, distance, ranges, may_bind=bool(host.atoms.pbc.any()))
        else:
            problem = _short_contact(pair, distance, ranges)
        if problem:
            return f"{pair_name(*pair)} at {distance:.2f} A, {problem}"
    return ""


def _short_bond(pair: tuple[int, int], distance: float, ranges: GeometryRanges | None, *, may_bind: bool) -> str:
    """The reason if a bond between molecule and host is outside; bonds to metals, and learned ones, are allowed."""
    known = None if ranges is None else ranges.bonds.get(pair_name(*pair))
    if set(pair) <= set(LIGHT) and not (known is not None and may_bind):
        return "as near as a bond between molecule and host"
    least = SHORTEST * float(covalent_radii[list(pair)].sum()) if known is None else known - SLACK
    if distance < least:
        return "shorter than any bond" + (" of the training data" if known is not None else "")
    return ""


def _short_contact(pair: tuple[int, int], distance: float, ranges: GeometryRanges | None) -> str:
    """The reason if atoms that are not bonded are too close."""
    known = None if ranges is None else ranges.contacts.get(pair_name(*pair))
    if known is not None and distance < known - SLACK:
        return f"below {known:.2f} A, the shortest contact of the training data"
    light = set(pair) <= set(LIGHT)
    hydrogen_bond = 1 in pair and (set(pair) & set(ACCEPTORS))
    if light and not hydrogen_bond and distance < NEAREST * (_vdw(pair[0]) + _vdw(pair[1])):
        return "nearer than a van der Waals contact"
    return ""


def _broken(pose: FloatArray, ligand: Ligand) -> str:
    """The reason if a bond of the molecule is broken."""
    for bond in ligand.molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        pair = bond.GetBeginAtom().GetAtomicNum(), bond.GetEndAtom().GetAtomicNum()
        distance = float(np.linalg.norm(pose[i] - pose[j]))
        if distance > BROKEN * covalent_radii[list(pair)].sum():
            return f"its bond {pair_name(*pair)} is broken, at {distance:.2f} A"
    return ""


def _vdw(number: int) -> float:
    """Van der Waals radius in A; 2 if it is not known."""
    radius = float(vdw_radii[number]) if number < len(vdw_radii) else np.nan
    return radius if np.isfinite(radius) else 2.0
