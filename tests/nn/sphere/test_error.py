"""The equivariance error of pointwise functions on the sphere, and the grid that the sphere activation takes for it."""

import itertools

import pytest
import torch

from ik_e3nn.basis import gauss_legendre_rings, sphere_grid
from ik_e3nn.nn import SphereActivation, sphere_degree, sphere_errors
from ik_e3nn.nn.sphere.activation import default_degree
from ik_e3nn.nn.sphere.error import FUNCTIONS, GRIDS
from ik_e3nn.testing import representation

ELU = {"ELU": FUNCTIONS["ELU"]}


def test_the_error_is_that_of_turned_signals():
    """By another way than the module's: turn the signal, not the coefficients, and compare by hand."""
    from ik_e3nn.basis import SphereTransform, harmonics
    from ik_e3nn.symmetry import SymmetryGroup

    rings = gauss_legendre_rings(8)
    transform = SphereTransform(3, rings=rings).double()
    generator = torch.Generator().manual_seed(3)
    difference, size = 0.0, 0.0
    for g in SymmetryGroup("O3").random_elements(40, generator):
        x = torch.randn(16, generator=generator, dtype=torch.float64) / 4  # a value of variance 1, as in the module
        turned = harmonics(rings.points() @ g, 3) @ x
        plain = transform.from_grid(torch.relu(transform.to_grid(x)))
        error = transform.from_grid(torch.relu(turned)) - representation(transform.irreps, g) @ plain
        difference, size = difference + float(error.square().sum()), size + float(plain.square().sum())
    (row,) = sphere_errors(
        3, (8 / 3,), functions={"ReLU": torch.relu}, grids={"rings": GRIDS["Gauss-Legendre"]}, samples=200
    )
    # the module's constants weigh degrees a little differently
    assert (difference / size) ** 0.5 == pytest.approx(row.error, rel=0.35)


def test_the_error_falls_with_oversampling_for_every_function_and_grid():
    rows = sphere_errors(3, (2, 3, 5), samples=24)
    assert len(rows) == 4 * 3 * 3
    for kind, name in itertools.product(GRIDS, FUNCTIONS):
        errors = [r.error for r in rows if (r.grid, r.function) == (kind, name)]
        assert len(errors) == 3
        assert all(later < earlier for earlier, later in itertools.pairwise(errors)), (kind, name, errors)
    finest = {r.function: r.error for r in rows if r.grid == "Gauss-Legendre" and r.degree == 15}
    # the smoother the function, the faster: kink, jump of the second derivative, analytic
    assert finest["SiLU"] < finest["ELU"] < finest["ReLU"]
    assert finest["tanh"] < finest["ReLU"]


@pytest.mark.parametrize("grid", GRIDS)
def test_the_error_depends_on_the_ratio_of_degree_and_bandwidth(grid):
    """Three times the bandwidth: the same few per cent for signals of degree 3, 5 and 7."""
    errors = [sphere_errors(l, (3,), functions=ELU, grids={grid: GRIDS[grid]}, samples=24)[0].error for l in (3, 5, 7)]
    assert max(errors) < 0.06
    assert max(errors) < 2 * min(errors)


@pytest.mark.parametrize("l_max", [1, 2, 3, 4, 5, 6, 8])
def test_the_default_grid_keeps_the_error_below_four_per_cent(l_max):
    for name in ("ELU", "SiLU"):
        module = SphereActivation(1, l_max, function=FUNCTIONS[name])
        assert module.equivariance_error(samples=24) < 0.04, name


def test_the_default_is_the_cheapest_of_its_kind():
    """One Lebedev grid coarser is beyond 4 % or below the smallest that keeps the signals, from l_max = 2 on."""
    assert [default_degree(l) for l in (0, 1, 2, 3, 4, 10)] == [3, 5, 7, 9, 12, 30]
    sizes = [len(sphere_grid(default_degree(l))[0]) for l in (1, 2, 3, 4)]
    assert sizes == [14, 26, 38, 86]
    for l, coarser in ((2, 5), (4, 11), (6, 17)):
        assert SphereActivation(1, l, degree=coarser).equivariance_error(samples=24) > 0.04


def test_the_degree_for_a_tolerance():
    for tolerance in (0.1, 0.03, 0.01):
        degree = sphere_degree(2, tolerance)
        assert SphereActivation(1, 2, degree=degree).equivariance_error() <= tolerance
        assert SphereActivation(1, 2, degree=degree - 1).equivariance_error() > tolerance or degree == 4
    assert sphere_degree(2, 0.01, function=torch.square) == 6  # exact from there on
    assert sphere_degree(0, 1e-9) == 0  # a constant is exact


def test_rings_go_further_than_lebedev():
    grid = GRIDS["Gauss-Legendre"]
    module = SphereActivation(2, 12, grid=grid, degree=70).double()
    assert len(module.analysis) == 36 * 71
    assert module.equivariance_error(samples=4) < 2e-3
    assert module(torch.randn(3, 2 * 169, dtype=torch.float64)).shape == (3, 338)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: sphere_errors(0), "l_max of 1 or more; got 0"),
        (lambda: sphere_errors(2, (1.5, 3)), "oversampled by 2 or more, or signals are lost; got 1.5"),
        (lambda: sphere_degree(2, 0.0), "tolerance of an error must be positive; got 0.0"),
        (lambda: sphere_degree(2, -1.0), "tolerance of an error must be positive; got -1.0"),
        (lambda: sphere_degree(33, 0.01), "below 0.01: there is no Lebedev grid of degree 66.*use a grid of rings"),
    ],
)
def test_what_cannot_be_measured(action, message):
    with pytest.raises(ValueError, match=message):
        action()


def test_grids_that_do_not_exist_are_left_out():
    rows = sphere_errors(11, (2, 6), functions=ELU, grids={"Lebedev": sphere_grid}, samples=2)
    assert [row.degree for row in rows] == [22]
