"""Procedural furniture: labeled solids; some classes are other classes laid down or turned upside down."""

from collections.abc import Callable

import numpy as np
from torch_geometric.data import Data
from tqdm import tqdm

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.shapes.clouds import disturbed, mesh_cloud, turned
from ik_e3nn.data.shapes.solids import Mesh, box, frustum, half_ring, join, vessel
from ik_e3nn.symmetry import SymmetryGroup

Random = np.random.Generator
STRETCH = 0.25  # largest logarithm of the factor by which each axis of a solid is stretched

OVER = np.diag([1.0, -1.0, -1.0])  # upside down
DOWN = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # laid down: what was up is now along x


def _posts(x: float, y: float, height: float, side: float) -> list[Mesh]:
    """Four square posts from the floor, centered at (+-x, +-y)."""
    return [
        box((sx * x - side / 2, sy * y - side / 2, 0), (sx * x + side / 2, sy * y + side / 2, height))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]


def _table(rng: Random) -> list[Mesh]:
    x, y, h, top, side = rng.uniform((0.4, 0.3, 0.5, 0.04, 0.05), (0.7, 0.6, 1.0, 0.12, 0.12))
    return [box((-x, -y, h - top), (x, y, h)), *_posts(x - side, y - side, h - top, side)]


def _desk(rng: Random) -> list[Mesh]:
    x, y, h, top, block = rng.uniform((0.5, 0.3, 0.6, 0.04, 0.25), (0.7, 0.5, 0.9, 0.1, 0.45))
    legs = [box((-x, s * y - 0.04, 0), (-x + 0.08, s * y + 0.04, h - top)) for s in (-0.85, 0.85)]
    return [box((-x, -y, h - top), (x, y, h)), box((x - block, -y, 0.05), (x, y, h - top)), *legs]


def _chair(rng: Random) -> list[Mesh]:
    x, y, seat, back, side = rng.uniform((0.25, 0.25, 0.4, 0.35, 0.04), (0.4, 0.4, 0.6, 0.8, 0.08))
    rest = box((-x, y - side, seat), (x, y, seat + back))
    return [box((-x, -y, seat - 0.06), (x, y, seat)), rest, *_posts(x - side, y - side, seat - 0.06, side)]


def _stool(rng: Random) -> list[Mesh]:
    r, h, thick, splay = rng.uniform((0.25, 0.4, 0.05, 0.7), (0.45, 0.9, 0.14, 1.2))
    legs, first = rng.integers(3, 6), rng.uniform(0, 2 * np.pi)
    parts = [frustum((0, 0, h - thick), (0, 0, h), (r, r))]
    for angle in first + 2 * np.pi * np.arange(legs) / legs:
        direction = np.array([np.cos(angle), np.sin(angle), 0])
        low, high = splay * r * direction, 0.6 * r * direction + [0, 0, h - thick]
        parts.append(frustum(low, high, (0.04, 0.04), segments=6))
    return parts


def _sofa(rng: Random) -> list[Mesh]:
    x, y, seat, back, arm = rng.uniform((0.5, 0.3, 0.25, 0.2, 0.08), (0.9, 0.5, 0.45, 0.5, 0.2))
    arms = [box((s * x - arm / 2, -y, 0), (s * x + arm / 2, y, seat + 0.5 * back)) for s in (-1, 1)]
    return [box((-x, -y, 0.05), (x, y, seat)), box((-x, y - 0.15, seat), (x, y, seat + back)), *arms]


def _shelf(rng: Random) -> list[Mesh]:
    x, y, board = rng.uniform((0.4, 0.12, 0.03), (0.6, 0.3, 0.07))
    h, boards = 2 * x * np.exp(rng.uniform(-0.3, 0.3)), rng.integers(3, 6)
    sides = [box((s * x - board / 2, -y, 0), (s * x + board / 2, y, h)) for s in (-1, 1)]
    return [*sides, *(box((-x, -y, z - board / 2), (x, y, z + board / 2)) for z in np.linspace(0, h, boards))]


def _lamp(rng: Random) -> list[Mesh]:
    base, shade, h, drop, narrow = rng.uniform((0.15, 0.2, 0.7, 0.2, 0.3), (0.3, 0.4, 1.3, 0.45, 0.8))
    foot = frustum((0, 0, 0), (0, 0, 0.06), (base, base))
    pole = frustum((0, 0, 0.06), (0, 0, h), (0.03, 0.03), segments=8)
    return [foot, pole, vessel((h - drop, h), (shade, narrow * shade), 0.03)]


def _stairs(rng: Random) -> list[Mesh]:
    steps, width, run, rise = rng.integers(3, 7), *rng.uniform((0.3, 0.6, 0.5), (0.8, 1.2, 1.1))
    return [
        box((run * k / steps, -width / 2, 0), (run * (k + 1) / steps, width / 2, rise * (k + 1) / steps))
        for k in range(steps)
    ]


def _arch(rng: Random) -> list[Mesh]:
    inner, thick, h, depth = rng.uniform((0.25, 0.12, 0.2, 0.2), (0.5, 0.3, 0.9, 0.6))
    pillars = [
        box((min(a, b), -depth / 2, 0), (max(a, b), depth / 2, h))
        for a, b in ((inner, inner + thick), (-inner, -inner - thick))
    ]
    return [half_ring(h, (inner, inner + thick), depth), *pillars]


def _vase(rng: Random) -> list[Mesh]:
    r, h, widening = rng.uniform((0.2, 0.5, 1.3), (0.4, 1.1, 2.2))
    return [frustum((0, 0, 0), (0, 0, 0.05), (r, r)), vessel((0.0, h), (r, widening * r), 0.04)]


def _column(rng: Random) -> list[Mesh]:
    r, plinth, h, thick = rng.uniform((0.12, 1.2, 0.8, 0.06), (0.3, 1.7, 1.6, 0.2))
    plates = [box((-plinth * r, -plinth * r, z), (plinth * r, plinth * r, z + thick)) for z in (0.0, h - thick)]
    return [frustum((0, 0, thick), (0, 0, h - thick), (r, r)), *plates]


SOLIDS: dict[str, tuple[Callable[[Random], list[Mesh]], FloatArray]] = {
    "table": (_table, np.eye(3)),
    "overturned table": (_table, OVER),
    "desk": (_desk, np.eye(3)),
    "chair": (_chair, np.eye(3)),
    "stool": (_stool, np.eye(3)),
    "sofa": (_sofa, np.eye(3)),
    "shelf": (_shelf, np.eye(3)),
    "rack": (_shelf, DOWN),
    "lamp": (_lamp, np.eye(3)),
    "stairs": (_stairs, np.eye(3)),
    "arch": (_arch, np.eye(3)),
    "cradle": (_arch, OVER),
    "vase": (_vase, np.eye(3)),
    "bell": (_vase, OVER),
    "column": (_column, np.eye(3)),
    "bolster": (_column, DOWN),
}
FURNITURE = tuple(SOLIDS)


def furniture_mesh(name: str, rng: Random) -> Mesh:
    """A solid of a class with random dimensions; z is up.

    Args:
        name: One of ``FURNITURE``.
        rng: Source of randomness. Classes that differ only in orientation get the same solid from the same state.

    Raises:
        ValueError: The class is unknown.

    Example:
        >>> furniture_mesh("table", np.random.default_rng(0)).volume() > 0
        True
    """
    if name not in SOLIDS:
        raise ValueError(f"unknown class of furniture {name!r}: expected one of {', '.join(FURNITURE)}")
    make, orientation = SOLIDS[name]
    solid = join(make(rng)).mapped(np.diag(np.exp(rng.uniform(-STRETCH, STRETCH, 3))))
    return solid.mapped(orientation)


def furniture_clouds(
    count: int,
    *,
    seed: int,
    points: int = 256,
    noise: float = 0.01,
    dropout: float = 0.2,
    rotation: SymmetryGroup | str = "C1",
    progress: bool = False,
) -> list[Data]:
    """Point clouds of procedural furniture, which cycle through the classes.

    Five classes are the solids of another class, with the same random dimensions, turned upside down ("overturned
    table", "cradle", "bell") or laid down ("rack", "bolster"): only a model that knows which way is up can distinguish
    them.

    Args:
        count: Number of clouds.
        seed: The same seed gives the same clouds.
        points: Points of a cloud, sampled evenly over the surface.
        noise: Standard deviation of a shift of every point, for clouds of radius 1.
        dropout: Largest fraction of points that are left out; the fraction is uniform.
        rotation: Group of random rotations of the clouds: "C1" for none, "SO2" about z, "SO3" about any axis.
        progress: Show a progress bar.

    Returns:
        One ``Data`` for each cloud: ``pos`` and ``normal`` (P, 3), float32; ``y`` (1,), the place in ``FURNITURE``.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> clouds = furniture_clouds(3, seed=0, points=100, dropout=0.0)
        >>> [FURNITURE[int(cloud.y)] for cloud in clouds], clouds[0].pos.shape
        (['table', 'overturned table', 'desk'], torch.Size([100, 3]))
    """
    if count < 0 or points < 1:
        raise ValueError(f"count must not be negative and points at least 1; got {count} and {points}")
    clouds = []
    for index in tqdm(range(count), desc="furniture", unit="cloud", disable=not progress):
        rng = np.random.default_rng([seed, index])
        label = index % len(FURNITURE)
        cloud = mesh_cloud(furniture_mesh(FURNITURE[label], rng), points, label, seed=int(rng.integers(2**31)))
        clouds.append(disturbed(cloud, noise=noise, dropout=dropout, rng=rng))
    return turned(clouds, rotation, seed=seed)
