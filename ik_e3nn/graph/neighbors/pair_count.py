"""Estimate the number of pairs of a neighbor list before memory is allocated for it."""

from itertools import product

import numpy as np

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.errors import DataError

MOST_PAIRS = 2e8  # per structure; a million atoms of a dense metal have as many within 6 A
MOST_NEIGHBORS = 1e5  # per atom; in a dense metal an atom has 35,000 within 30 A
LONGEST_CUTOFF = 100.0  # A
_CUBE_TO_BALL = np.pi / 6


def check_pair_count(points: FloatArray, box: FloatArray, periodic: BoolArray, r_max: float) -> None:
    """Refuse a structure with so many pairs within a cutoff that the search would exhaust the memory.

    Args:
        points: Positions, (N, 3), in A.
        box: Cell with unit normals along open directions; see ``search_cell``.
        periodic: Three flags.
        r_max: Cutoff radius in A.

    Raises:
        DataError: The cutoff is above 100 A, or there are far too many pairs; the message gives the estimated number.

    Example:
        >>> check_pair_count(np.zeros((1, 3)), 0.01 * np.eye(3), np.ones(3, dtype=bool), 5.0)
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: 1 atom(s) in the cell [[0.01, ...]] have about 5.2e+08 pairs within 5 A, ...
    """
    if r_max > LONGEST_CUTOFF:
        raise DataError(
            f"the cutoff is {r_max:g} A (r_max and the skin of the neighbor list together); expected at most "
            f"{LONGEST_CUTOFF:g} A: give a smaller r_max or skin"
        )
    count = len(points)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
    bound = float(count) ** 2 * float(np.prod(2.0 * np.ceil(r_max / heights[periodic]) + 1.0))
    if bound <= min(MOST_PAIRS, MOST_NEIGHBORS * count):
        return
    pairs = estimated_pairs(points, box, periodic, r_max)
    if pairs > min(MOST_PAIRS, MOST_NEIGHBORS * count):
        cell = f" in the cell {box[periodic].round(4).tolist()}" if periodic.any() else ""
        raise DataError(
            f"{count} atom(s){cell} have about {pairs:.1e} pairs within {r_max:g} A, {pairs / count:.1e} per atom; "
            f"expected at most {MOST_PAIRS:.0e} pairs and {MOST_NEIGHBORS:.0e} per atom. Check that positions and "
            "cell are in A, and that the cutoff (r_max, and the skin of the neighbor list) is right"
        )


def estimated_pairs(points: FloatArray, box: FloatArray, periodic: BoolArray, r_max: float) -> float:
    """Approximate number of directed pairs: the larger of two estimates.

    One estimate spreads the atoms evenly over the cell, which includes periodic images. The other counts atoms in cubes
    as wide as the cutoff, which detects crowded regions.

    Args:
        points: Positions, (N, 3), in A.
        box: Cell with unit normals along open directions; see ``search_cell``.
        periodic: Three flags.
        r_max: Cutoff radius in A.

    Returns:
        The estimated number.

    Example:
        >>> grid = np.stack(np.meshgrid(*[np.arange(20.0)] * 3), -1).reshape(-1, 3)
        >>> everywhere = np.ones(3, dtype=bool)
        >>> round(estimated_pairs(grid, 20 * np.eye(3), everywhere, 5.0) / len(grid))  # 4/3 pi 5^3 less itself
        524
    """
    count = len(points)
    fractional = points @ np.linalg.inv(box)
    fractional[:, periodic] %= 1.0
    wrapped = fractional @ box
    volume = float(np.prod(np.linalg.svd(box[periodic], compute_uv=False)))
    normals = box[~periodic]
    extents = np.ptp(wrapped @ normals.T, axis=0) if len(normals) else np.ones(0)
    share = float(np.prod(np.minimum(1.0, 2.0 * r_max / np.maximum(extents, 1e-9))))
    even = count**2 * _CUBE_TO_BALL * (2.0 * r_max) ** int(periodic.sum()) / volume * share
    return max(even, _crowded(wrapped, r_max))


def _crowded(points: FloatArray, r_max: float) -> float:
    """Number of pairs without images, from the atoms in every cube and in the 26 cubes around it."""
    places = np.floor((points - points.min(axis=0)) / r_max).astype(np.int64) + 1
    strides = np.array([1, 0, 0])
    sizes = places.max(axis=0) + 2
    strides[1], strides[2] = sizes[0], sizes[0] * sizes[1]
    cubes, atoms = np.unique(places @ strides, return_counts=True)
    around = np.zeros(len(cubes))
    for offset in product((-1, 0, 1), repeat=3):
        other = cubes + np.array(offset) @ strides
        found = np.searchsorted(cubes, other).clip(max=len(cubes) - 1)
        around += np.where(cubes[found] == other, atoms[found], 0)
    return float(atoms @ around) * _CUBE_TO_BALL * (2.0 / 3.0) ** 3
