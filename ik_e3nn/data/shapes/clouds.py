"""Point clouds with normals as PyG objects: sampled from meshes, normalized, disturbed and rotated."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import SamplePoints

from ik_e3nn.data.shapes.solids import Mesh
from ik_e3nn.errors import DataError
from ik_e3nn.symmetry import SymmetryGroup


def point_cloud(positions: Tensor | ArrayLike, normals: Tensor | ArrayLike, label: int) -> Data:
    """A labeled cloud, centered at its centroid and scaled to radius 1.

    Args:
        positions: (P, 3).
        normals: (P, 3), of any length; zero vectors stay zero.
        label: Class.

    Returns:
        A ``Data`` with ``pos`` and ``normal`` (P, 3), float32, and ``y`` (1,).

    Raises:
        DataError: Shapes do not match, or numbers are not finite.

    Example:
        >>> point_cloud([[0.0, 0, 0], [0, 0, 4]], [[0, 0, -1], [0, 0, 1]], 3).pos.tolist()
        [[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]
    """
    x, n = (torch.as_tensor(array, dtype=torch.float64) for array in (positions, normals))
    if x.ndim != 2 or x.shape[1] != 3 or n.shape != x.shape:
        raise DataError(
            f"a point cloud needs positions and normals of shape (P, 3); got {tuple(x.shape)} and {tuple(n.shape)}"
        )
    if not (torch.isfinite(x).all() and torch.isfinite(n).all()):
        raise DataError("a point cloud holds numbers that are not finite")
    return Data(
        pos=unit_ball(x).float(), normal=torch.nn.functional.normalize(n, dim=1).float(), y=torch.tensor([label])
    )


def unit_ball(positions: Tensor) -> Tensor:
    """Positions (P, 3) relative to their centroid, in units of the largest distance from it.

    Example:
        >>> unit_ball(torch.tensor([[1.0, 1.0, 1.0]])).tolist()
        [[0.0, 0.0, 0.0]]
    """
    if not len(positions):
        return positions
    centered = positions - positions.mean(0)
    radius = centered.norm(dim=1).max()
    return centered / torch.where(radius > 0, radius, 1.0)


def mesh_cloud(mesh: Mesh, points: int, label: int, *, seed: int) -> Data:
    """Points sampled evenly over a surface, with the normals of its faces.

    Args:
        mesh: The surface.
        points: Number of points.
        label: Class.
        seed: Seed of the sampling; torch's global generator is not changed.

    Returns:
        See ``point_cloud``.

    Raises:
        DataError: The area of the surface is zero or not finite, or a face names a vertex that does not exist.
        ValueError: ``points`` is less than 1.

    Example:
        >>> from ik_e3nn.data.shapes.solids import box
        >>> mesh_cloud(box((0, 0, 0), (1, 1, 1)), 50, 0, seed=0).normal.abs().sum(1).unique().tolist()
        [1.0]
    """
    if points < 1:
        raise ValueError(f"the number of points of a cloud must be at least 1; got {points}")
    vertices = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float64).reshape(-1, 3)
    faces = torch.tensor(np.asarray(mesh.faces), dtype=torch.int64).reshape(-1, 3)
    if len(faces) and not 0 <= int(faces.min()) <= int(faces.max()) < len(vertices):
        raise DataError(f"a face names vertex {int(faces.max())}, but the mesh has {len(vertices)} (counted from 0)")
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum())
    if not 0 < area < float("inf"):
        raise DataError(f"points cannot be sampled on a mesh whose area is {area:g}; it has {len(faces)} faces")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        sampled = SamplePoints(points, include_normals=True)(Data(pos=vertices, face=faces.T))
    return point_cloud(sampled.pos, sampled.normal, label)


def disturbed(cloud: Data, *, noise: float, dropout: float, rng: np.random.Generator) -> Data:
    """A cloud with shifted points, some of which are left out; normals are not changed.

    Args:
        cloud: The cloud; it is only read.
        noise: Standard deviation of the shifts.
        dropout: Largest fraction of points left out; the fraction is uniform, and at least one point is kept.
        rng: Source of randomness.

    Raises:
        ValueError: A number is out of range.
    """
    if not noise >= 0 or not 0 <= dropout <= 1:
        raise ValueError(f"noise must not be negative and dropout from 0 to 1; got {noise} and {dropout}")
    size = len(cloud.pos)
    left = max(size - round(size * float(rng.uniform(0, dropout))), min(size, 1))
    kept = torch.from_numpy(np.sort(rng.permutation(size)[:left]))
    shifts = torch.from_numpy(noise * rng.standard_normal((left, 3))).to(cloud.pos.dtype)
    return Data(pos=unit_ball(cloud.pos[kept] + shifts), normal=cloud.normal[kept], y=cloud.y)


def turned(clouds: Sequence[Data], group: SymmetryGroup | str, *, seed: int) -> list[Data]:
    """Every cloud under its own random element of a group, which acts on the normals, too.

    Args:
        clouds: The clouds; they are only read.
        group: The group, or its name: "SO2" rotates about z, "SO3" about any axis, "C1" not at all.
        seed: Seed of the random elements.

    Example:
        >>> cloud = point_cloud([[0.0, 0, 0], [0, 0, 4]], [[0, 0, -1], [0, 0, 1]], 3)
        >>> turned([cloud], "SO2", seed=0)[0].pos.tolist()
        [[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]
    """
    generator = torch.Generator().manual_seed(seed)
    elements = SymmetryGroup.from_config(group).random_elements(len(clouds), generator)
    return [
        Data(pos=cloud.pos @ g.T.to(cloud.pos), normal=cloud.normal @ g.T.to(cloud.normal), y=cloud.y)
        for cloud, g in zip(clouds, elements, strict=True)
    ]
