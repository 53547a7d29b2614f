"""Exact neighbor lists for any mix of periodic and open directions."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike
from vesin import NeighborList

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph.neighbors.pair_count import MOST_PAIRS, check_pair_count, estimated_pairs

# Below this number of atoms, threads cost more time than they save, and data loaders run many searches at once.
_ATOMS_PER_THREADED_LIST = 2000
# The search counts its cells in 32 bits: for larger coordinates or structures (A) it crashes or misses pairs.
_LARGEST_COORDINATE = 1e8
_LARGEST_EXTENT = 1e4
# Atoms that are more cells away from the origin are moved into the cell for the search.
_FAR = 1000
# The search coarsens grids of more cubes, which fails for some structures: see ``_search_cutoff``.
_MOST_CUBES = 1e5
# Cutoff in A up to which unit vectors along open directions cost no time.
_FEW_IMAGES = 20.0
# A thinner periodic cell (A) would need more images than fit into memory.
_SMALLEST_HEIGHT = 1e-3


def neighbor_list(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, r_max: float) -> tuple[IntArray, FloatArray]:
    r"""All directed pairs closer than ``r_max``, including periodic images and an atom's own images.

    A pair (j, i, S) is listed when :math:`|r_i - r_j + S\,h| < r_\mathrm{max}`, with the rows of h the cell vectors.
    Along open directions S is zero and the cell vector is ignored: it may be zero, or a dummy. The given cell is never
    changed. Pairs are sorted by receiver, then sender, then shift, so that the same structure gives the same list.

    Args:
        positions: Atom positions, (N, 3), in A; atoms may lie outside the cell.
        cell: Cell vectors as rows, (3, 3), in A.
        pbc: Periodic or open, one flag or three.
        r_max: Cutoff radius in A.

    Returns:
        ``edge_index`` (2, E), senders j first and receivers i second, and ``shifts`` (E, 3), whole numbers.

    Raises:
        DataError: Positions or cell are not finite or far too large, a periodic direction has no cell vector, r_max is
            not positive, or there are far too many pairs.

    Example:
        >>> edge_index, shifts = neighbor_list(
        ...     [[0.0, 0, 0], [0.9, 0, 0]], np.diag([2.0, 0, 0]), [True, False, False], 1.2
        ... )
        >>> edge_index.tolist(), shifts[:, 0].tolist()
        ([[1, 1, 0, 0], [0, 0, 1, 1]], [0.0, 1.0, -1.0, 0.0])
    """
    points = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3)
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    _check_finite(points, "positions")
    if not np.isfinite(r_max) or r_max <= 0:
        raise DataError(f"the cutoff r_max must be a positive length in A; got {r_max}")
    if len(points) == 0:
        return np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3))
    box = search_cell(cell, periodic)
    if np.abs(points).max() > _LARGEST_COORDINATE:
        raise DataError(
            f"a coordinate is {np.abs(points).max():.1e} A; expected at most {_LARGEST_COORDINATE:.0e} A: the "
            "structure has exploded, or is not in A"
        )
    periodic, wraps = _open_wide_gaps(points, box, periodic, r_max)
    points, box = points - wraps @ box, search_cell(box, periodic)
    back = _far_cells(points, box, periodic)
    points, wraps = points - back @ box, wraps + back
    if np.ptp(points, axis=0).max() > _LARGEST_EXTENT:
        points = _close_gaps(points, box[~periodic], r_max)
    check_pair_count(points, box, periodic, float(r_max))
    if r_max > _FEW_IMAGES:  # the search also visits the images along open directions, which are empty
        box[~periodic] *= r_max
    cutoff = _search_cutoff(points, box, periodic, float(r_max))
    threads = 1 if len(points) < _ATOMS_PER_THREADED_LIST else 0
    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=threads)
    with _forgotten_pointer_types():
        first, second, images, distances = search.compute(points, box, periodic, quantities="ijSd")
    if cutoff > r_max:
        near = distances < r_max
        first, second, images = first[near], second[near], images[near]
    sender, receiver = first.astype(np.int64), second.astype(np.int64)
    images = images.astype(np.int64) + wraps[sender] - wraps[receiver]
    order = _pair_order(receiver, sender, images, len(points))
    return np.stack([sender[order], receiver[order]]), images[order].astype(np.float64)


def search_cell(cell: ArrayLike, pbc: ArrayLike) -> FloatArray:
    """The cell for the search: periodic vectors as given, open vectors replaced by unit normals.

    Args:
        cell: Cell vectors as rows, (3, 3), in A.
        pbc: Three flags.

    Returns:
        A new, invertible (3, 3) array.

    Raises:
        DataError: A periodic direction has no cell vector, or the periodic vectors are linearly dependent, not finite
            or far too long.

    Example:
        >>> search_cell(np.diag([3.0, 0.0, 0.0]), [True, False, False]).round(6).tolist()[0]
        [3.0, 0.0, 0.0]
    """
    box = np.array(cell, dtype=np.float64).reshape(3, 3)
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    _check_finite(box, "cell vectors")
    given = box[periodic]
    longest = np.abs(given).max(initial=0.0)
    if longest > _LARGEST_COORDINATE:
        raise DataError(
            f"a cell vector has a component of {longest:.1e} A; expected at most {_LARGEST_COORDINATE:.0e} A: check "
            "that the cell is in A, or set pbc to False in directions in which the structure is not periodic"
        )
    empty = [axis for axis in range(3) if periodic[axis] and not box[axis].any()]
    if empty:
        raise DataError(
            f"the structure is periodic along cell vector {empty[0] + 1}, but that vector is zero; "
            "give the cell vector or set pbc to False in that direction"
        )
    _, heights, right = np.linalg.svd(given, full_matrices=True)
    if len(given) and heights[-1] < _SMALLEST_HEIGHT:
        raise DataError(f"the periodic cell vectors {given.tolist()} are linearly dependent; correct the cell or pbc")
    box[~periodic] = right[len(given) :]
    return box


def _open_wide_gaps(
    points: FloatArray, box: FloatArray, periodic: BoolArray, r_max: float
) -> tuple[BoolArray, IntArray]:
    """Treat very long periodic directions as open if they have a gap wider than the cutoff, which no pair crosses.

    Returns:
        The remaining periodic directions (3,), and the cell vectors to subtract from each position, (N, 3), so that
        the gaps lie between the images of the whole structure.
    """
    periodic, wraps = periodic.copy(), np.zeros((len(points), 3), dtype=np.int64)
    inverse = np.linalg.inv(box)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    for axis in np.flatnonzero(periodic & (heights > _LARGEST_EXTENT)):
        fractions = points @ inverse[:, axis]
        whole = np.floor(fractions)
        ordered = np.sort(fractions - whole)
        gaps = np.diff(ordered, append=ordered[0] + 1.0) * heights[axis]
        widest = int(np.argmax(gaps))
        if gaps[widest] > 1.001 * r_max:
            above = ordered[(widest + 1) % len(ordered)]
            periodic[axis] = False
            wraps[:, axis] = whole - (fractions - whole < above)
    return periodic, wraps


def _far_cells(points: FloatArray, box: FloatArray, periodic: BoolArray) -> IntArray:
    """The cell vectors to subtract from atoms that are many cells away, (N, 3), where vesin might divide by zero."""
    cells = np.floor(points @ np.linalg.inv(box)) * periodic
    cells[np.abs(cells).max(axis=1) <= _FAR] = 0.0
    return cells.astype(np.int64)


def _search_cutoff(points: FloatArray, box: FloatArray, periodic: BoolArray, r_max: float) -> float:
    """The cutoff for the search; longer than ``r_max`` if vesin would divide by zero.

    vesin coarsens a grid of more than 1e5 cubes by the same factor in all three directions. Across a wide and thin
    structure, such as a slab of 0.12 x 0.12 um, no cube is left, and the process ends with SIGFPE. A longer cutoff
    makes fewer and wider cubes; the caller drops the additional pairs.

    Raises:
        DataError: The cubes would be so wide that there are far too many images.
    """
    inverse = np.linalg.inv(box)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    extents = np.where(periodic, heights, heights * np.ptp(points @ inverse, axis=0))
    cutoff = r_max
    while True:
        fewest, most = np.floor(extents / cutoff), np.floor(extents / cutoff) + np.where(periodic, 1.0, 3.0)
        left = np.maximum(fewest, 1.0) * (_MOST_CUBES / most.prod()) ** (1 / 3)
        if most.prod() <= _MOST_CUBES or left.min() > 1.0:
            break
        cutoff *= 1.02
    if cutoff == r_max:
        return cutoff
    thin = heights[periodic][heights[periodic] < cutoff]
    images = float(np.prod(2.0 * np.ceil(cutoff / thin) + 1.0))
    if max(estimated_pairs(points, box, periodic, cutoff), min(most.prod(), _MOST_CUBES)) * images > MOST_PAIRS:
        raise DataError(
            f"a structure of {len(points)} atoms that is {extents.max():.0f} A wide and {extents.min():.3g} A thin is "
            f"too uneven for a search within {r_max:g} A: check that positions and cell are in A, and set pbc to False "
            "in directions in which the structure is not periodic"
        )
    return cutoff


@contextmanager
def _forgotten_pointer_types() -> Iterator[None]:
    """Remove the pointer types for arrays that ctypes caches within this context.

    vesin reads its results through a new ctypes type for every number of pairs, and Python before 3.14 never frees such
    types: 11 kB for each search in a long run of dynamics (python/cpython#100926, numpy/numpy#6511).
    """
    types = getattr(ctypes, "_pointer_type_cache", None)
    known = set(types) if isinstance(types, dict) else set()
    try:
        yield
    finally:
        if isinstance(types, dict):
            for new in set(types) - known:
                if isinstance(new, type) and issubclass(new, ctypes.Array):
                    types.pop(new, None)


def _close_gaps(points: FloatArray, normals: FloatArray, r_max: float) -> FloatArray:
    """Shorten empty stretches along the open directions to twice the cutoff, which changes no pair within it."""
    points = points.copy()
    for normal in normals:
        height = points @ normal
        order = np.argsort(height)
        excess = np.cumsum(np.maximum(np.diff(height[order]) - 2.0 * r_max, 0.0))
        points[order[1:]] -= excess[:, None] * normal
    return points


def _check_finite(array: FloatArray, name: str) -> None:
    """Raise an error that names the rows if an array contains NaN or infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        raise DataError(f"the {name} hold NaN or infinite values in row(s) {rows[:5].tolist()} ({len(rows)} in all)")


def _pair_order(receiver: IntArray, sender: IntArray, images: IntArray, count: int) -> IntArray:
    """The order of pairs by receiver, sender and shift; by one integer key if it fits, which is faster."""
    if len(receiver) == 0:
        return np.zeros(0, dtype=np.int64)
    low = images.min(axis=0)
    span = images.max(axis=0) - low + 1
    if float(count) * count * float(span.prod()) > 2.0**62:
        return np.lexsort((images[:, 2], images[:, 1], images[:, 0], sender, receiver))
    offset = images - low
    key = receiver * count + sender
    for axis in range(3):
        key = key * span[axis] + offset[:, axis]
    return np.argsort(key, kind="stable")
