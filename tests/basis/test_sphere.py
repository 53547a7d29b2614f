"""Quadrature on the sphere is exact up to its degree, with the symmetry of the cube."""

import itertools
import math

import pytest
import torch

from ik_e3nn.basis import harmonics, sphere_grid
from ik_e3nn.symmetry import SymmetryGroup

DEGREES = [0, 1, 3, 7, 9, 12, 15, 25]


@pytest.mark.parametrize("degree", DEGREES)
def test_harmonics_up_to_the_degree_integrate_to_zero(degree):
    points, weights = sphere_grid(degree)
    integrals = weights @ harmonics(points, min(degree, 11))
    assert integrals[0] == pytest.approx(1, abs=1e-13)
    assert integrals[1:].abs().max(dim=0).values < 1e-12 if degree else True


@pytest.mark.parametrize("degree", DEGREES)
def test_monomials_up_to_the_degree_are_exact(degree):
    """mean of x^2a y^2b z^2c = (2a-1)!! (2b-1)!! (2c-1)!! / (2(a+b+c)+1)!!, and 0 for odd powers."""
    points, weights = sphere_grid(degree)

    def double_factorial(n):
        return math.prod(range(n, 0, -2))

    for powers in itertools.product(range(degree + 1), repeat=3):
        if sum(powers) > degree:
            continue
        found = float(weights @ points.pow(torch.tensor(powers)).prod(1))
        expected = 0.0
        if all(p % 2 == 0 for p in powers):
            expected = math.prod(double_factorial(p - 1) for p in powers) / double_factorial(sum(powers) + 1)
        assert found == pytest.approx(expected, abs=1e-13), powers


@pytest.mark.parametrize("degree", [3, 7, 13, 31, 65])
def test_points_and_weights(degree):
    points, weights = sphere_grid(degree)
    assert points.dtype == weights.dtype == torch.float64
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64), atol=1e-14)
    assert bool((weights > 0).all())
    assert float(weights.sum()) == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("degree", [3, 7, 15])
def test_the_grid_has_octahedral_symmetry(degree):
    points, weights = sphere_grid(degree)
    for g in SymmetryGroup("Oh").generators:
        distance = ((points @ g.T)[:, None] - points).norm(dim=2)
        assert distance.amin(1).max() < 1e-12
        assert torch.allclose(weights[distance.argmin(1)], weights, atol=1e-14)


def test_smaller_degrees_need_fewer_points():
    sizes = [len(sphere_grid(d)[0]) for d in range(0, 66, 5)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 6


def test_degrees_beyond_the_largest_are_refused():
    with pytest.raises(ValueError, match="there is no Lebedev grid of degree 66: the largest is 65"):
        sphere_grid(66)
