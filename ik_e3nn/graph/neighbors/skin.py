"""A neighbor list with a skin, which needs a new search only when atoms have moved far enough."""

from typing import NamedTuple

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph.neighbors.search import neighbor_list

SAME_PLACE = 1e-4  # A
_MARGIN = 1e-9  # A, against rounding


class Pairs(NamedTuple):
    """Pairs of atoms within the cutoff.

    Args:
        edge_index: Senders and receivers, (2, E), sorted by receiver.
        shifts: Lattice shifts, (E, 3).
        rebuilt: Whether this call made a new search.

    Example:
        >>> SkinList(r_max=2.0).update(Atoms("H")).rebuilt
        True
    """

    edge_index: IntArray
    shifts: FloatArray
    rebuilt: bool


class SkinList:
    r"""A neighbor list that stays valid while no atom has moved by half the skin, also if the cell changes.

    All pairs within r_max + skin are stored. As long as every atom has moved by less than skin / 2, no other pair can
    be within r_max; each call returns the stored pairs that are within r_max now.

    When the periodic cell vectors change from :math:`h_0` to :math:`h_0 F`, atoms are expected at :math:`r_0 F`. If no
    atom is farther than u from there, a pair that is within :math:`r_\mathrm{max}` now was within
    :math:`(r_\mathrm{max} + 2u) / \sigma_\mathrm{min}(F)` before, with the smallest singular value of F: the list is
    valid while this distance is at most r_max + skin.

    Args:
        r_max: Cutoff radius in A.
        skin: Extra radius in A; with zero, every move of an atom causes a new search.

    Raises:
        DataError: r_max is not positive, or skin is negative.

    Example:
        >>> from ase.build import molecule
        >>> atoms, pairs = molecule("CH4"), SkinList(r_max=5.0, skin=0.5)
        >>> first = pairs.update(atoms)
        >>> atoms.positions[0, 0] += 0.1
        >>> pairs.update(atoms).rebuilt
        False
    """

    def __init__(self, r_max: float, skin: float = 0.5) -> None:
        if not np.isfinite(r_max) or r_max <= 0 or not np.isfinite(skin) or skin < 0:
            raise DataError(f"r_max must be positive and skin not negative; got r_max={r_max}, skin={skin}")
        self.r_max = float(r_max)
        self.skin = float(skin)
        self.num_rebuilds = 0
        self._positions: FloatArray = np.zeros((0, 3))
        self._cell: FloatArray = np.zeros((3, 3))
        self._pbc: BoolArray = np.zeros(3, dtype=bool)
        self._numbers: IntArray | None = None
        self._edge_index: IntArray = np.zeros((2, 0), dtype=np.int64)
        self._shifts: FloatArray = np.zeros((0, 3))

    def update(self, atoms: Atoms) -> Pairs:
        """Pairs within r_max of the structure as it is now.

        Args:
            atoms: The structure; it is only read.

        Returns:
            The pairs, and whether a new search was made.

        Raises:
            DataError: Positions or cell are not finite, the cell does not fit pbc, or two atoms are in the same place.
        """
        positions, cell = atoms.positions, atoms.cell.array
        rebuilt = not self._is_valid(atoms)
        if rebuilt:
            self._rebuild(atoms)
        sender, receiver = self._edge_index
        # ``take`` is several times faster than an index or a mask, which matters in every step of dynamics.
        vectors = positions.take(receiver, axis=0)
        vectors -= positions.take(sender, axis=0)
        vectors += self._shifts @ cell
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if squares.min(initial=np.inf) < SAME_PLACE**2:
            first, second = sorted(self._edge_index[:, squares.argmin()].tolist())
            raise DataError(
                f"atoms {first} ({atoms.symbols[first]}) and {second} ({atoms.symbols[second]}) are in the same place, "
                "so that the direction between them is undefined; remove one of them or move it"
            )
        near = np.flatnonzero(squares < self.r_max**2)
        return Pairs(self._edge_index.take(near, axis=1), self._shifts.take(near, axis=0), rebuilt)

    def _is_valid(self, atoms: Atoms) -> bool:
        """Whether the stored pairs still include every pair within r_max."""
        if self._numbers is None or not np.array_equal(self._numbers, atoms.numbers):
            return False
        if not np.array_equal(self._pbc, atoms.pbc):
            return False
        if not np.array_equal(self._cell, atoms.cell.array):
            return self._is_valid_in(atoms)
        moves = atoms.positions - self._positions
        largest = np.einsum("ij,ij->i", moves, moves).max(initial=0.0)
        # The comparison is false for NaN positions, so that the search gets them and raises an error.
        return bool(largest <= (0.5 * self.skin) ** 2)

    def _is_valid_in(self, atoms: Atoms) -> bool:
        """The same check for a changed cell; see the class."""
        before, now = self._cell[self._pbc], atoms.cell.array[self._pbc]
        # Any F with before @ F = now is valid; this one keeps the directions normal to the periodic vectors.
        change = np.eye(3) + np.linalg.pinv(before) @ (now - before)
        if not np.isfinite(change).all():
            return False
        moves = atoms.positions - self._positions @ change
        moves -= moves.mean(axis=0)  # a shift of all atoms does not change pairs
        largest = np.sqrt(np.einsum("ij,ij->i", moves, moves).max(initial=0.0))
        smallest = np.linalg.svd(change, compute_uv=False)[-1]
        return bool(self.r_max + 2.0 * largest <= smallest * (self.r_max + self.skin) - _MARGIN)

    def _rebuild(self, atoms: Atoms) -> None:
        """Search all pairs within r_max + skin and store the structure to which they belong."""
        self._numbers = None
        self._edge_index, self._shifts = neighbor_list(
            atoms.positions, atoms.cell.array, atoms.pbc, self.r_max + self.skin
        )
        self._positions, self._cell = atoms.positions.copy(), atoms.cell.array.copy()
        self._pbc, self._numbers = atoms.pbc.copy(), atoms.numbers.copy()
        self.num_rebuilds += 1
