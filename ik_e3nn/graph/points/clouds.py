"""Neighbors and downsampling of point clouds, batched, through torch-cluster."""

import torch
from torch import Tensor

from ik_e3nn.optional import needed


def nearest_edges(
    positions: Tensor,
    batch: Tensor,
    k: int,
    *,
    receivers: Tensor | None = None,
    max_distance: float | None = None,
) -> Tensor:
    """Edges to some points from the k nearest points of the same cloud, the point itself among them.

    Args:
        positions: Points of all clouds, (N, 3).
        batch: Cloud of every point, (N,), ascending.
        k: Number of neighbors; a cloud of fewer points gives all it has.
        receivers: Points that receive, indices (M,) in ascending order; all points if absent.
        max_distance: Leave out those farther away: a radius graph with at most k neighbors, the nearest ones.

    Returns:
        edge_index (2, E): senders among the N points, and receivers counted from 0 to M-1; sorted by receiver.

    Raises:
        MissingDependencyError: torch-cluster is not installed.
        ValueError: Shapes do not fit, positions are not finite, the batch is not ascending, or k or the distance is
            not positive.

    Example:
        >>> positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]])
        >>> nearest_edges(positions, torch.zeros(3, dtype=torch.long), 2, receivers=torch.tensor([1])).tolist()
        [[1, 0], [0, 0]]
    """
    check_cloud(positions, batch)
    if k < 1:
        raise ValueError(f"the number of neighbors must be at least 1; got {k}")
    if max_distance is not None and not max_distance > 0:
        raise ValueError(f"max_distance must be positive; got {max_distance}")
    points = positions.detach()
    centers, owners = (points, batch) if receivers is None else (points[receivers], batch[receivers])
    receiver, sender = needed("torch_cluster").knn(points, centers, k, batch, owners)
    if max_distance is not None:
        # torch-cluster's own radius graph picks any k where there are more: the result would depend on the order
        near = (points[sender] - centers[receiver]).norm(dim=1) <= max_distance
        receiver, sender = receiver[near], sender[near]
    return torch.stack([sender, receiver])


def radius_edges(
    positions: Tensor, batch: Tensor, radius: float, *, receivers: Tensor | None = None, max_neighbors: int = 32
) -> Tensor:
    """Edges to some points from all points of the same cloud within a radius, at most so many: the nearest.

    Args:
        positions: Points of all clouds, (N, 3).
        batch: Cloud of every point, (N,), ascending.
        radius: In the unit of the positions.
        receivers: Points that receive, indices (M,) in ascending order; all points if absent.
        max_neighbors: Limit of edges to a point, the point itself counted.

    Returns:
        edge_index (2, E), see ``nearest_edges``.

    Raises:
        MissingDependencyError: torch-cluster is not installed.
        ValueError: Shapes do not fit, or a number is not positive.

    Example:
        >>> radius_edges(torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]]), torch.zeros(3, dtype=torch.long), 2.0).shape
        torch.Size([2, 5])
    """
    return nearest_edges(positions, batch, max_neighbors, receivers=receivers, max_distance=radius)


def farthest_points(positions: Tensor, batch: Tensor, count: int) -> Tensor:
    """Some points of every cloud, each as far as can be from those before it.

    The first one is the farthest from the cloud's centroid, so that the choice depends neither on the order of the
    points nor on how the cloud is turned, unless distances are equal: see ``Pyramid``.

    Args:
        positions: Points of all clouds, (N, 3).
        batch: Cloud of every point, (N,), ascending.
        count: Number of points; a cloud of fewer gives all it has.

    Returns:
        Indices, ascending.

    Raises:
        MissingDependencyError: torch-cluster is not installed.
        ValueError: Shapes do not fit, or the count is not positive.

    Reference:
        Qi et al., PointNet++, NeurIPS 2017, section 3.2.

    Example:
        >>> farthest_points(torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]]), torch.zeros(3, dtype=torch.long), 2)
        tensor([0, 2])
    """
    check_cloud(positions, batch)
    _check_count(count)
    cluster = needed("torch_cluster")
    if not len(batch):
        return batch.clone()
    clouds, batch = torch.unique_consecutive(batch, return_inverse=True)  # torch-cluster takes no empty clouds
    sizes = torch.bincount(batch, minlength=len(clouds))
    if int(sizes.max()) <= count:
        return torch.arange(len(batch), device=batch.device)
    points = positions.detach()
    centroids = points.new_zeros(len(clouds), 3).index_add_(0, batch, points) / sizes[:, None]
    order = torch.argsort((points - centroids[batch]).norm(dim=1), descending=True, stable=True)
    order = order[torch.argsort(batch[order], stable=True)]
    # it rounds ratio times size up
    ratio = ((sizes.clamp(max=count) - 0.5) / sizes).to(points.dtype)
    ends = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    chosen: Tensor = order[cluster.fps(points[order], ratio=ratio, random_start=False, ptr=ends)]
    return chosen.sort().values


def random_points(batch: Tensor, count: int, *, seed: int | None = None) -> Tensor:
    """Some points of every cloud, chosen at random.

    Args:
        batch: Cloud of every point, (N,), ascending.
        count: Number of points; a cloud of fewer gives all it has.
        seed: With it, the choice depends on a point's place in its cloud alone, and a cloud is treated alike alone and
            among others; without, torch's generator gives another choice each time.

    Returns:
        Indices, ascending.

    Raises:
        ValueError: The count is not positive.

    Example:
        >>> random_points(torch.tensor([0, 0, 0, 0, 1]), 2, seed=0).shape
        torch.Size([3])
    """
    _check_count(count)
    if not len(batch):
        return batch.clone()
    place = torch.arange(len(batch), device=batch.device) - torch.searchsorted(batch, batch)
    if seed is None:
        keys = torch.rand(len(batch), device=batch.device)
    else:
        generator = torch.Generator().manual_seed(seed)
        keys = torch.rand(int(place.max()) + 1, generator=generator, dtype=torch.float64).to(batch.device)[place]
    order = torch.argsort(keys)
    order = order[torch.argsort(batch[order], stable=True)]
    return order[place < count].sort().values


def check_cloud(positions: Tensor, batch: Tensor) -> None:
    """Raise ValueError unless positions (N, 3) and an ascending batch (N,) belong together.

    Positions that are not finite are refused here, since trees of neighbors end the process on them.
    """
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions of point clouds must have shape (N, 3); got {tuple(positions.shape)}")
    if batch.shape != positions.shape[:1]:
        raise ValueError(
            f"batch must name the cloud of each of the {len(positions)} points; got shape {tuple(batch.shape)}"
        )
    if batch.dtype != torch.long or bool((batch[:1] < 0).any()) or bool((batch[1:] < batch[:-1]).any()):
        raise ValueError(
            "batch must be ascending numbers of clouds from 0 on, int64: the points of a cloud one after the other"
        )
    finite = torch.isfinite(positions).all(1)
    if not bool(finite.all()):
        raise ValueError(f"positions of point clouds must be finite; point {int(finite.int().argmin())} is not")


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"the number of points to keep must be at least 1; got {count}")
