"""Functions of the distance: smooth ends, unit second moments, exact constants."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from ik_e3nn.basis import BesselBasis, BondBasis, GaussianBasis, GaussianShell, smooth_envelope


def derivatives(function, x, order):
    """Value and derivatives of a function of one number, by autograd."""
    x = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    values = [function(x).sum()]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1], x, create_graph=True)[0].sum())
    return [float(v.detach()) for v in values]


@pytest.mark.parametrize("x", [1.0, 1.0 - 1e-15, 1.0 + 1e-15, 1.5])
def test_envelope_ends_with_two_zero_derivatives(x):
    value, slope, curvature = derivatives(smooth_envelope, x, 2)
    assert abs(value) < 1e-13
    assert abs(slope) < 1e-12
    assert abs(curvature) < 1e-11


def test_envelope_is_exactly_zero_from_the_cutoff_on():
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([1.0, 1.0 + 1e-6, 2.0, 1e6], dtype=dtype, requires_grad=True)
        y = smooth_envelope(x)
        assert torch.equal(y, torch.zeros(4, dtype=dtype))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(gradient, torch.zeros(4, dtype=dtype))


def test_envelope_starts_flat_at_one_and_falls():
    assert derivatives(smooth_envelope, 0.0, 2) == [1.0, 0.0, 0.0]
    y = smooth_envelope(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert bool((y.diff() <= 0).all())
    assert bool((y >= 0).all())
    assert derivatives(smooth_envelope, 1 - 1e-9, 3)[3] == pytest.approx(-336, rel=1e-6)  # u''' jumps: C2, not C3


@pytest.mark.parametrize("r_max", [1.0, 5.0, 12.5])
def test_bessel_functions_are_the_formula_with_unit_second_moment(r_max):
    basis = BesselBasis(r_max, 6).double()
    for n in range(1, 7):

        def b(r, n=n):
            x = r / r_max
            return math.sqrt(2) * math.sin(n * math.pi * x) / x

        moment = quad(lambda r, b=b: b(r) ** 2 / r_max, 0, r_max, limit=200)[0]
        r = torch.linspace(0.01, 1.0, 7, dtype=torch.float64)[:, None] * r_max
        expected = torch.tensor([b(float(x)) for x in r], dtype=torch.float64) / moment**0.5
        assert torch.allclose(basis(r)[:, n - 1], expected, rtol=1e-5)  # the moments by the midpoint rule
    assert basis(torch.tensor([[r_max]], dtype=torch.float64)).abs().max() < 1e-12


def test_bessel_functions_are_smooth_at_zero():
    basis = BesselBasis(5.0, 4).double()
    value, slope, curvature = derivatives(lambda r: basis(r[:, None])[:, 2], 0.0, 2)
    near = derivatives(lambda r: basis(r[:, None])[:, 2], 1e-3, 1)
    assert value == pytest.approx(near[0], rel=1e-5)
    assert slope == 0
    assert math.isfinite(curvature)  # with torch.sinc it is NaN, and so are the forces' gradients at a self loop
    assert abs(near[1]) < 1e-2


def test_gaussians_have_unit_second_moment_inside():
    basis = GaussianBasis(6.0, 13).double()
    r = torch.linspace(0, 6, 20001, dtype=torch.float64)[:, None]
    moments = torch.trapezoid(basis(r).square(), r, dim=0) / 6
    assert torch.allclose(moments[3:-3], torch.ones(7, dtype=torch.float64), rtol=1e-3)
    assert torch.allclose(moments[[0, -1]], torch.full((2,), 0.5, dtype=torch.float64), rtol=1e-3)
    peaks = r[basis(r).argmax(0), 0]
    assert torch.allclose(peaks, torch.arange(13, dtype=torch.float64) / 2, atol=1e-3)


def test_windows_of_bonds_have_unit_second_moment_resolve_bonds_and_end_with_a_constant():
    basis = BondBasis(33).double()
    r = torch.linspace(0.9, 2.1, 20001, dtype=torch.float64)[:, None]
    assert basis(r).square().mean(0).sum() == pytest.approx(34, rel=1e-3)
    centers = 0.7 + 0.05 * np.arange(33)
    expected = np.exp(-0.5 * ((1.4 - centers) / 0.05) ** 2) * (33 / math.pi**0.5) ** 0.5
    values = basis(torch.tensor([[1.4]], dtype=torch.float64))[0].numpy()
    assert np.allclose(values, [1, *expected], rtol=1e-12)
    single, double = (basis(torch.tensor([[x]], dtype=torch.float64)) for x in (1.54, 1.34))  # carbon and carbon
    assert (single * double).sum() / (single.norm() * double.norm()) < 0.1
    far = basis(torch.tensor([[3.0], [30.0]], dtype=torch.float64))  # not zero: a kernel sees long bonds
    assert torch.allclose(far, torch.eye(34, dtype=torch.float64)[[0, 0]], atol=1e-12)
    with pytest.raises(ValueError, match="num_windows of a basis of bonds must be at least 2; got 1"):
        BondBasis(1)


def test_the_shell_is_a_gaussian_of_a_learnable_width():
    shell = GaussianShell(0.7).double()
    r = torch.linspace(0, 3, 10, dtype=torch.float64)[:, None]
    assert torch.allclose(shell(r), torch.exp(-0.5 * (r / 0.7) ** 2), rtol=1e-6)
    assert [p.numel() for p in shell.parameters()] == [1]
    assert torch.autograd.gradcheck(lambda s: torch.exp(-0.5 * r.square() * torch.exp(-2 * s)), shell.log_sigma)
    shell(r).sum().backward()
    assert shell.log_sigma.grad.abs() > 0


@pytest.mark.parametrize("make", [lambda: BesselBasis(5.0, 8), lambda: GaussianBasis(5.0, 8), BondBasis])
def test_constants_stay_exact_through_single_precision(make):
    r = torch.rand(20, 1, dtype=torch.float64) * 5
    basis = make().double()
    expected = basis(r)
    assert expected.dtype == torch.float64
    single = basis.float()(r.float())
    assert single.dtype == torch.float32
    assert torch.equal(basis.double()(r), expected)
    assert (single - expected).abs().max() < 1e-4
    assert not basis.state_dict()


def test_the_ambient_dtype_does_not_change_the_numbers():
    r = torch.rand(20, 1, dtype=torch.float64) * 5
    expected = BesselBasis(5.0, 8).double()(r)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(BesselBasis(5.0, 8)(r), expected)
        assert BesselBasis(5.0, 8).float()(r.float()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_impossible_cutoffs_and_widths_are_refused(bad):
    for make in (BesselBasis, GaussianBasis):
        with pytest.raises(ValueError, match="r_max must be positive; got"):
            make(bad)
    with pytest.raises(ValueError, match="sigma must be positive; got"):
        GaussianShell(bad)


def test_impossible_numbers_of_functions_are_refused():
    with pytest.raises(ValueError, match="num_basis must be positive; got 0"):
        BesselBasis(5.0, 0)
    with pytest.raises(ValueError, match="num_basis of a Gaussian basis must be at least 2; got 1"):
        GaussianBasis(5.0, 1)


def test_bases_take_no_points():
    assert np.prod(BesselBasis(5.0, 3)(torch.zeros(0, 1)).shape) == 0
    assert GaussianBasis(5.0, 3)(torch.zeros(0, 1)).shape == (0, 3)
