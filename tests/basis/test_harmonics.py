"""Harmonics: e3nn's, but finite with two gradients for a zero vector."""

import numpy as np
import pytest
import scipy.stats
import torch
from e3nn import o3

from ik_e3nn.basis import (
    BesselBasis,
    Harmonics,
    PolynomialBasis,
    RadialHarmonicBasis,
    distances,
    harmonics,
    smooth_envelope,
    spherical_irreps,
)
from ik_e3nn.symmetry import SymmetryGroup, representation_matrix


@pytest.mark.parametrize("l_max", [0, 1, 4, 8])
def test_they_are_e3nns(l_max):
    vectors = 3 * torch.randn(50, 3, dtype=torch.float64)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    assert torch.allclose(harmonics(vectors, l_max), expected, atol=1e-13)
    assert spherical_irreps(l_max) == o3.Irreps.spherical_harmonics(l_max)


def test_polynomials_are_homogeneous():
    vectors = torch.randn(20, 3, dtype=torch.float64)
    lengths = vectors.norm(dim=1, keepdim=True)
    Y, P = harmonics(vectors, 4), harmonics(vectors, 4, normalize=False)
    for l in range(5):
        s = slice(l * l, (l + 1) ** 2)
        assert torch.allclose(P[:, s], lengths**l * Y[:, s], atol=1e-12)
        assert torch.allclose(Y[:, s].square().sum(1), torch.tensor(2 * l + 1.0, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", [True, False])
def test_value_gradient_and_second_gradient_are_finite_at_zero(dtype, normalize):
    vectors = torch.zeros(2, 3, dtype=dtype)
    vectors[1] = torch.tensor([0.3, -0.2, 0.9])
    vectors.requires_grad_()
    Y = harmonics(vectors, 4, normalize=normalize)
    assert Y[0, 0] == 1
    assert (Y[0, 1:] == 0).all()
    (first,) = torch.autograd.grad((Y * torch.randn_like(Y)).sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad((first * torch.randn_like(first)).sum(), vectors)
    for tensor in (Y, first, second):
        assert tensor.dtype == dtype
        assert torch.isfinite(tensor).all()
    assert second[1].abs().max() > 1e-3


def test_gradients_away_from_zero_are_right():
    vectors = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: harmonics(v, 3), vectors)
    assert torch.autograd.gradgradcheck(lambda v: harmonics(v, 3), vectors)


def test_distances_are_lengths_with_zero_derivatives_at_zero():
    vectors = torch.randn(5, 3, dtype=torch.float64)
    vectors[0] = 0
    vectors.requires_grad_()
    r = distances(vectors)
    assert torch.allclose(r[:, 0], vectors.norm(dim=1))
    (first,) = torch.autograd.grad(r.sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum() + first.sum(), vectors)
    assert torch.allclose(first[1:], vectors[1:] / r[1:])
    assert (first[0] == 0).all()
    assert (second[0] == 0).all()
    assert torch.isfinite(second).all()
    assert torch.autograd.gradgradcheck(distances, vectors[1:].detach().requires_grad_())


def test_short_vectors_do_not_underflow():
    vectors = torch.tensor([[1e-12, 0, 0], [0, 3e-15, 4e-15]], dtype=torch.float32)
    assert torch.allclose(distances(vectors)[:, 0], torch.tensor([1e-12, 5e-15]), rtol=1e-5, atol=0)
    assert torch.allclose(harmonics(vectors, 1)[:, 1:].norm(dim=1), torch.full((2,), 3**0.5), rtol=1e-5)


def test_radial_harmonic_features_are_products_in_e3nns_layout():
    radial = BesselBasis(5.0, 3).double()
    basis = RadialHarmonicBasis(radial, 2)
    vectors = 2 * torch.randn(7, 3, dtype=torch.float64)
    features, window = basis(vectors)
    r = vectors.norm(dim=1, keepdim=True)
    assert torch.allclose(window, smooth_envelope(r / 5))
    assert basis.irreps_out == o3.Irreps("3x0e + 3x1o + 3x2e")
    start = 0
    for l in range(3):
        Y = o3.spherical_harmonics(l, vectors, normalize=True, normalization="component")
        for n in range(3):
            block = features[:, start : start + 2 * l + 1]
            assert torch.allclose(block, radial(r)[:, n : n + 1] * Y, atol=1e-12)
            start += 2 * l + 1


@pytest.mark.parametrize(
    "basis", [RadialHarmonicBasis(BesselBasis(4.0), 3), PolynomialBasis(3)], ids=["bessel", "poly"]
)
def test_features_are_equivariant_and_the_window_invariant(basis):
    basis = basis.double()
    vectors = 1.5 * torch.randn(20, 3, dtype=torch.float64)
    for g in SymmetryGroup("O3").random_elements(4):
        features, window = basis(vectors)
        moved, same = basis(vectors @ g.T)
        D = torch.block_diag(
            *[representation_matrix(ir.l, ir.p, g) for mul, ir in basis.irreps_out for _ in range(mul)]
        )
        assert torch.allclose(moved, features @ D.T, atol=1e-12)
        assert torch.allclose(same, window, atol=1e-13)


def test_polynomial_basis_is_the_papers():
    """Appendix B.1: homogeneous harmonic polynomials, written out here from a table, under a Gaussian window."""
    basis = PolynomialBasis(2, sigma=1.3).double()
    vectors = torch.randn(5, 3, dtype=torch.float64)
    features, window = (value.detach() for value in basis(vectors))
    x, y, z = vectors.numpy().T
    s = np.sqrt
    table = [
        np.ones(5),
        *(s(3) * x, s(3) * y, s(3) * z),
        *(s(15) * x * z, s(15) * x * y, s(5) * (y * y - (x * x + z * z) / 2), s(15) * y * z),
        s(15) * (z * z - x * x) / 2,
    ]
    np.testing.assert_allclose(features.numpy(), np.stack(table, 1), atol=1e-12)
    density = scipy.stats.multivariate_normal(np.zeros(3), 1.3**2)
    np.testing.assert_allclose(window[:, 0].numpy(), density.pdf(vectors.numpy()) / density.pdf(np.zeros(3)), rtol=1e-6)


def test_negative_degrees_are_refused():
    with pytest.raises(ValueError, match="l_max must be 0 or more; got -1"):
        PolynomialBasis(-1)
    with pytest.raises(ValueError, match="l_max must be 0 or more; got -1"):
        RadialHarmonicBasis(BesselBasis(5.0), -1)


@pytest.mark.parametrize(
    "basis", [RadialHarmonicBasis(BesselBasis(4.0), 2), PolynomialBasis(2)], ids=["bessel", "poly"]
)
def test_no_edges(basis):
    features, window = basis(torch.zeros(0, 3))
    assert features.shape == (0, basis.irreps_out.dim)
    assert window.shape == (0, 1)


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 6])
def test_the_recursion_gives_e3nns_harmonics(l_max):
    """For vectors of any length, homogeneous polynomials."""
    vectors = torch.randn(50, 3, dtype=torch.float64)
    vectors[:25] = torch.nn.functional.normalize(vectors[:25], dim=1)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), vectors, False, "component")
    assert torch.allclose(Harmonics(l_max).double()(vectors), expected, rtol=1e-13, atol=1e-13)
    at_zero = Harmonics(l_max)(torch.zeros(1, 3))
    assert at_zero[0, 0] == 1
    assert (at_zero[0, 1:] == 0).all()
