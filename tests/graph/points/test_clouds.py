"""Neighbors and samples of point clouds, against brute force."""

import sys
from importlib.util import find_spec

import pytest
import torch

from ik_e3nn.errors import MissingDependencyError
from ik_e3nn.graph import Pyramid, farthest_points, nearest_edges, radius_edges, random_points

needs_cluster = pytest.mark.skipif(find_spec("torch_cluster") is None, reason="torch-cluster is not installed")
SIZES = [7, 1, 30, 0, 12]


def clouds(dtype=torch.float64, sizes=SIZES):
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64).to(dtype)
    return positions, torch.repeat_interleave(torch.tensor(sizes))


def brute_force(positions, batch, receivers, k, max_distance=torch.inf):
    """Pairs (sender, receiver) by sorting all distances."""
    pairs = set()
    for place, i in enumerate(receivers.tolist()):
        same = torch.where(batch == batch[i])[0]
        distance = (positions[same] - positions[i]).norm(dim=1)
        order = distance.argsort()[:k]
        pairs |= {(int(same[j]), place) for j in order if distance[j] <= max_distance}
    return pairs


@needs_cluster
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_nearest_neighbors_are_those_of_brute_force(dtype, k):
    positions, batch = clouds(dtype)
    receivers = torch.arange(0, len(batch), 3)
    edges = nearest_edges(positions, batch, k, receivers=receivers)
    assert {tuple(e) for e in edges.T.tolist()} == brute_force(positions, batch, receivers, k)
    assert (edges[1].diff() >= 0).all()
    assert edges.shape[1] == sum(min(k, SIZES[int(batch[i])]) for i in receivers)


@needs_cluster
@pytest.mark.parametrize("most", [3, 100])
def test_radius_graphs_are_those_of_brute_force(most):
    positions, batch = clouds()
    edges = radius_edges(positions, batch, 1.2, max_neighbors=most)
    expected = brute_force(positions, batch, torch.arange(len(batch)), most, 1.2)
    assert {tuple(e) for e in edges.T.tolist()} == expected
    assert len(expected) > len(batch)


@needs_cluster
def test_farthest_points_are_those_of_the_definition():
    positions, batch = clouds()
    chosen = farthest_points(positions, batch, 5)
    for cloud, size in enumerate(SIZES):
        own = torch.where(batch == cloud)[0]
        x = positions[own]
        picked = [int((x - x.mean(0)).norm(dim=1).argmax())] if size else []
        while len(picked) < min(5, size):
            picked.append(int(torch.cdist(x, x[picked]).min(1).values.argmax()))
        assert sorted(own[picked].tolist()) == chosen[batch[chosen] == cloud].tolist()


@needs_cluster
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_farthest_points_do_not_depend_on_order_or_orientation(dtype):
    positions, batch = clouds(dtype, [40])
    chosen = positions[farthest_points(positions, batch, 9)]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    again = positions[order][farthest_points(positions[order], batch, 9)]
    assert {tuple(x) for x in chosen.tolist()} == {tuple(x) for x in again.tolist()}
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q.to(dtype)
    assert torch.equal(farthest_points(positions @ turn.T + 3.0, batch, 9), farthest_points(positions, batch, 9))


def test_random_points_are_as_many_as_asked_and_a_seed_treats_clouds_alike():
    _, batch = clouds()
    chosen = random_points(batch, 5, seed=3)
    assert torch.bincount(batch[chosen], minlength=5).tolist() == [min(5, n) for n in SIZES]
    assert (chosen.diff() > 0).all()
    third = chosen[batch[chosen] == 2] - sum(SIZES[:2])
    assert torch.equal(third, random_points(torch.zeros(30, dtype=torch.long), 5, seed=3))
    assert not torch.equal(random_points(batch, 5, seed=4), chosen)


def test_random_points_without_a_seed_are_new_each_time_and_every_point_has_its_turn():
    batch = torch.zeros(10, dtype=torch.long)
    counts = torch.stack([torch.bincount(random_points(batch, 5), minlength=10) for _ in range(400)]).sum(0)
    assert ((counts > 140) & (counts < 260)).all()  # 200 +- 10, six sigma


@needs_cluster
def test_levels_lead_from_each_set_of_points_to_the_next():
    positions, batch = clouds()
    pyramid = Pyramid((20, 8, 3), neighbors=4, sampling="farthest")
    first, second, third = pyramid.levels(positions, batch)
    assert first.edge_index.shape == (2, 0)
    points = positions[first.kept]
    for level in (second, third):
        kept = points[level.kept]
        expected = kept[level.edge_index[1]] - points[level.edge_index[0]]
        torch.testing.assert_close(level.vectors, expected, atol=0, rtol=0)
        assert (level.edge_index[1].bincount(minlength=len(kept)) >= 1).all()  # each at least from itself
        points = kept
    assert torch.bincount(third.batch, minlength=5).tolist() == [3, 1, 3, 0, 3]
    assert pyramid.reach(1) == pytest.approx((8 / 20) ** 0.5)


@needs_cluster
def test_nothing_has_no_neighbors():
    positions, batch = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    assert nearest_edges(positions, batch, 3).shape == (2, 0)
    assert radius_edges(positions, batch, 1.0).shape == (2, 0)
    assert farthest_points(positions, batch, 3).shape == random_points(batch, 3).shape == (0,)
    assert [level.vectors.shape for level in Pyramid((4, 2)).levels(positions, batch)] == [(0, 3)] * 2


@needs_cluster
def test_inputs_are_not_changed_and_gradients_reach_the_positions():
    positions, batch = clouds()
    copy = positions.clone()
    positions.requires_grad_()
    levels = Pyramid((20, 8, 3), neighbors=4).levels(positions, batch)
    levels[-1].vectors.square().sum().backward()
    assert positions.grad.abs().sum() > 0
    assert torch.equal(positions.detach(), copy)


def test_without_torch_cluster_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_cluster", None)
    positions, batch = clouds()
    for function in (lambda: nearest_edges(positions, batch, 3), lambda: farthest_points(positions, batch, 3)):
        with pytest.raises(MissingDependencyError, match="need torch-cluster.*make cluster"):
            function()


def test_what_does_not_fit_is_named():
    positions, batch = clouds()
    with pytest.raises(ValueError, match=r"positions of point clouds must have shape \(N, 3\); got \(50, 2\)"):
        nearest_edges(positions[:, :2], batch, 3)
    with pytest.raises(ValueError, match=r"each of the 50 points; got shape \(49,\)"):
        farthest_points(positions, batch[1:], 3)
    with pytest.raises(ValueError, match="batch must be int64 numbers of clouds, ascending"):
        nearest_edges(positions, batch.flip(0), 3)
    for wrong in (batch - 1, batch.double()):
        with pytest.raises(ValueError, match="int64 numbers of clouds, ascending from 0"):
            nearest_edges(positions, wrong, 3)
    with pytest.raises(ValueError, match="number of neighbors must be at least 1; got 0"):
        nearest_edges(positions, batch, 0)
    with pytest.raises(ValueError, match="max_distance must be positive; got 0"):
        radius_edges(positions, batch, 0.0)
    with pytest.raises(ValueError, match="number of points to keep must be at least 1; got 0"):
        random_points(batch, 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_positions_that_are_not_finite_are_refused(bad):
    """torch-cluster's tree of neighbors recurses on them until the process ends."""
    positions, batch = clouds()
    positions[3, 1] = bad
    for function in (lambda: nearest_edges(positions, batch, 3), lambda: farthest_points(positions, batch, 3)):
        with pytest.raises(ValueError, match="positions of point clouds must be finite; point 3 is not"):
            function()


def test_an_impossible_pyramid_is_refused():
    for points in ((4,), (4, 5), (4, 0)):
        with pytest.raises(ValueError, match="two or more positive numbers, none larger than the one before"):
            Pyramid(points)
    with pytest.raises(ValueError, match="neighbors of a pyramid must be at least 1; got 0"):
        Pyramid((4, 2), neighbors=0)
    with pytest.raises(ValueError, match="sampling must be 'random' or 'farthest'; got 'first'"):
        Pyramid((4, 2), sampling="first")
