"""Ranges of geometries of a set: the shortest bonds and contacts of every pair of elements, heights and places."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from scipy.sparse import coo_matrix, eye

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.graph import near_pairs
from ik_e3nn.graph.build import heights_over_surface

GEOMETRY = "geometry"  # key of the ranges in the training record of a model file
BOND = 1.4  # sums of covalent radii; closer atoms are bonded, which includes thermally stretched bonds
APART = 3  # bonds; the distance of two atoms that a chain of so many bonds or fewer joins is no contact
REACH = 4.0  # A; contacts are shorter
VOXEL = 0.75  # A, size of the voxels of places
MOST = 5_000  # structures to examine; larger sets are sampled in even steps


@dataclass(frozen=True)
class GeometryRanges:
    """Extreme distances of some structures. Pairs of elements are named like "C-H", in alphabetical order.

    Attributes:
        bonds: The shortest distance of bonded atoms of each pair, in A.
        contacts: The shortest distance of atoms that no chain of three bonds or fewer joins, in A.
        heights: The smallest and the largest height of each element above a surface without atoms, in A.
        places: Where atoms of each element are in a site: voxels (i, j, k) of 0.75 A around i, j and k times 0.75 A.
    """

    bonds: Mapping[str, float] = field(default_factory=dict)
    contacts: Mapping[str, float] = field(default_factory=dict)
    heights: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    places: Mapping[str, Sequence[tuple[int, ...]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        structures: Sequence[Atoms],
        *,
        surface: bool = False,
        places: Callable[[Atoms], FloatArray] | None = None,
    ) -> Self:
        """Ranges of structures.

        Args:
            structures: The structures; sets of more than 5,000 are sampled in even steps.
            surface: Whether they are above a surface without atoms, so that heights have a meaning.
            places: Positions of the atoms of a structure in a site, (N, 3), in A; None without a site.

        Example:
            >>> from ase.build import molecule
            >>> ranges = GeometryRanges.of([molecule("H2O"), Atoms("He2", [[0, 0, 0], [0, 0, 3]])])
            >>> ranges.contacts, round(ranges.bonds["H-O"], 3)
            ({'He-He': 3.0}, 0.969)
        """
        step = math.ceil(len(structures) / MOST) or 1
        ranges = cls()
        for atoms in structures[::step]:
            heights = _heights(atoms) if surface else {}
            ranges = ranges.joined(cls(*_distances(atoms), heights, {} if places is None else _voxels(atoms, places)))
        return ranges

    @classmethod
    def from_json(cls, stored: Any) -> Self | None:
        """Ranges from a model file; None if it has no ranges that can be read."""
        try:
            bonds, contacts = ({str(k): float(v) for k, v in stored[name].items()} for name in ("bonds", "contacts"))
            heights = {str(k): (float(low), float(high)) for k, (low, high) in stored["heights"].items()}
            rows = stored.get("places", {}).items()  # older files have none
            places = {str(k): [tuple(int(i) for i in row) for row in voxels] for k, voxels in rows}
        except (TypeError, KeyError, ValueError, AttributeError):
            return None
        return cls(bonds, contacts, heights, places)

    def to_json(self) -> dict[str, Any]:
        """The ranges, rounded, in the form that ``from_json`` reads."""
        parts = asdict(self)
        places = parts.pop("places")
        rounded = {name: {key: _rounded(value) for key, value in part.items()} for name, part in parts.items()}
        return rounded | ({"places": places} if places else {})

    def joined(self, other: Self) -> Self:
        """Ranges of both sets of structures combined."""
        heights = dict(self.heights)
        for name, (low, high) in other.heights.items():
            lowest, highest = heights.get(name, (low, high))
            heights[name] = (min(low, lowest), max(high, highest))
        places = {
            name: sorted({*self.places.get(name, ()), *other.places.get(name, ())})
            for name in sorted({*self.places, *other.places})
        }
        return type(self)(_least(self.bonds, other.bonds), _least(self.contacts, other.contacts), heights, places)


def pair_name(first: int, second: int) -> str:
    """The name of a pair of elements.

    >>> pair_name(8, 1)
    'H-O'
    """
    return "-".join(sorted((chemical_symbols[first], chemical_symbols[second])))


@dataclass(frozen=True)
class AtomPairs:
    """Pairs of atoms that are near each other, periodic images included; each pair occurs once.

    Attributes:
        first, second: Their indices, (n,).
        distances: In A, (n,).
        bonded: Which are bonded.
        apart: Which are in contact: not joined by three bonds or fewer, and within reach.
    """

    first: IntArray
    second: IntArray
    distances: FloatArray
    bonded: BoolArray
    apart: BoolArray


def atom_pairs(atoms: Atoms) -> AtomPairs:
    """The pairs of a structure that are bonded or within 4 A.

    Example:
        >>> pairs = atom_pairs(Atoms("H4", [[0, 0, z] for z in (0.0, 0.7, 3.7, 4.4)]))
        >>> pairs.distances[pairs.bonded].round(1).tolist(), pairs.distances[pairs.apart].round(1).tolist()
        ([0.7, 0.7], [3.7, 3.0, 3.7])
    """
    radii = covalent_radii[atoms.numbers]
    reach = max(REACH, 2 * BOND * float(radii.max(initial=0.0)))
    found = near_pairs(atoms, reach)
    half = found.sender <= found.receiver
    sender, receiver, distances = found.sender[half], found.receiver[half], found.distances[half]
    bonded = found.ratios[half] < BOND
    apart = ~bonded & (distances < REACH) & ~_joined_by_few(sender, receiver, bonded, len(atoms))
    return AtomPairs(sender, receiver, distances, bonded, apart)


def _distances(atoms: Atoms) -> tuple[dict[str, float], dict[str, float]]:
    """The shortest bonds and contacts of one structure."""
    pairs = atom_pairs(atoms)
    first, second = atoms.numbers[pairs.first], atoms.numbers[pairs.second]
    bonds, contacts = (
        _shortest(first[kept], second[kept], pairs.distances[kept]) for kept in (pairs.bonded, pairs.apart)
    )
    return bonds, contacts


def _joined_by_few(sender: IntArray, receiver: IntArray, bonded: BoolArray, size: int) -> BoolArray:
    """Which pairs are joined by a chain of at most three bonds."""
    if not bonded.any():
        return np.zeros(len(bonded), dtype=bool)
    ends = np.concatenate([sender[bonded], receiver[bonded]]), np.concatenate([receiver[bonded], sender[bonded]])
    bonds = coo_matrix((np.ones(len(ends[0])), ends), shape=(size, size)).tocsr() + eye(size, format="csr")
    reached = bonds
    for _ in range(APART - 1):
        reached = reached @ bonds
    return np.asarray(reached[sender, receiver]).ravel() > 0


def _shortest(first: IntArray, second: IntArray, distances: FloatArray) -> dict[str, float]:
    """The shortest distance of each pair of elements."""
    found: dict[str, float] = {}
    codes = np.minimum(first, second) * 1000 + np.maximum(first, second)
    for code in np.unique(codes).tolist():
        found[pair_name(code // 1000, code % 1000)] = float(distances[codes == code].min())
    return found


def _heights(atoms: Atoms) -> dict[str, tuple[float, float]]:
    """The smallest and largest height of each element above the plane of a surface."""
    above = heights_over_surface(atoms)
    return {
        chemical_symbols[z]: (float(above[atoms.numbers == z].min()), float(above[atoms.numbers == z].max()))
        for z in np.unique(atoms.numbers).tolist()
    }


def _voxels(atoms: Atoms, places: Callable[[Atoms], FloatArray]) -> dict[str, Sequence[tuple[int, ...]]]:
    """The voxels in a site in which there are atoms of each element."""
    voxels = np.round(places(atoms) / VOXEL).astype(int)
    return {
        chemical_symbols[z]: [tuple(row) for row in np.unique(voxels[atoms.numbers == z], axis=0).tolist()]
        for z in np.unique(atoms.numbers).tolist()
    }


def _least(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: min(first.get(name, math.inf), second.get(name, math.inf)) for name in sorted({*first, *second})}


def _rounded(value: Any) -> Any:
    return [round(one, 4) for one in value] if isinstance(value, tuple) else round(value, 4)
