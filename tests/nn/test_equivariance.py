"""Every module commutes with its group, in both precisions, and breaks what it should break."""

import itertools

import pytest
import torch

from ik_e3nn.nn import EquivariantBatchNorm, EquivariantLinear, EquivariantMLP, SphereActivation
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import assert_equivariant, assert_not_equivariant, equivariance_error
from tests.nn import modules


def randomized(module):
    """Biases and scales away from their starting values, so that they take part."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("group", modules.GROUPS)
@pytest.mark.parametrize("make", modules.EXACT, ids=lambda m: m.__name__)
def test_modules_commute_with_their_group(make, group, dtype):
    module = randomized(make(group)).to(dtype)
    types = modules.types_in(module)
    assert_equivariant(module, types, group=group, dtype=dtype, batch=5)
    x = [torch.randn(5, t.dim, dtype=dtype) for t in types]
    assert module(*x).dtype == dtype


@pytest.mark.parametrize("make", [modules.linear, modules.product, modules.square, modules.gated_mlp])
@pytest.mark.parametrize(
    ("group", "larger"), [("SO3", "O3"), ("SO2", "SO3"), ("C4v", "Cinfv"), ("Td", "Oh"), ("C1", "Cs")]
)
def test_smaller_groups_break_the_larger_symmetry(make, group, larger):
    module = randomized(make(group)).double()
    assert_not_equivariant(module, modules.types_in(module), group=larger, threshold=0.02)


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (1.0, -2.0, 0.5)])
def test_modules_follow_the_axis(axis):
    group = SymmetryGroup("C4v", axis=axis)
    module = randomized(modules.gated_mlp(group)).double()
    assert_equivariant(module)
    assert_not_equivariant(module, group="C4v")


def test_a_users_own_group():
    group = SymmetryGroup.from_generators(torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None])
    module = randomized(modules.gated_mlp(group)).double()
    assert_equivariant(module)
    assert_not_equivariant(module, group="D2")


def test_batch_norm_commutes_in_evaluation_too():
    module = EquivariantBatchNorm(modules.IRREPS).double()
    module(torch.randn(50, module.irreps_in.dim, dtype=torch.float64) * 3 + 1)
    assert_equivariant(randomized(module.eval()))


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_sphere_activation_is_exact_for_the_symmetry_of_its_grid(l_max):
    module = SphereActivation(3, l_max).double()
    assert_equivariant(module, group="Oh")
    for subgroup in ("C4v", "D2d", "T", "Ci"):
        assert_equivariant(module, group=subgroup)


def test_sphere_mlp_is_exact_for_subgroups_of_the_octahedral_one():
    for group in ("Oh", "Td", "C4v", "D2", "C1"):
        assert_equivariant(randomized(modules.sphere_mlp(group)).double())
    assert equivariance_error(modules.sphere_mlp("O3").double()) < 0.3  # up to the grid


def test_the_error_of_the_sphere_activation_falls_with_the_degree_of_its_grid():
    errors = [SphereActivation(1, 2, degree=d).equivariance_error(samples=64) for d in (5, 7, 11, 17, 31)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors)), errors
    assert errors[0] < 0.2
    assert errors[-1] < 2e-3


def test_the_reported_error_is_that_of_the_module():
    """The kit takes the worst number, the module the root mean square: they differ by a factor of a few."""
    module = SphereActivation(1, 2).double()
    worst = equivariance_error(module, group="O3", samples=32, batch=32)
    assert module.equivariance_error() < worst < 20 * module.equivariance_error()


def test_a_polynomial_on_a_fine_grid_is_exact():
    """A square of degree 2 L has no part beyond the grid."""
    module = SphereActivation(2, 2, degree=8, function=torch.square).double()
    assert_equivariant(module)
    assert module.equivariance_error() < 1e-13


def test_the_sphere_activation_is_the_function_at_each_point():
    """Against a dense quadrature of the definition."""
    from scipy.special import roots_legendre

    from ik_e3nn.basis import harmonics

    nodes, w = roots_legendre(60)
    phi = torch.arange(120, dtype=torch.float64) * 2 * torch.pi / 120
    z = torch.from_numpy(nodes)[:, None].expand(60, 120)
    s = (1 - z**2).sqrt()
    points = torch.stack([s * phi.cos(), s * phi.sin(), z], -1).reshape(-1, 3)
    weights = (torch.from_numpy(w)[:, None].expand(60, 120) / 240).reshape(-1)
    Y = harmonics(points, 2)
    x = torch.randn(6, 9, dtype=torch.float64)
    signal = torch.nn.functional.elu(x @ Y.T / 3)
    expected = signal @ (Y * weights[:, None])
    module = SphereActivation(1, 2, degree=65).double()
    found = module(x)
    for l in range(3):
        block = slice(l * l, (l + 1) ** 2)
        ratio = (found[:, block] * expected[:, block]).sum() / expected[:, block].square().sum()
        assert torch.allclose(found[:, block], ratio * expected[:, block], atol=2e-3)


@pytest.mark.parametrize("activation", ["gate", "sphere"])
def test_gradients_commute_too(activation):
    """The gradient of an invariant is equivariant: what forces rest on."""
    mlp = randomized(EquivariantMLP("1o + 2x0e", modules.SAME, "0e", "C4v", activation=activation)).double()

    def gradient(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(mlp(x).sum(), x)[0]

    assert_equivariant(gradient, "1o + 2x0e", "1o + 2x0e", "C4v")


def test_linear_is_linear_and_its_bias_invariant():
    linear = randomized(EquivariantLinear(modules.IRREPS, modules.IRREPS, "C4v", bias=True)).double()
    zero = torch.zeros(1, linear.irreps_in.dim, dtype=torch.float64)
    bias = linear(zero)
    assert bias.abs().max() > 0.1
    x, y = torch.randn(2, 4, linear.irreps_in.dim, dtype=torch.float64)
    assert torch.allclose(linear(2 * x - y) - bias, 2 * (linear(x) - bias) - (linear(y) - bias), atol=1e-12)
    # the bias has one number for each invariant of the output
    group = SymmetryGroup("C4v")
    assert linear.bias.weight.numel() == sum(mul * len(group.invariants(ir.l, ir.p)) for mul, ir in linear.irreps_out)
    assert EquivariantLinear("0e", "3x1o", "O3", bias=True).bias.weight.numel() == 0
