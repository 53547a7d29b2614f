"""The points of a stencil: a ball, symmetric under everything that maps the grid to itself."""

import itertools

import pytest
import torch

from ik_e3nn.conv import Stencil
from ik_e3nn.testing import grid_symmetries


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", range(1, 8))
def test_points_are_those_of_the_cube_inside_the_ball(size, dims):
    stencil = Stencil(size, dims=dims, dilation=2, spacing=0.5)
    c = (size - 1) / 2
    expected = [
        [-(k - c) for k in index] + [0.0] * (3 - dims)
        for index in itertools.product(range(size), repeat=dims)
        if sum((k - c) ** 2 for k in index) <= size**2 / 4
    ]
    assert stencil.vectors().tolist() == expected
    flat = [
        int(sum(round(c - v[axis]) * size ** (dims - 1 - axis) for axis in range(dims)))
        for v in stencil.vectors().tolist()
    ]
    assert stencil.places().tolist() == flat
    assert stencil.vectors().norm(dim=1).max() <= stencil.reach
    assert stencil.extent == 2 * size - 1


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [4, 5])
def test_symmetries_of_the_grid_permute_the_points(size, dims):
    vectors = Stencil(size, dims=dims).vectors()
    for g in grid_symmetries("Oh", dims):
        distance = torch.cdist(vectors @ g.T, vectors)
        assert (distance.amin(1) < 1e-12).all()


@pytest.mark.parametrize(
    ("size", "stride", "points", "results"), [(5, 1, 8, 8), (4, 2, 8, 4), (5, 2, 9, 5), (3, 3, 9, 3)]
)
def test_the_padding_keeps_points_over_stride(size, stride, points, results):
    stencil = Stencil(size)
    padding = stencil.padding(stride)
    stencil.check([points], stride, padding, symmetric=True)
    assert (points + 2 * padding - stencil.extent) // stride + 1 == results


def test_impossible_stencils_are_refused():
    with pytest.raises(ValueError, match="dims of a stencil must be 2 or 3; got 4"):
        Stencil(3, dims=4)
    with pytest.raises(ValueError, match="size of a stencil must be 1 or more; got 0"):
        Stencil(0)
    with pytest.raises(ValueError, match="dilation of a stencil must be 1 or more; got 0"):
        Stencil(3, dilation=0)
    with pytest.raises(ValueError, match=r"spacing of a stencil must be positive; got 0\.0"):
        Stencil(3, spacing=0.0)
    with pytest.raises(ValueError, match="a stencil of 9 points does not fit on a grid of 4 with 2 zeros on both"):
        Stencil(5, dilation=2).check([8, 4], 1, 2, symmetric=True)
    with pytest.raises(ValueError, match="leaves out 1 on one side only.*use an even stencil"):
        Stencil(5).check([8], 2, 2, symmetric=True)
    with pytest.raises(ValueError, match="leaves out 1 on one side only.*use an odd stencil"):
        Stencil(4).check([9], 2, 1, symmetric=True)
    Stencil(5).check([8], 2, 2, symmetric=False)
