"""Standard normal input stays of unit variance at the start, through every module and through depth."""

import pytest
import torch
from e3nn import o3

from ik_e3nn import nn

GROUPS = ("O3", "SO2", "C4v", "C1")
WIDE = "32x0e + 32x1o + 32x2e"
SEEDS = 12


def moments(make, samples=400, seeds=SEEDS):
    """Second moment of every component, over samples, seeds and fields of an irrep: one tensor an irrep."""
    total = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        module = make()
        types = [module.irreps_in1, module.irreps_in2] if type(module) is nn.TensorProduct else [module.irreps_in]
        with torch.no_grad():
            y = module(*[torch.randn(samples, t.dim) for t in types])
        blocks = zip(module.irreps_out, module.irreps_out.slices(), strict=True)
        total.append([y[:, s].unflatten(1, (mul, ir.dim)).square().mean((0, 1)) for (mul, ir), s in blocks])
    return [torch.stack(t).mean(0) for t in zip(*total, strict=True)]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    "make",
    [
        lambda g: nn.EquivariantLinear("16x0e + 8x1o + 4x1e + 2x3o", "64x0e + 64x1o + 64x2e", g, bias=True),
        lambda g: nn.EquivariantLinear("5x1o + 3x2e", "64x1o + 64x2e", g),
        lambda g: nn.TensorProduct("8x0e + 8x1o", "8x0e + 8x1o + 8x2e", "32x0e + 32x1o + 32x2e", g),
        lambda g: nn.SelfTensorProduct("16x0e + 16x1o + 16x2e", "32x0e + 32x1o + 32x2e", g),
    ],
    ids=["linear", "linear without scalars", "tensor product", "square"],
)
def test_every_component_of_linear_maps_and_products(make, group):
    """Not only on average over an irrep: components that the group leaves invariant are no larger than others."""
    for component in moments(lambda: make(group)):
        assert torch.allclose(component[component > 0], torch.ones(()), rtol=0.25), component
        assert component.mean() == pytest.approx(1, rel=0.15) or bool((component == 0).all())


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Gate("64x0e + 64x1o + 64x2e"),
        lambda: nn.SphereProduct("64x0e + 64x1o + 64x2e", "64x0e + 64x1o + 64x2e", correlation=2),
        lambda: nn.SphereActivation(64, 2),
        lambda: nn.SphereActivation(64, 4),
        lambda: nn.EquivariantBatchNorm("64x0e + 64x1o + 64x2e"),
        lambda: nn.EquivariantLayerNorm("64x0e + 64x1o + 64x2e"),
    ],
    ids=["gate", "sphere product", "sphere 2", "sphere 4", "batch norm", "layer norm"],
)
def test_nonlinearities_and_normalizations(make):
    for component in moments(make, samples=1000, seeds=3):
        assert component.mean() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("activation", "layers"),
    [("gate", 1), ("gate", 3), ("gate", 10), ("sphere", 1), ("sphere", 3), ("sphere", 10), ("product", 3)],
)
def test_through_depth(layers, activation, group):
    """The typical size, a geometric mean over seeds, stays within a factor of 2 in networks 32 fields wide.

    Gates make scalars a little larger from layer to layer: SiLU is convex, so that what is large by chance grows.
    """
    logs = []
    for seed in range(SEEDS if activation != "product" else SEEDS // 3):  # products take longer
        torch.manual_seed(seed)
        mlp = nn.EquivariantMLP(WIDE, WIDE, WIDE, group, layers=layers, activation=activation)
        with torch.no_grad():
            y = mlp(torch.randn(64, mlp.irreps_in.dim))
        logs.append(torch.stack([y[:, s].square().mean() for s in mlp.irreps_out.slices()]).log())
    typical = torch.stack(logs).mean(0).exp()
    assert ((typical > 0.5) & (typical < 2)).all(), typical


@pytest.mark.parametrize("sizes", [[16, 64], [8, 64, 64, 32], [32] + [64] * 10])
def test_scalar_mlp(sizes):
    values = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        with torch.no_grad():
            values.append(nn.ScalarMLP(sizes)(torch.randn(200, sizes[0])).square().mean().log())
    assert 0.5 < float(torch.stack(values).mean().exp()) < (2 if len(sizes) < 10 else 3)  # see test_through_depth


def test_normalized_functions():
    z = torch.randn(2_000_000, dtype=torch.float64)
    assert nn.normalized_silu(z).square().mean() == pytest.approx(1, abs=5e-3)
    assert nn.normalized_silu(z).abs().max() > 1
    x = torch.linspace(-3, 3, 8, dtype=torch.float64)
    assert (nn.normalized_silu(x) / torch.nn.functional.silu(x)).std() < 1e-12


def test_outputs_are_all_alive():
    """No field of a hidden layer is zero for every input."""
    for group in GROUPS:
        mlp = nn.EquivariantMLP("8x0e + 4x1o", "8x0e + 8x1o", "8x0e + 8x1o", group, layers=4)
        y = mlp(torch.randn(64, 20))
        assert (y.square().mean(0) > 1e-3).all()
        assert o3.Irreps(mlp.irreps_out).dim == y.shape[1]
