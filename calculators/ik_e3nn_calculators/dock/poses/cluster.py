"""Distances of poses that respect the symmetry of molecule and host, and clusters of poses that are the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.symmetry import SymmetryGroup

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PoseDistance:
    """Root mean square distance of two poses, minimized over the given symmetries.

    Attributes:
        maps: Symmetry maps of the atoms onto themselves, (maps, n).
        group: Symmetry of a surface without atoms, with the normal z as its axis; poses related by one of its elements
            or by a lateral shift are the same. None for hosts with atoms.
        lattice: Periodic cell vectors of a slab, (k, 3); poses related by one of them are the same.
        operations: Rotations and mirrors (g, 3, 3) with shifts (g, 3), in A, that map a slab onto itself, the identity
            included; poses related by one of them and by cell vectors are the same.
    """

    maps: IntArray
    group: SymmetryGroup | None = None
    lattice: FloatArray | None = None
    operations: tuple[FloatArray, FloatArray] = (np.eye(3)[None], np.zeros((1, 3)))

    def __call__(self, first: FloatArray, second: FloatArray) -> float:
        """The distance of poses (n, 3), A."""
        images = second[self.maps]  # (maps, n, 3)
        if self.group is None:
            return self._over_atoms(first, images)
        return min(self._over_surface(first, images, mirror) for mirror in self._mirrors())

    def _over_atoms(self, first: FloatArray, images: FloatArray) -> float:
        """Least distance over the operations and cell vectors of a slab.

        The distance of the centers is a lower bound: images are tried in its order until no other can be closer.
        """
        rotations, shifts = self.operations
        middle = first.mean(axis=0)
        gaps = middle - (rotations @ images[0].mean(axis=0) + shifts)  # (g, 3)
        cells = self._cells(gaps)  # (g, c, 3)
        bounds = np.linalg.norm(gaps[:, None] - cells, axis=2)
        best = np.inf
        for index in np.argsort(bounds, axis=None):
            if bounds.flat[index] >= best:
                break
            g, c = np.unravel_index(index, bounds.shape)
            moved = images @ rotations[g].T + (shifts[g] + cells[g, c])
            best = min(best, np.sqrt(((first - moved) ** 2).sum((1, 2)).min() / len(first)))
        return float(best)

    def _cells(self, gaps: FloatArray) -> FloatArray:
        """Lattice vectors around vectors (g, 3), with the nearest among them, (g, c, 3)."""
        if self.lattice is None or not len(self.lattice):
            return np.zeros((len(gaps), 1, 3))
        near = np.round(np.linalg.lstsq(self.lattice.T, gaps.T, rcond=None)[0].T)
        around = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(self.lattice), indexing="ij"), -1)  # cells may be skewed
        cells: FloatArray = (near[:, None] + around.reshape(-1, len(self.lattice))) @ self.lattice
        return cells

    def _mirrors(self) -> list[FloatArray]:
        """One element of every coset of the rotations about z, or every element of a finite group."""
        group = self.group or SymmetryGroup("C1")
        return list(group.components.numpy())

    def _over_surface(self, first: FloatArray, images: FloatArray, element: FloatArray) -> float:
        """Least distance over rotations about z, if the group has them, and shifts along the surface."""
        images = images @ element.T
        a, b = (
            x - np.concatenate([x[..., :2].mean(-2, keepdims=True), np.zeros_like(x[..., :1, 2:])], -1)
            for x in (first, images)
        )
        heights = ((a[..., 2] - b[..., 2]) ** 2).sum(-1)
        if self.group is None or self.group.is_finite:
            sideways = ((a[..., :2] - b[..., :2]) ** 2).sum((-1, -2))
        else:
            za, zb = (x[..., 0] + 1j * x[..., 1] for x in (a, b))
            sideways = (np.abs(za) ** 2).sum(-1) + (np.abs(zb) ** 2).sum(-1) - 2 * np.abs((za.conj() * zb).sum(-1))
        squares = np.maximum(heights + sideways, 0.0)
        return float(np.sqrt(squares.min() / len(first)))


def cluster(poses: FloatArray, order: IntArray, distance: PoseDistance, distinct: float) -> IntArray:
    """Number the clusters: poses that are the same as an earlier pose, in the given order, share its number.

    Args:
        poses: (P, n, 3), A.
        order: Indices of poses from best to worst; poses that are not listed get -1.
        distance: The distance of two poses.
        distinct: Poses closer than this are the same, in A.

    Returns:
        (P,), clusters counted from 0 in the given order.

    Example:
        >>> poses = np.array([[[0.0, 0, 0]], [[0.1, 0, 0]], [[5.0, 0, 0]]])
        >>> cluster(poses, np.array([2, 0, 1]), PoseDistance(np.array([[0]])), 0.5).tolist()
        [1, 1, 0]
    """
    numbers = np.full(len(poses), -1)
    leaders: list[int] = []
    for pose in order.tolist():
        for number, leader in enumerate(leaders):
            if distance(poses[leader], poses[pose]) < distinct:
                numbers[pose] = number
                break
        else:
            numbers[pose] = len(leaders)
            leaders.append(pose)
    return numbers
