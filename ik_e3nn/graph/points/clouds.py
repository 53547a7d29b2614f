"""Neighbors and downsampling of batched point clouds, by torch-cluster."""

import torch
from torch import Tensor

from ik_e3nn.optional import needed


def nearest_edges(
    positions: Tensor, batch: Tensor, k: int, *, receivers: Tensor | None = None, max_distance: float | None = None
) -> Tensor:
    """Edges from the k nearest points of the same cloud to each receiver, including the receiver itself.

    Args:
        positions: Points of all clouds, (N, 3).
        batch: Cloud of every point, (N,), ascending.
        k: Number of neighbors; in a cloud with fewer points, all points.
        receivers: Indices of the receivers, (M,), ascending; by default all points.
        max_distance: Leave out neighbors at a larger distance, which gives a radius graph with at most the k nearest.

    Returns:
        edge_index (2, E): senders among the N points, and receivers counted from 0 to M-1; sorted by receiver.

    Raises:
        MissingDependencyError: torch-cluster is not installed.
        ValueError: The shapes do not fit together, positions are not finite, the batch is not ascending, or k or the
            distance is not positive.

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
        # torch-cluster's own radius graph picks any k of more neighbors, so that it depends on the order of points
        near = (points[sender] - centers[receiver]).norm(dim=1) <= max_distance
        receiver, sender = receiver[near], sender[near]
    return torch.stack([sender, receiver])


def radius_edges(
    positions: Tensor, batch: Tensor, radius: float, *, receivers: Tensor | None = None, max_neighbors: int = 32
) -> Tensor:
    """Edges from the nearest points of the same cloud within a radius to each receiver, including the receiver itself.

    Args:
        positions: Points of all clouds, (N, 3).
        batch: Cloud of every point, (N,), ascending.
        radius: Radius in the unit of the positions.
        receivers: Indices of the receivers, (M,), ascending; by default all points.
        max_neighbors: Largest number of edges to a receiver, including the receiver itself.

    Returns:
        edge_index (2, E); see ``nearest_edges``.

    Raises:
        MissingDependencyError: torch-cluster is not installed.
        ValueError: The shapes do not fit together, or a number is not positive.

    Example:
        >>> radius_edges(torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]]), torch.zeros(3, dtype=torch.long), 2.0).shape
        torch.Size([2, 5])
    """
    return nearest_edges(positions, batch, max_neighbors, receivers=receivers, max_distance=radius)


def farthest_points(positions: Tensor, batch: Tensor, count: int) -> Tensor:
    """Choose points of every cloud, each as far as possible from the points before it.

    The first point is the farthest from the centroid of the cloud, so that the choice depends neither on the order of
    the points nor on the orientation of the cloud, unless distances are equal: see ``Pyramid``.

    Args:
        positions: Points of all clouds, (N, 3).
        batch: Cloud of every point, (N,), ascending.
        count: Number of points per cloud; in a cloud with fewer points, all points.

    Returns:
        Indices of the points, ascending.

    Raises:
        MissingDependencyError: torch-cluster is not installed.
        ValueError: The shapes do not fit together, or the count is not positive.

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
    clouds, batch = torch.unique_consecutive(batch, return_inverse=True)  # torch-cluster does not accept empty clouds
    sizes = torch.bincount(batch, minlength=len(clouds))
    if int(sizes.max()) <= count:
        return torch.arange(len(batch), device=batch.device)
    points = positions.detach()
    centroids = points.new_zeros(len(clouds), 3).index_add_(0, batch, points) / sizes[:, None]
    order = torch.argsort((points - centroids[batch]).norm(dim=1), descending=True, stable=True)
    order = order[torch.argsort(batch[order], stable=True)]
    # torch-cluster rounds ratio times size up
    ratio = ((sizes.clamp(max=count) - 0.5) / sizes).to(points.dtype)
    ends = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    chosen: Tensor = order[cluster.fps(points[order], ratio=ratio, random_start=False, ptr=ends)]
    return chosen.sort().values


def random_points(batch: Tensor, count: int, *, seed: int | None = None) -> Tensor:
    """Choose points of every cloud at random.

    Args:
        batch: Cloud of every point, (N,), ascending.
        count: Number of points per cloud; in a cloud with fewer points, all points.
        seed: With a seed, the choice depends only on the index of a point in its cloud, so that it is the same for a
            cloud alone and in a batch. Without a seed, torch's generator gives another choice in each call.

    Returns:
        Indices of the points, ascending.

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
    """Raise ValueError unless positions (N, 3) are finite and fit an ascending batch (N,).

    Positions that are not finite would crash the neighbor search, which ends the process.
    """
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions of point clouds must have shape (N, 3); got {tuple(positions.shape)}")
    if batch.shape != positions.shape[:1]:
        raise ValueError(
            f"batch must give the cloud of each of the {len(positions)} points; got shape {tuple(batch.shape)}"
        )
    if batch.dtype != torch.long or bool((batch[:1] < 0).any()) or bool((batch[1:] < batch[:-1]).any()):
        raise ValueError(
            "batch must be int64 numbers of clouds, ascending from 0, with the points of a cloud one after the other"
        )
    finite = torch.isfinite(positions).all(1)
    if not bool(finite.all()):
        raise ValueError(f"positions of point clouds must be finite; point {int(finite.int().argmin())} is not")


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"the number of points to keep must be at least 1; got {count}")
