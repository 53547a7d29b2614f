"""Triangle meshes of simple solids, the parts of furniture."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ik_e3nn.arrays import FloatArray, IntArray


class Mesh(NamedTuple):
    """A surface of triangles, whose corners run counter-clockwise seen from outside.

    Attributes:
        vertices: (V, 3).
        faces: Indices of vertices, (F, 3).
    """

    vertices: FloatArray
    faces: IntArray

    def volume(self) -> float:
        r"""Volume inside, negative if normals point inwards: :math:`\frac16 \sum_f v_0 \cdot (v_1 \times v_2)`."""
        a, b, c = self.vertices[self.faces].transpose(1, 0, 2)
        return float((a * np.cross(b, c)).sum() / 6)

    def mapped(self, matrix: ArrayLike) -> "Mesh":
        """The mesh under a linear map without reflection: vertices v -> matrix v."""
        return Mesh(self.vertices @ np.asarray(matrix, dtype=np.float64).T, self.faces)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one; faces inside other meshes are kept.

    Example:
        >>> join([box((0, 0, 0), (1, 1, 1)), box((2, 0, 0), (3, 1, 1))]).faces.shape
        (24, 3)
    """
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]),
    )


def prism(lower: ArrayLike, upper: ArrayLike) -> Mesh:
    """The solid between two convex polygons of the same number of corners, joined corner by corner.

    Args:
        lower: Corners, (n, 3).
        upper: Corners, (n, 3).

    Returns:
        The mesh, with outward normals for either direction of the polygons.

    Example:
        >>> triangle = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> round(prism(triangle, triangle + [0, 0, 2]).volume(), 12)
        1.0
    """
    bottom, top = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    n = len(bottom)
    i = np.arange(n)
    j = (i + 1) % n
    fan = np.arange(1, n - 1)
    first = np.zeros_like(fan)
    faces = np.concatenate(
        [
            np.stack([i, j, n + j], 1),
            np.stack([i, n + j, n + i], 1),
            np.stack([first, fan + 1, fan], 1),
            np.stack([first + n, fan + n, fan + n + 1], 1),
        ]
    )
    mesh = Mesh(np.concatenate([bottom, top]), faces)
    return mesh if mesh.volume() >= 0 else Mesh(mesh.vertices, faces[:, ::-1].copy())


def box(low: ArrayLike, high: ArrayLike) -> Mesh:
    """A box between two corners.

    Example:
        >>> box((0, 0, 0), (1, 2, 3)).volume()
        6.0
    """
    (x0, y0, z0), (x1, y1, z1) = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    base = np.array([[x0, y0, z0], [x1, y0, z0], [x1, y1, z0], [x0, y1, z0]])
    return prism(base, base + np.array([0.0, 0.0, z1 - z0]))


def frustum(
    low: ArrayLike, high: ArrayLike, radii: tuple[float, float], *, segments: int = 14, start: float = 0.0
) -> Mesh:
    """A cylinder or cone between two horizontal circles.

    Args:
        low: Center of the lower circle, (3,).
        high: Center of the upper circle, (3,).
        radii: Radii of the lower and the upper circle.
        segments: Corners of a circle; 4 makes square posts.
        start: Angle of the first corner (radian).

    Example:
        >>> round(frustum((0, 0, 0), (0, 0, 1), (1, 1), segments=4).volume(), 12)
        2.0
    """
    angle = start + 2 * np.pi * np.arange(segments) / segments
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(segments)], 1)
    return prism(np.asarray(low) + radii[0] * circle, np.asarray(high) + radii[1] * circle)


def vessel(heights: tuple[float, float], radii: tuple[float, float], wall: float, *, segments: int = 14) -> Mesh:
    """The wall of a hollow frustum about z, without floor and lid.

    Args:
        heights: Heights of the lower and the upper rim.
        radii: Outer radii of the lower and the upper rim.
        wall: Thickness.
        segments: Number of flat pieces.

    Example:
        >>> vessel((0.0, 1.0), (0.5, 0.8), 0.1).volume() > 0
        True
    """
    angles = 2 * np.pi * np.arange(segments + 1) / segments
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    pieces = []
    for a, b in pairwise(directions):
        rims = [
            np.array([[*(r * a), z], [*(r * b), z], [*((r - wall) * b), z], [*((r - wall) * a), z]])
            for r, z in zip(radii, heights, strict=True)
        ]
        pieces.append(prism(*rims))
    return join(pieces)


def half_ring(height: float, radii: tuple[float, float], depth: float, *, segments: int = 10) -> Mesh:
    """The upper half of a ring that stands in the plane of x and z.

    Args:
        height: Height of its center.
        radii: Inner and outer radius.
        depth: Extent along y.
        segments: Number of flat pieces.

    Example:
        >>> half_ring(0.0, (0.5, 1.0), 0.2).volume() > 0
        True
    """
    angles = np.pi * np.arange(segments + 1) / segments
    directions = np.stack([np.cos(angles), np.zeros(segments + 1), np.sin(angles)], 1)
    center, half = np.array([0.0, 0.0, height]), np.array([0.0, depth / 2, 0.0])
    pieces = []
    for a, b in pairwise(directions):
        side = center + np.stack([radii[0] * a, radii[1] * a, radii[1] * b, radii[0] * b])
        pieces.append(prism(side - half, side + half))
    return join(pieces)
