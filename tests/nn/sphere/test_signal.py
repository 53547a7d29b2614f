"""Signals on the sphere: layouts, spectral pooling, norms and bispectrum."""

import math

import pytest
import torch

from ik_e3nn.basis import SphereTransform, spherical_irreps
from ik_e3nn.nn import Bispectrum, SpectralPool, SphereNorms, from_fields, to_fields
from ik_e3nn.nn.layout import layout, to_components
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import assert_equivariant, assert_not_equivariant, representation

TYPES = ["1x0e", "3x0e", "1x0e + 1x1o", "2x0e + 2x1o + 2x2e + 2x3o"]


@pytest.mark.parametrize(("mul", "l_max"), [(1, 0), (3, 0), (1, 4), (5, 3)])
def test_fields_are_channels_of_components(mul, l_max):
    x = torch.randn(7, mul * (l_max + 1) ** 2)
    fields = to_fields(x, mul, l_max)
    assert torch.equal(fields, to_components(x, layout(spherical_irreps(l_max, mul))).permute(1, 2, 0))
    assert torch.equal(from_fields(fields, l_max), x)
    assert to_fields(x[:0], mul, l_max).shape == (0, mul, (l_max + 1) ** 2)


@pytest.mark.parametrize("l_out", [0, 1, 3, 5])
def test_pooling_is_a_low_pass_filter(l_out):
    """It is the projection of the signal on low degrees: what a coarse transform finds."""
    fine = SphereTransform(5).double()
    coarse = SphereTransform(l_out, rings=fine.rings).double()
    x = torch.randn(4, 3, 36, dtype=torch.float64)
    pool = SpectralPool(spherical_irreps(5, 3), l_out)
    found = to_fields(pool(from_fields(x, 5)), 3, l_out)
    assert pool.irreps_out == spherical_irreps(l_out, 3)
    assert torch.allclose(found, coarse.from_grid(fine.to_grid(x)), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("irreps", TYPES)
def test_invariants_do_not_change_under_rotations_and_mirrors(irreps, dtype):
    for module in (SphereNorms(irreps), Bispectrum(irreps)):
        assert {ir for _, ir in module.irreps_out} == {spherical_irreps(0)[0].ir}
        assert_equivariant(module.to(dtype), group="O3", dtype=dtype)
    assert_equivariant(Bispectrum(irreps, "SO3").to(dtype), group="O3", dtype=dtype)  # with signs of mirrors
    assert_equivariant(SpectralPool(irreps, 0), group="O3", dtype=dtype)


def test_norms_are_the_norms():
    x = torch.randn(6, 2 * 16, dtype=torch.float64)
    found = SphereNorms(spherical_irreps(3, 2))(x).view(6, 4, 2)
    fields = to_fields(x, 2, 3)
    assert torch.equal(found[:, 0], fields[..., 0])
    for l in (1, 2, 3):
        assert torch.allclose(found[:, l] * (2 * l + 1) ** 0.5, fields[..., l * l : (l + 1) ** 2].norm(dim=-1))


def test_derivatives_at_zero_are_finite():
    for module in (SphereNorms("2x0e + 2x1o"), Bispectrum("2x0e + 2x1o")):
        x = torch.zeros(3, 8, requires_grad=True)
        (gradient,) = torch.autograd.grad(module(x).sum(), x)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("l_max", [0, 1, 2, 4])
def test_even_products_are_integrals_of_products_of_functions(l_max):
    """sum_m (3j) x_a x_b x_c is proportional to the mean over the sphere of f_a f_b f_c, by Gaunt's formula."""
    module = Bispectrum(spherical_irreps(l_max)).double()
    transform = SphereTransform(3 * l_max).double()
    x = torch.randn(20, (l_max + 1) ** 2, dtype=torch.float64)
    values = []
    for l in range(l_max + 1):
        only = torch.zeros(20, transform.dim, dtype=torch.float64)
        only[:, l * l : (l + 1) ** 2] = x[:, l * l : (l + 1) ** 2]
        values.append(transform.to_grid(only))
    found = module(x)
    assert module.triples[0] == (0, 0, 0)
    for column, (a, b, c) in enumerate(module.triples):
        expected = transform.from_grid(values[a] * values[b] * values[c])[:, 0]
        ratio = (found[:, column] * expected).sum() / expected.square().sum()
        assert torch.allclose(found[:, column], ratio * expected, atol=1e-10), (a, b, c)
        assert found[:, column].abs().max() > 0.05


def test_which_products_there_are():
    """All (a, b, c) of the triangle rule with an even sum; under SO(3) also odd ones of three different degrees."""
    even = Bispectrum(spherical_irreps(4, 2))
    all_of_them = Bispectrum(spherical_irreps(4, 2), "SO3")
    odd = all_of_them.triples[len(even.triples) :]
    assert odd == [(2, 3, 4)]
    assert all_of_them.triples[: len(even.triples)] == even.triples
    assert all((a + b + c) % 2 == 0 and a <= b <= c <= a + b for a, b, c in even.triples)
    assert str(all_of_them.irreps_out) == f"{2 * len(even.triples)}x0e+2x0o"


def test_what_the_bispectrum_sees_and_norms_do_not():
    """Degree 2 turned against degree 1: the norms are the same, the bispectrum is not."""
    irreps = spherical_irreps(3)
    x = torch.randn(1, 16, dtype=torch.float64)
    (g,) = SymmetryGroup("SO3").random_elements(1)
    y = x.clone()
    y[:, 4:9] = x[:, 4:9] @ representation("2e", g).T
    assert torch.allclose(SphereNorms(irreps)(x), SphereNorms(irreps)(y), atol=1e-13)
    assert (Bispectrum(irreps).double()(x) - Bispectrum(irreps).double()(y)).abs().max() > 0.05


def test_what_so3_sees_and_o3_does_not():
    """Mirror images have the same even products, and odd ones of the opposite sign."""
    irreps = spherical_irreps(4)
    x = torch.randn(5, 25, dtype=torch.float64)
    mirrored = x @ representation(irreps, torch.diag(torch.tensor([1.0, 1.0, -1.0]))).T
    module = Bispectrum(irreps, "SO3").double()
    a, b = module(x), module(mirrored)
    even = len(Bispectrum(irreps).triples)
    assert torch.allclose(a[:, :even], b[:, :even], atol=1e-12)
    assert torch.allclose(a[:, even:], -b[:, even:], atol=1e-12)
    assert a[:, even:].abs().max() > 0.1
    assert_not_equivariant(module, irreps, f"{len(module.triples)}x0e", group="O3")


def test_unit_second_moment():
    """For standard normal signals; sums of cubes of Gaussians converge slowly."""
    module = Bispectrum(spherical_irreps(4), "SO3")
    squares = module(torch.randn(100_000, 25)).square().mean(0)
    assert torch.allclose(squares, torch.ones_like(squares), rtol=0.15)
    norms = SphereNorms(spherical_irreps(4))(torch.randn(50_000, 25)).square().mean(0)
    assert torch.allclose(norms, torch.ones_like(norms), rtol=0.03)
    assert math.isclose(float(squares.mean()), 1, rel_tol=0.03)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: SpectralPool("4x0e + 2x1o", 0), "irreps_in must be signals on the sphere.*got 4x0e"),
        (lambda: SpectralPool("4x0e + 4x1e", 0), "must be signals on the sphere"),
        (lambda: SpectralPool("4x0e + 4x1o", 2), "l_max of 0 to 1; got 2"),
        (lambda: SpectralPool("4x0e + 4x1o", -1), "l_max of 0 to 1; got -1"),
        (lambda: SpectralPool("1x0e + 1x1o", 0)(torch.zeros(2, 3)), r"dimension 4; got shape \(2, 3\)"),
        (lambda: SphereNorms("1o"), "must be signals on the sphere"),
        (lambda: SphereNorms(""), "must be signals on the sphere"),
        (lambda: SphereNorms("1x0e + 1x1o")(torch.zeros(2, 5)), r"dimension 4; got shape \(2, 5\)"),
        (lambda: Bispectrum("1x0e + 1x1o")(torch.zeros(5)), r"dimension 4; got shape \(5,\)"),
        (
            lambda: Bispectrum("1x0e + 1x1o", "C4v"),
            "group of a bispectrum must be O.3. or SO.3.; got SymmetryGroup.'C4v'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        action()
