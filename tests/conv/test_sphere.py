"""Convolution on the sphere: against its definition as an integral over rotations, and equivariant exactly."""

import pytest
import torch
from e3nn import o3

from ik_e3nn.basis import equiangular_rings, gauss_legendre_rings, harmonics, spherical_irreps
from ik_e3nn.conv import ImplicitSphereConv, SphereConv, zonal_convolution
from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.testing import assert_equivariant, assert_not_equivariant

POLE = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def rotations(degree):
    """Quadrature on SO(3), exact for products of degree up to ``degree``: (n, 3, 3), weights that sum to 1."""
    rings = gauss_legendre_rings(degree)
    beta, alpha = torch.meshgrid(rings.polar, rings.azimuth, indexing="ij")
    _, weights = rings.quadrature()
    gamma = 2 * torch.pi * torch.arange(degree + 1, dtype=torch.float64) / (degree + 1)
    alpha, beta = alpha.flatten()[:, None].expand(-1, len(gamma)), beta.flatten()[:, None].expand(-1, len(gamma))
    g = o3.angles_to_matrix(alpha, beta, gamma.expand_as(alpha))
    return g.flatten(0, 1), (weights[:, None] / len(gamma)).expand_as(alpha).flatten()


def signal(x, points):
    return harmonics(points, round(x.shape[-1] ** 0.5) - 1) @ x


def test_the_definition_by_direct_quadrature():
    """(f * h)(x) = mean over g of f(g pole) h(g^-1 x), for a kernel h that is not zonal."""
    L = 3
    f, h = torch.randn(2, (L + 1) ** 2, dtype=torch.float64)
    g, weights = rotations(2 * L)
    x = torch.nn.functional.normalize(torch.randn(10, 3, dtype=torch.float64), dim=1)
    values = signal(f, g @ POLE)
    expected = torch.stack([(weights * values * signal(h, point @ g)).sum() for point in x])  # x @ g = g^-1 x
    zonal = torch.stack([h[l * l + l] for l in range(L + 1)])
    found = zonal_convolution(f, zonal[:, None, None])
    assert torch.allclose(signal(found, x), expected, atol=1e-12)
    assert expected.abs().max() > 0.05


def test_the_constant_in_the_usual_conventions():
    """Orthonormal harmonics and the measure of volume 8 pi^2: 2 pi sqrt(4 pi / (2l+1)), not sqrt(16 pi^3 / (2l+2))."""
    L = 4
    g, weights = rotations(2 * L)
    measure = weights * 8 * torch.pi**2
    points, area = equiangular_rings(2 * L + 1).quadrature()
    for l in range(L + 1):
        Y = o3.spherical_harmonics(l, points, normalize=True, normalization="integral")
        m = l // 2  # some order
        f = o3.spherical_harmonics(l, g @ POLE, normalize=True, normalization="integral")[:, m]

        def convolved(x, f=f, l=l):
            h = o3.spherical_harmonics(l, x @ g, normalize=True, normalization="integral")[:, l]
            return (measure * f * h).sum()

        values = torch.stack([convolved(x) for x in points])
        constant = (area * 4 * torch.pi * values * Y[:, m]).sum()
        assert constant == pytest.approx(2 * torch.pi * (4 * torch.pi / (2 * l + 1)) ** 0.5, rel=1e-12)
        assert abs(constant - (16 * torch.pi**3 / (2 * l + 2)) ** 0.5) > 0.05 * constant


def test_it_is_the_layer_of_linear_maps():
    conv = SphereConv("3x0e + 3x1o + 3x2e", 5, bias=True).double()
    with torch.no_grad():
        conv.linear.bias.weight.normal_()
    x = torch.randn(7, 27, dtype=torch.float64)
    bias = conv(torch.zeros_like(x))
    assert torch.allclose(conv(x) - bias, zonal_convolution(x, conv.kernel()), atol=1e-13)
    assert (bias[:, :5] != 0).all()
    assert (bias[:, 5:] == 0).all()
    # nothing else commutes with rotations: the numbers of free maps agree
    other = EquivariantLinear(conv.irreps_in, conv.irreps_out, "SO3")
    assert other.weight.numel() == conv.kernel().numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l_max", [0, 1, 6])
@pytest.mark.parametrize("group", ["SO3", "O3"])
def test_convolutions_commute_with_rotations_and_mirrors(group, l_max, dtype):
    irreps = spherical_irreps(l_max, 3)
    assert_equivariant(SphereConv(irreps, 4).to(dtype), group=group)
    conv = ImplicitSphereConv(irreps, 4, irreps_attributes="2x0e").to(dtype)
    assert_equivariant(conv, [irreps, "2x0e"], conv.irreps_out, group)


@pytest.mark.parametrize("group", ["O3", "SO3", "Cinfv", "SO2", "C4v", "D3", "Td", "C1"])
def test_kernels_of_steerable_attributes_commute_with_their_group(group):
    conv = ImplicitSphereConv(
        "2x0e + 2x1o", 3, irreps_attributes="2x0e + 1o", irreps_hidden="8x0e + 8x1o", group=group, activation="product"
    ).double()
    assert_equivariant(conv, ["2x0e + 2x1o", "2x0e + 1o"], conv.irreps_out)
    if group == "Cinfv":
        assert_not_equivariant(conv, ["2x0e + 2x1o", "2x0e + 1o"], conv.irreps_out, "O3")


def test_every_sample_has_the_kernel_of_its_attributes():
    conv = ImplicitSphereConv("2x0e + 2x1o + 2x2e", 3, irreps_attributes="2x0e").double()
    x, a = torch.randn(5, 18, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    y = conv(x, a)
    for i in range(5):
        assert torch.allclose(y[i], zonal_convolution(x[i], conv.kernel(a[i])), atol=1e-13)
    assert (conv.kernel(a)[0] - conv.kernel(a)[1]).abs().max() > 0.01
    assert conv.kernel(a).shape == (5, 3, 2, 3)


def test_unit_variance():
    irreps, parts = spherical_irreps(3, 32), []
    for seed in range(3):
        torch.manual_seed(seed)
        x, a = torch.randn(200, irreps.dim), torch.randn(200, 16)
        with torch.no_grad():
            results = SphereConv(irreps, 32)(x), ImplicitSphereConv(irreps, 32, irreps_attributes="16x0e")(x, a)
        parts.append([[float(p.square().mean()) for p in y.split([32, 96, 160, 224], 1)] for y in results])
    assert torch.tensor(parts).mean(0).flatten().tolist() == pytest.approx([1] * 8, rel=0.15)


def test_band_limits_in_and_out():
    """A higher band limit is filled with zeros, a lower one leaves degrees out."""
    x = torch.randn(4, 2 * 9, dtype=torch.float64)
    wide = SphereConv(spherical_irreps(2, 2), 3, l_max=4).double()
    narrow = SphereConv(spherical_irreps(2, 2), 3, l_max=1).double()
    assert wide(x).shape == (4, 75)
    assert (wide(x)[:, 27:] == 0).all()
    assert narrow(x).shape == (4, 12)
    assert wide.kernel().shape == (3, 2, 3)
    assert narrow.kernel().shape == (2, 2, 3)
    assert torch.allclose(narrow(x), zonal_convolution(x[:, :8], narrow.kernel()), atol=1e-13)


def test_empty_batches_and_leading_dimensions():
    conv, implicit = SphereConv("2x0e", 3), ImplicitSphereConv("2x0e", 3, irreps_attributes="1x0e")
    for batch in ((), (0,), (4,), (2, 0), (2, 3)):
        x, a = torch.randn(*batch, 2), torch.randn(*batch, 1)
        assert conv(x).shape == implicit(x, a).shape == (*batch, 3)


def test_gradients():
    conv = ImplicitSphereConv("2x0e + 2x1o", 2, irreps_attributes="1x0e", irreps_hidden="4x0e").double()
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    a = torch.randn(3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x, a))
    assert torch.autograd.gradgradcheck(conv, (x, a))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: SphereConv("2x0e + 1x1o", 3), "irreps_in must be signals on the sphere"),
        (lambda: SphereConv("2x0e", 0), "at least 1 output channel; got 0"),
        (lambda: SphereConv("2x0e", 1, l_max=-1), "l_max must be 0 or more; got -1"),
        (lambda: SphereConv("2x0e", 1)(torch.zeros(4, 3)), r"expected features of 2x0e, dimension 2; got \(4, 3\)"),
        (lambda: ImplicitSphereConv("1o", 3, irreps_attributes="0e"), "irreps_in must be signals on the sphere"),
        (
            lambda: ImplicitSphereConv("1x0e", 3, irreps_attributes="2x0e").kernel(torch.zeros(4, 3)),
            r"attributes must be of dimension 2; got shape \(4, 3\)",
        ),
        (lambda: zonal_convolution(torch.zeros(3, 8), torch.zeros(3, 2, 4)), r"got \(3, 8\) and \(3, 2, 4\)"),
        (lambda: zonal_convolution(torch.zeros(3, 8), torch.zeros(2, 4)), r"got \(3, 8\) and \(2, 4\)"),
        (
            lambda: zonal_convolution(torch.zeros(3, 8), torch.zeros(2, 2, 2, 4)),
            r"one kernel for all signals, or one for each, \(3,\); got \(2,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        action()
