"""What kernels are besides equivariant: their limits, special cases, ends in space, and errors."""

import copy

import pytest
import torch
from e3nn import o3

from ik_e3nn.basis import BesselBasis, BondBasis, PolynomialBasis, RadialHarmonicBasis, harmonics, smooth_envelope
from ik_e3nn.conv import PointConv
from ik_e3nn.kernels import AnalyticKernel, ImplicitKernel, RadialKernel, ResidualKernel, SeparableFilter
from ik_e3nn.symmetry import SymmetryGroup

R_MAX = 4.0


def bessel(l_max=2, num=3):
    return RadialHarmonicBasis(BesselBasis(R_MAX, num), l_max)


def make(kind, attributes="2x0e + 1x1o"):
    if kind.startswith("implicit"):
        activation = kind.removeprefix("implicit ")
        return ImplicitKernel(attributes, "4x0e + 4x1o + 4x2e", "C4v", basis=bessel(), activation=activation)
    if kind == "residual":
        basis = bessel()
        return ResidualKernel(ImplicitKernel(attributes, basis.irreps_out, "C4v", basis=basis))
    if kind == "analytic":
        return AnalyticKernel(attributes, "C4v", basis=bessel())
    return RadialKernel("2x0e", 4, radial=BesselBasis(R_MAX, 3), l_max=2)


KINDS = ("implicit product", "implicit gate", "implicit sphere", "analytic", "radial", "residual")


def fields_of(kernel, vectors, attributes):
    h = kernel(vectors, attributes)
    return h.fields() if isinstance(h, SeparableFilter) else h


def arguments(kernel, edges, dtype=torch.float64):
    return torch.randn(edges, 3, dtype=dtype), torch.randn(edges, kernel.irreps_attributes.dim, dtype=dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_exactly_zero_from_the_cutoff_on(kind):
    kernel = make(kind).double()
    direction = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64))
    a = torch.randn(5, kernel.irreps_attributes.dim, dtype=torch.float64)
    inside, edge, outside = (fields_of(kernel, s * direction, a) for s in (R_MAX / 2, R_MAX * (1 - 1e-4), R_MAX + 1e-9))
    assert inside.abs().max() > 0.01
    assert 0 < edge.abs().max() < 1e-7 * inside.abs().max() * 100
    assert torch.equal(outside, torch.zeros_like(outside))


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_twice_differentiable_also_at_zero_distance(kind):
    kernel = make(kind).double()
    vectors, attributes = arguments(kernel, 4)
    vectors[0] = 0
    vectors.requires_grad_()
    h = fields_of(kernel, vectors, attributes)
    (first,) = torch.autograd.grad(h.square().sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), vectors)
    assert torch.isfinite(torch.stack([first, second])).all()
    assert first[1:].abs().max() > 1e-6
    v, a = vectors[1:].detach().requires_grad_(), attributes[1:].requires_grad_()
    assert torch.autograd.gradcheck(lambda v, a: fields_of(kernel, v, a), (v, a), fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_edges(kind):
    kernel = make(kind)
    h = fields_of(kernel, *arguments(kernel, 0, torch.float32))
    assert h.shape == (0, kernel.irreps_filter.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_edges_do_not_feel_each_other(kind):
    kernel = make(kind).double()
    vectors, attributes = arguments(kernel, 6)
    together = fields_of(kernel, vectors, attributes)
    alone = torch.cat([fields_of(kernel, vectors[i : i + 1], attributes[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_matter_unless_there_are_none(kind):
    kernel = make(kind).double()
    vectors, attributes = arguments(kernel, 4)
    a, b = fields_of(kernel, vectors, attributes), fields_of(kernel, vectors, attributes + 1)
    assert (a - b).abs().max() > 1e-3
    if kind != "radial":
        plain = make(kind, attributes="").double()
        assert plain(vectors).shape == (4, plain.irreps_filter.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_attributes_are_refused(kind):
    kernel = make(kind)
    with pytest.raises(
        ValueError, match=r"this kernel needs attributes of type .*2x0e.*got a tensor of shape \(3, 9\)"
    ):
        kernel(torch.randn(3, 3), torch.randn(3, 9))
    with pytest.raises(ValueError, match=r"this kernel needs attributes of type .*got a tensor of shape \(3, 0\)"):
        kernel(torch.randn(3, 3))
    with pytest.raises(ValueError, match=r"edge vectors must have shape \(E, 3\); got \(3, 2\)"):
        kernel(torch.randn(3, 2), torch.randn(3, kernel.irreps_attributes.dim))


@pytest.mark.parametrize("kind", KINDS)
def test_constants_are_exact_and_the_ambient_dtype_does_not_matter(kind):
    kernel = make(kind).double()
    state = copy.deepcopy(kernel.state_dict())
    x = arguments(kernel, 5)
    expected = fields_of(kernel, *x)
    kernel.float().double().load_state_dict(state)
    assert torch.equal(fields_of(kernel, *x), expected)
    torch.set_default_dtype(torch.float64)
    try:
        other = make(kind)
        other.load_state_dict(state)
        assert torch.equal(fields_of(other, *x), expected)
        assert fields_of(other.float(), *[a.float() for a in x]).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_depth_0_is_the_analytic_kernel_through_one_linear_map():
    kernel = ImplicitKernel("1x1o", "2x0e + 2x1o", "C4v", basis=bessel(), depth=0).double()
    analytic = AnalyticKernel("1x1o", "C4v", basis=bessel()).double()
    vectors, a = arguments(kernel, 6)
    linear = kernel.first
    assert torch.allclose(kernel(vectors, a), linear(analytic(vectors, a)), atol=1e-12)
    assert kernel(vectors, a).abs().max() > 0.1


def test_with_scalars_alone_the_kernel_of_o3_is_radial():
    """h_l(r) = R_l(|r|) Y_l(r): end of section 4 of the paper, and what RadialKernel rests on."""
    kernel = ImplicitKernel("2x0e", "2x0e + 2x1o + 2x2e", "O3", basis=bessel(), depth=2, activation="gate").double()
    direction = torch.nn.functional.normalize(torch.randn(30, 3, dtype=torch.float64))
    attributes = torch.randn(1, 2, dtype=torch.float64).expand(30, 2)
    h = kernel(1.7 * direction, attributes)
    Y = harmonics(direction, 2)
    start = 0
    for l in range(3):
        y = Y[:, l * l : (l + 1) ** 2]
        for _ in range(2):
            field = h[:, start : start + 2 * l + 1]
            R = (field * y).sum(1) / (2 * l + 1)
            assert R.std() < 1e-12
            assert (field - R[:, None] * y).abs().max() < 1e-12
            assert R.abs().max() > 1e-3
            start += 2 * l + 1


def test_for_smaller_groups_or_steerable_attributes_it_is_not():
    direction = torch.nn.functional.normalize(torch.randn(30, 3, dtype=torch.float64))
    normal = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(30, 3)
    for attributes, group, activation in (("", "Cinfv", "gate"), ("1x1o", "O3", "sphere"), ("1x1o", "O3", "product")):
        kernel = ImplicitKernel(attributes, "2x0e + 2x1o", group, basis=bessel(), activation=activation).double()
        h = kernel(1.7 * direction, normal if attributes else None)
        assert h[:, 0].std() > 0.01  # a scalar that depends on the direction


def test_radial_kernels_in_factors_and_as_fields():
    kernel = RadialKernel("2x0e", 3, radial=BesselBasis(R_MAX, 4), l_max=2, hidden=(8, 8)).double()
    vectors, attributes = arguments(kernel, 5)
    h = kernel(vectors, attributes)
    assert h.radial.shape == (5, 3, 3)
    r = vectors.norm(dim=1, keepdim=True)
    assert torch.allclose(h.harmonics, harmonics(vectors, 2), atol=1e-13)
    fields = h.fields()
    for l, start in ((0, 0), (1, 3), (2, 12)):
        for c in range(3):
            block = fields[:, start + c * (2 * l + 1) :][:, : 2 * l + 1]
            assert torch.allclose(block, h.radial[:, l, c : c + 1] * h.harmonics[:, l * l : (l + 1) ** 2], atol=1e-14)
    window = smooth_envelope(r / R_MAX)
    unwindowed = kernel.mlp(torch.cat([kernel.radial(r), attributes], 1))
    assert torch.allclose(h.radial.flatten(1), unwindowed * window, atol=1e-13)


def test_batch_norm_of_the_kernels_input():
    kernel = ImplicitKernel("", "4x0e + 4x1o", "O3", basis=PolynomialBasis(2), batch_norm=True, activation="gate")
    vectors = 5 * torch.randn(500, 3)
    normed = kernel.norm(kernel.basis(vectors)[0])
    for s in kernel.basis.irreps_out.slices()[1:]:
        assert normed[:, s].square().mean().item() == pytest.approx(1, rel=0.01)
    kernel.eval()
    assert torch.allclose(kernel(vectors)[:3], kernel(vectors[:3]), atol=1e-6)


@pytest.mark.parametrize("mode", ["full", "depthwise"])
@pytest.mark.parametrize("kind", ["implicit product", "implicit gate", "implicit sphere", "radial"])
def test_a_random_layer_keeps_unit_variance(kind, mode):
    """Over vectors with uniform lengths, up to the mean square of the window that ends the kernel."""
    ratios = []
    for seed in range(8):
        torch.manual_seed(seed)
        kernel = make(kind)
        conv = PointConv("4x0e + 4x1o + 4x2e", "16x0e + 16x1o + 16x2e", kernel, mode)
        edges = 1000
        lengths = R_MAX * torch.rand(edges, 1)
        vectors = lengths * torch.nn.functional.normalize(torch.randn(edges, 3))
        _, a = arguments(kernel, edges, torch.float32)
        x = torch.randn(edges, conv.irreps_in.dim)
        pairs = torch.arange(edges).expand(2, -1)
        with torch.no_grad():
            y = conv(x, pairs, kernel(vectors, a))
        window = smooth_envelope(lengths / R_MAX).square().mean()
        ratios.append(torch.stack([y[:, s].square().mean() for s in conv.irreps_out.slices()]) / window)
    typical = torch.stack(ratios).log().mean(0).exp()
    assert ((typical > 0.5) & (typical < 2)).all(), typical


def test_matrix_is_the_convolution_of_one_edge():
    kernel = make("implicit gate").double()
    conv = PointConv("1x0e + 2x1o", "2x0e + 1x2e", kernel).double()
    vectors, a = arguments(kernel, 3)
    K = kernel.matrix(conv, vectors, a)
    x = torch.randn(3, 7, dtype=torch.float64)
    y = conv(x, torch.arange(3).expand(2, -1), kernel(vectors, a))
    assert torch.allclose(y, torch.einsum("eoi,ei->eo", K, x), atol=1e-12)


def test_impossible_kernels_are_refused():
    with pytest.raises(ValueError, match=r"depth of a kernel must be 0 \(analytic\) or more; got -1"):
        ImplicitKernel("", "0e", basis=bessel(), depth=-1)
    with pytest.raises(
        ValueError, match="grid_degree sets the grid of the sphere activation and has no effect on 'gate'"
    ):
        ImplicitKernel("", "4x0e", basis=PolynomialBasis(1), activation="gate", grid_degree=11)
    with pytest.raises(ValueError, match="the sphere activation needs the same number of every harmonic"):
        ImplicitKernel("", "4x0e + 2x1o", basis=bessel(), activation="sphere")
    with pytest.raises(
        ValueError, match=r"needs one multiplicity for every irrep.*got 4x0e\+2x1o.*take activation='gate'"
    ):
        ImplicitKernel("", "4x0e + 2x1o", basis=bessel())
    with pytest.raises(ValueError, match="activation must be 'gate', 'sphere' or 'product'; got 'relu'"):
        ImplicitKernel("", "4x0e", basis=bessel(), activation="relu")
    with pytest.raises(ValueError, match="unknown symmetry group"):
        AnalyticKernel("", "nonsense", basis=bessel())


def test_groups_may_be_given_as_objects():
    """A kernel of a group object is steerable under this group, and under no other of the same name."""
    group = SymmetryGroup("C4v", axis=(1, 1, 0))
    kernel = ImplicitKernel("", "4x0e + 4x1o", group, basis=bessel(), activation="gate").double()
    vectors, _ = arguments(kernel, 6)
    h = kernel(vectors)

    def error(g):
        D = torch.block_diag(*[torch.eye(4, dtype=g.dtype), *[g] * 4])
        return (kernel(vectors @ g.T) - h @ D.T).abs().max()

    assert max(error(g.double()) for g in group.random_elements(6)) < 1e-10
    assert max(error(g.double()) for g in SymmetryGroup("C4v").random_elements(6)) > 1e-2


def test_a_radial_kernel_takes_scalar_attributes_alone():
    with pytest.raises(ValueError, match=r"attributes of a radial kernel must be scalars, like 4x0e; got 2x0e\+1x1o: "):
        RadialKernel("2x0e + 1x1o", 4, radial=BesselBasis(R_MAX, 3))


def test_a_radial_kernel_without_hidden_layers_is_the_standard_kernel():
    """Linear combinations of windows times harmonics, for bonds of any length."""
    basis = BondBasis(5)
    kernel = RadialKernel("", 3, radial=basis, l_max=2, hidden=()).double()
    vectors = torch.randn(20, 3, dtype=torch.float64)
    windows = basis(vectors.norm(dim=1, keepdim=True))
    weights = kernel.mlp.weights[0].view(6, 3, 3) / 6**0.5  # window, degree, field
    for l in range(3):
        Y = o3.spherical_harmonics(l, vectors, normalize=True, normalization="component")
        expected = torch.einsum("en,nc,em->ecm", windows, weights[:, l], Y).flatten(1)
        found = kernel(vectors).fields()[:, 3 * l * l : 3 * (l + 1) ** 2]
        assert torch.allclose(found, expected, rtol=1e-12)
    assert kernel(100 * vectors).fields().detach().abs().max() > 0.1


def test_a_residual_kernel_is_the_sum_of_the_implicit_and_the_analytic_one():
    kernel = make("residual").double()
    vectors, attributes = arguments(kernel, 5)
    implicit = kernel.implicit(vectors, attributes)
    analytic = AnalyticKernel("", "C4v", basis=kernel.basis)(vectors)
    assert analytic.abs().max() > 0.1
    torch.testing.assert_close(kernel(vectors, attributes), analytic + kernel.share * implicit, rtol=1e-14, atol=1e-14)
    kernel(vectors, attributes).square().sum().backward()
    expected = 2 * (implicit * (analytic + kernel.share * implicit)).sum()
    torch.testing.assert_close(kernel.share.grad, expected.detach(), rtol=1e-12, atol=1e-12)


def test_a_residual_kernel_needs_fields_of_the_type_of_its_basis():
    with pytest.raises(ValueError, match="have the type of its basis, 3x0e.*got a kernel with irreps_filter 4x0e"):
        ResidualKernel(ImplicitKernel("", "4x0e + 4x1o + 4x2e", "C4v", basis=bessel()))
