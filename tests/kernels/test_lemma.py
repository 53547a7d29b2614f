"""Lemma 1: if the network that makes a kernel commutes with G, so does the kernel; and it breaks what is not in G.

K(g r, g a) = D_out(g) K(r, a) D_in(g)^-1 for all g in G.
"""

import random

import pytest
import torch
from e3nn import o3

from ik_e3nn.basis import BesselBasis, GaussianBasis, PolynomialBasis, RadialHarmonicBasis
from ik_e3nn.conv import PointConv
from ik_e3nn.kernels import AnalyticKernel, ImplicitKernel, RadialKernel
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import TOLERANCE, representation
from tests.symmetry import textbook

ATTRIBUTES = "2x0e + 1x1o + 1x1e"
EDGES = 4


def violation(kernel, conv, g, dtype):
    """Largest error of Lemma 1 at one element, over the root mean square of the kernel."""
    generator = torch.Generator().manual_seed(1)
    r = torch.randn(EDGES, 3, generator=generator, dtype=torch.float64)
    r = 1.5 * r / r.norm(dim=1, keepdim=True) * (0.5 + torch.rand(EDGES, 1, generator=generator, dtype=torch.float64))
    a = torch.randn(EDGES, kernel.irreps_attributes.dim, generator=generator, dtype=torch.float64)
    D_a, D_in, D_out = (representation(t, g) for t in (kernel.irreps_attributes, conv.irreps_in, conv.irreps_out))
    with torch.no_grad():
        K = kernel.matrix(conv, r.to(dtype), a.to(dtype))
        moved = kernel.matrix(conv, (r @ g.T).to(dtype), (a @ D_a.T).to(dtype))
    assert K.dtype == dtype
    assert K.shape == (EDGES, conv.irreps_out.dim, conv.irreps_in.dim)
    size = K.double().square().mean().sqrt()
    assert size > 1e-3
    return float((moved.double() - D_out @ K.double() @ D_in.T).abs().max() / size)


def random_irreps(source):
    """Two different irreps up to l = 3, of any parity, but no 0e."""
    pool = ["0o", "1e", "1o", "2e", "2o", "3e", "3o"]
    return o3.Irreps([(source.randint(1, 2), ir) for ir in source.sample(pool, 2)])


def random_kernel(name, seed, depth=2, activation="gate"):
    source = random.Random(f"{name} {seed}")
    hidden = f"3x0e + 2x1o + 2x3e + {random_irreps(source)}"
    basis = source.choice(
        [RadialHarmonicBasis(BesselBasis(3.0, 3), 2), RadialHarmonicBasis(GaussianBasis(3.0, 3), 1), PolynomialBasis(3)]
    )
    return ImplicitKernel(ATTRIBUTES, hidden, name, basis=basis, depth=depth, activation=activation), source


def randomize(*modules):
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)


@pytest.mark.parametrize("name", textbook.ALL)
def test_implicit_kernels_of_every_named_group(name):
    kernel, source = random_kernel(name, 0)
    # with l = 3 on both sides, the icosahedral groups (invariant at l = 6) differ from SO(3) and O(3)
    irreps_in, irreps_out = f"1x1o + 1x3e + {random_irreps(source)}", f"1x1e + 1x3o + {random_irreps(source)}"
    conv = PointConv(irreps_in, irreps_out, kernel)
    randomize(kernel, conv)
    group, inversion = SymmetryGroup(name), -torch.eye(3, dtype=torch.float64)
    inverts = textbook.contains(name, inversion[None], _elements(group))
    for dtype in (torch.float32, torch.float64):
        kernel, conv = kernel.to(dtype), conv.to(dtype)
        for g in group.random_elements(3, torch.Generator().manual_seed(2)):
            assert violation(kernel, conv, g, dtype) < TOLERANCE[dtype]
        if name not in ("O3", "SO3"):
            outside = SymmetryGroup("SO3").random_elements(1, torch.Generator().manual_seed(3))[0]
            assert violation(kernel, conv, outside, dtype) > 0.1
        if name != "S16" and not inverts:  # S16 feels it at l = 8
            assert violation(kernel, conv, inversion, dtype) > 0.1


def _elements(group):
    return textbook.all_elements(group) if group.is_finite else None


@pytest.mark.parametrize("mode", ["full", "depthwise"])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("name", ["O3", "SO3", "SO2", "Dinfh", "C5v", "S6", "Th", "I", "C1"])
def test_any_depth_and_both_modes(name, depth, mode):
    basis = RadialHarmonicBasis(BesselBasis(3.0, 2), 2)
    axis = (1.0, -0.3, 2.0)
    group = SymmetryGroup(name, axis=axis)
    kernel = ImplicitKernel(ATTRIBUTES, "2x0e + 2x1o + 2x2e", group, basis=basis, depth=depth, activation="gate")
    conv = PointConv("2x0e + 2x1o", "3x0e + 2x1o + 1x2o", kernel, mode)
    randomize(kernel, conv)
    kernel, conv = kernel.double(), conv.double()
    for g in group.random_elements(3, torch.Generator().manual_seed(2)):
        assert violation(kernel, conv, g, torch.float64) < TOLERANCE[torch.float64]
    if name not in ("O3", "SO3", "I"):  # I differs from SO(3) only where l reaches 6
        outside = SymmetryGroup("SO3").random_elements(1, torch.Generator().manual_seed(3))[0]
        assert violation(kernel, conv, outside, torch.float64) > 0.1


@pytest.mark.parametrize("name", ["O3", "SO2", "C4v", "T"])
def test_analytic_kernels(name):
    basis = RadialHarmonicBasis(BesselBasis(3.0, 2), 2)
    kernel = AnalyticKernel(ATTRIBUTES, name, basis=basis)
    conv = PointConv("1x0e + 2x1o", "1x0e + 1x1o + 1x2e", kernel)
    kernel, conv = kernel.double(), conv.double()
    for g in SymmetryGroup(name).random_elements(3, torch.Generator().manual_seed(2)):
        assert violation(kernel, conv, g, torch.float64) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("mode", ["full", "depthwise"])
def test_radial_kernels(mode, dtype):
    kernel = RadialKernel("3x0e", 2, radial=BesselBasis(3.0, 4), l_max=2).to(dtype)
    conv = PointConv("2x0e + 2x1o", "1x0e + 1x1o + 2x2e", kernel, mode).to(dtype)
    for g in SymmetryGroup("O3").random_elements(4, torch.Generator().manual_seed(2)):
        assert violation(kernel, conv, g, dtype) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["C1", "Cs", "C2v", "C4v", "D2d", "S4", "Td", "O", "Oh"])
def test_sphere_activations_are_exact_for_subgroups_of_their_grid(name):
    kernel = ImplicitKernel(
        ATTRIBUTES, "3x0e + 3x1o + 3x2e", name, basis=PolynomialBasis(2), depth=2, activation="sphere"
    ).double()
    conv = PointConv("1x0e + 1x1o", "1x0e + 1x1o + 1x2e", kernel).double()
    for g in SymmetryGroup(name).random_elements(3, torch.Generator().manual_seed(2)):
        assert violation(kernel, conv, g, torch.float64) < TOLERANCE[torch.float64]


def test_sphere_activations_are_nearly_so_for_all_rotations():
    kernel = ImplicitKernel(
        "", "8x0e + 8x1o + 8x2e", "O3", basis=PolynomialBasis(2), depth=2, activation="sphere"
    ).double()
    conv = PointConv("1x0e + 1x1o", "1x0e + 1x1o + 1x2e", kernel).double()
    errors = [violation(kernel, conv, g, torch.float64) for g in SymmetryGroup("O3").random_elements(5)]
    assert 1e-8 < max(errors) < 0.6  # the worst entry, over the root mean square


def test_the_larger_group_may_be_asked_for_nothing_else():
    """A kernel made for C4v at random does not happen to have the symmetry of Cinfv or C8v."""
    kernel, _ = random_kernel("C4v", 0)
    conv = PointConv("1x0e + 1x1o", "1x0e + 1x1o + 1x2e", kernel).double()
    kernel = kernel.double()
    eighth = SymmetryGroup("C8").generators[0]
    assert violation(kernel, conv, eighth @ eighth, torch.float64) < TOLERANCE[torch.float64]
    assert violation(kernel, conv, eighth, torch.float64) > 0.01
