"""Transforms on the sphere: exact, e3nn's and SciPy's harmonics, real and independent of the batch."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y

from ik_e3nn.basis import (
    SphereRings,
    SphereTransform,
    angular_harmonics,
    equiangular_rings,
    gauss_legendre_rings,
    harmonics,
    sphere_grid,
)

GRIDS = [equiangular_rings, gauss_legendre_rings]
BANDS = [0, 1, 2, 5, 16, 64]


def make(grid, l_max, extra=1):
    return SphereTransform(l_max, rings=grid(2 * l_max + extra)).double()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("l_max", BANDS)
@pytest.mark.parametrize("extra", [0, 1, 4])
def test_round_trip(grid, l_max, extra):
    transform = make(grid, l_max, extra)
    x = torch.randn(3, (l_max + 1) ** 2, dtype=torch.float64)
    values = transform.to_grid(x)
    assert values.shape == (3, *transform.rings.shape)
    assert values.std() > 0.1
    assert (transform.from_grid(values) - x).abs().max() < 1e-12
    single = SphereTransform(l_max, rings=transform.rings)
    assert (single.from_grid(single.to_grid(x.float())) - x).abs().max() < 1e-5


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("l_max", [0, 1, 3, 11])
def test_values_are_sums_of_e3nns_harmonics(grid, l_max):
    transform = make(grid, l_max)
    x = torch.randn(4, (l_max + 1) ** 2, dtype=torch.float64)
    points = transform.rings.points()
    Y = o3.spherical_harmonics(list(range(l_max + 1)), points, normalize=True, normalization="component")
    assert torch.allclose(transform.to_grid(x), torch.einsum("jki,ni->njk", Y, x), atol=1e-12)
    assert str(transform.irreps) == str(o3.Irreps.spherical_harmonics(l_max))


@pytest.mark.parametrize("l_max", [1, 4, 6])
def test_it_is_e3nns_transform_on_e3nns_grid(l_max):
    """ToS2Grid has 2 (l_max + 1) rings and another number of points on a ring: the same values at the same places."""
    b = 2 * (l_max + 1)
    theirs = o3.ToS2Grid(l_max, (b, 2 * l_max + 1), normalization="integral", dtype=torch.float64)
    rings = equiangular_rings(2 * l_max + 1)
    assert torch.allclose(rings.polar, theirs.betas, atol=1e-14)
    same = SphereRings(rings.polar, rings.weights, 2 * l_max + 1, 2 * l_max)
    assert torch.allclose(same.points(), theirs.grid, atol=1e-12)
    x = torch.randn(3, (l_max + 1) ** 2, dtype=torch.float64)
    found = SphereTransform(l_max, rings=same).double().to_grid(x)
    assert torch.allclose(found, theirs(x) * (4 * torch.pi) ** 0.5, atol=1e-12)
    assert found.std() > 0.1


@pytest.mark.parametrize("l_max", [0, 3, 12, 40])
def test_harmonics_are_scipys(l_max):
    """Real harmonics from complex ones without the Condon-Shortley phase; the polar axis is y, azimuth from z to x."""
    rng = np.random.default_rng(1)
    polar, azimuth = np.arccos(rng.uniform(-1, 1, 20)), rng.uniform(0, 2 * np.pi, 20)
    found = angular_harmonics(torch.from_numpy(polar), torch.from_numpy(azimuth), l_max)
    for l in range(l_max + 1):
        for m in range(-l, l + 1):
            Y = sph_harm_y(l, abs(m), polar, azimuth) * (4 * np.pi) ** 0.5 * (-1) ** m
            expected = Y.real if m == 0 else 2**0.5 * (Y.real if m > 0 else Y.imag)
            assert np.allclose(found[:, l * l + l + m], expected, atol=1e-11), (l, m)


def test_harmonics_of_angles_are_those_of_vectors():
    rings = gauss_legendre_rings(9)
    beta, alpha = torch.meshgrid(rings.polar, rings.azimuth, indexing="ij")
    expected = harmonics(rings.points().flatten(0, 1), 8)
    assert torch.allclose(angular_harmonics(beta.flatten(), alpha.flatten(), 8), expected, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("degree", [0, 1, 2, 5, 10, 31])
def test_harmonics_up_to_the_degree_integrate_to_zero(grid, degree):
    rings = grid(degree)
    beta, alpha = torch.meshgrid(rings.polar, rings.azimuth, indexing="ij")
    points, weights = rings.quadrature()
    integrals = weights @ angular_harmonics(beta.flatten(), alpha.flatten(), degree + 1)
    inside = integrals[: (degree + 1) ** 2]
    assert inside[0] == pytest.approx(1, abs=1e-14)
    assert (inside[1:].abs() < 1e-13).all()
    assert integrals[(degree + 1) ** 2 :].abs().max() > 0.1  # and one degree more is too much
    assert torch.allclose(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64))
    assert rings.shape[0] * rings.shape[1] == len(points)
    assert (rings.weights > 0).all()


def test_driscoll_and_healys_weights():
    """Their sum of sines, at the midpoints, equals Fejer's rule."""
    b = 6
    rings = equiangular_rings(2 * b - 1)
    j, k = torch.arange(2 * b, dtype=torch.float64)[:, None], torch.arange(b, dtype=torch.float64)
    half = (2 * j + 1) * torch.pi / (4 * b)
    expected = 2 / b * half[:, 0].sin() * ((2 * k + 1) * half).sin().div(2 * k + 1).sum(1)
    assert torch.allclose(rings.weights, expected / 2, atol=1e-14)
    assert rings.shape == (2 * b, 2 * b)


@pytest.mark.parametrize("grid", GRIDS)
def test_higher_degrees_are_projected_out(grid):
    """The coefficients of a signal of degree 9 up to 4, on a grid that is exact for the products."""
    fine = make(grid, 9)
    coarse = SphereTransform(4, rings=fine.rings).double()
    x = torch.randn(2, 100, dtype=torch.float64)
    assert torch.allclose(coarse.from_grid(fine.to_grid(x)), x[:, :25], atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_coefficients_turn_with_the_signal(grid):
    """f(g^-1 x) has coefficients D(g) x: the sampled values are those at turned points."""
    from ik_e3nn.symmetry import SymmetryGroup
    from ik_e3nn.testing import representation

    transform = make(grid, 6)
    x = torch.randn(49, dtype=torch.float64)
    for g in SymmetryGroup("O3").random_elements(4):
        turned = harmonics(transform.rings.points() @ g, 6) @ x
        assert torch.allclose(transform.from_grid(turned), representation(transform.irreps, g) @ x, atol=1e-11)


def test_mean_and_power_are_those_of_the_coefficients():
    """Parseval in the "component" normalization."""
    transform = make(equiangular_rings, 5, extra=7)
    x = torch.randn(36, dtype=torch.float64)
    values = transform.to_grid(x)
    means = [(transform.rings.weights @ v).mean() for v in (values, values.square())]
    assert means[0] == pytest.approx(float(x[0]))
    assert means[1] == pytest.approx(float(x.square().sum()))


@pytest.mark.parametrize("l_max", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_batch_shape_with_gradients(l_max, dtype):
    transform = SphereTransform(l_max).to(dtype)
    dim = (l_max + 1) ** 2
    for batch in [(), (0,), (2,), (3, 0), (2, 3)]:
        x = torch.randn(*batch, dim, dtype=dtype, requires_grad=True)
        values = transform.to_grid(x)
        y = transform.from_grid(values)
        assert values.shape == (*batch, 2 * l_max + 2, 2 * l_max + 2)
        assert y.shape == x.shape
        assert y.dtype == values.dtype == dtype
        y.square().sum().backward()
        assert torch.allclose(x.grad, 2 * x.detach(), atol=1e-5)
    assert not transform.state_dict()


def test_second_gradients():
    transform = SphereTransform(2, rings=gauss_legendre_rings(4)).double()
    x = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)

    def function(x):
        return transform.from_grid(torch.tanh(transform.to_grid(x)))

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_a_lebedev_grid_finds_the_same_coefficients():
    transform = SphereTransform(5).double()
    x = torch.randn(36, dtype=torch.float64)
    points, weights = sphere_grid(10)
    Y = harmonics(points, 5)
    assert torch.allclose((weights * (Y @ x)) @ Y, transform.from_grid(transform.to_grid(x)), atol=1e-12)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: SphereTransform(-1), "l_max must be 0 or more; got -1"),
        (lambda: SphereTransform(4, rings=equiangular_rings(7)), r"up to degree 2 l_max = 8; got 7"),
        (lambda: equiangular_rings(-1), "degree of a grid must be 0 or more; got -1"),
        (lambda: gauss_legendre_rings(-2), "degree of a grid must be 0 or more; got -2"),
        (lambda: SphereTransform(2).to_grid(torch.zeros(3, 8)), r"shape \(..., 9\) for l_max = 2; got \(3, 8\)"),
        (lambda: SphereTransform(2).to_grid(torch.tensor(1.0)), r"shape \(..., 9\) for l_max = 2; got \(\)"),
        (lambda: SphereTransform(2).from_grid(torch.zeros(6, 5)), r"shape \(..., 6, 6\) on this grid; got \(6, 5\)"),
        (lambda: SphereTransform(0).from_grid(torch.zeros(2)), r"shape \(..., 2, 2\) on this grid; got \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        action()
