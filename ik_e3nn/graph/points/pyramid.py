"""Levels of a point cloud from fine to coarse, with edges from each level to the next."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from ik_e3nn.graph.points.clouds import check_cloud, farthest_points, nearest_edges, random_points


class Level(NamedTuple):
    """A level of a point cloud, and the edges that lead to it from the level before.

    Attributes:
        kept: Indices of the points of this level among the points of the level before, (M,), ascending.
        edge_index: Senders among the points of the level before, and receivers among those of this level, (2, E).
        vectors: Vectors from sender to receiver, (E, 3).
        batch: Cloud of every point of this level, (M,).
    """

    kept: Tensor
    edge_index: Tensor
    vectors: Tensor
    batch: Tensor


@dataclass(frozen=True)
class Pyramid:
    """Settings for downsampling point clouds and for choosing neighbors; needs torch-cluster.

    Neighbors and farthest points are chosen by distance. The choice does not change when a cloud is rotated, unless
    distances are equal, because then rounding decides. For the points of a regular grid on a cube, scores of a new
    ``PointCloudClassifier`` change by 3 % of their spread with "random" and by 15 % with "farthest" sampling. Add noise
    to such points.

    Args:
        points: Number of points of a cloud in each level. A cloud with fewer points keeps all.
        neighbors: Number of nearest points, including itself, from which each point of a level receives.
        sampling: "random", as in the paper, or "farthest", which is slower and independent of the order of the points.
        seed: Seed of random sampling that is the same in every call.

    Raises:
        ValueError: The numbers of points increase or are not positive, or the sampling is unknown.

    Example:
        >>> import torch
        >>> levels = Pyramid((64, 16, 4), neighbors=8).levels(torch.randn(100, 3), torch.zeros(100, dtype=torch.long))
        >>> [level.edge_index.shape[1] for level in levels[1:]]
        [128, 32]
    """

    points: tuple[int, ...] = (1024, 512, 256, 128, 64, 32, 16)
    neighbors: int = 10
    sampling: Literal["random", "farthest"] = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        falling = all(after <= before for before, after in zip(self.points, self.points[1:], strict=False))
        if len(self.points) < 2 or not falling or self.points[-1] < 1:
            raise ValueError(
                "points of a pyramid must be two or more positive numbers, none larger than the one before; got "
                f"{self.points}"
            )
        if self.neighbors < 1:
            raise ValueError(f"neighbors of a pyramid must be at least 1; got {self.neighbors}")
        if self.sampling not in ("random", "farthest"):
            raise ValueError(f"sampling must be 'random' or 'farthest'; got {self.sampling!r}")

    def levels(self, positions: Tensor, batch: Tensor, *, fresh: bool = False) -> list[Level]:
        """All levels of a batch of clouds; the first level only drops points and has no edges.

        Args:
            positions: Points of all clouds, (N, 3).
            batch: Cloud of every point, (N,), ascending.
            fresh: Draw random samples from torch's generator instead of the seed, as in training.

        Raises:
            MissingDependencyError: torch-cluster is not installed.
            ValueError: The shapes do not fit together.
        """
        check_cloud(positions, batch)
        levels = []
        for index, count in enumerate(self.points):
            kept = self._sample(positions, batch, count, None if fresh else self.seed + index)
            if index:
                edge_index = nearest_edges(positions, batch, self.neighbors, receivers=kept)
            else:
                edge_index = kept.new_zeros(2, 0)
            sender, receiver = edge_index[0], kept[edge_index[1]]
            vectors = positions.index_select(0, receiver) - positions.index_select(0, sender)
            positions, batch = positions[kept], batch[kept]
            levels.append(Level(kept, edge_index, vectors, batch))
        return levels

    def reach(self, level: int) -> float:
        r"""Approximate distance of the neighbors of a level, for clouds on the surface of a solid in the unit ball.

        .. math:: \pi r^2 \, n / A = k, \qquad A \approx 2\pi
        """
        return float((2 * self.neighbors / self.points[level - 1]) ** 0.5)

    def _sample(self, positions: Tensor, batch: Tensor, count: int, seed: int | None) -> Tensor:
        if self.sampling == "farthest":
            return farthest_points(positions, batch, count)
        return random_points(batch, count, seed=seed)
