"""Normalization per irrep: the statistics it promises, and nothing from nothing."""

import pytest
import torch

from ik_e3nn.nn import EquivariantBatchNorm, EquivariantLayerNorm

IRREPS = "3x0e + 2x1o + 2x2e + 1x0o"


def scaled(rows):
    x = torch.randn(rows, 20, dtype=torch.float64) * torch.linspace(0.1, 5, 20, dtype=torch.float64)
    x[:, :3] += torch.tensor([1.0, -3.0, 0.5])
    return x


def fields(x, norm):
    return [x[:, s].unflatten(1, (mul, ir.dim)) for (mul, ir), s in zip(norm.irreps, norm.irreps.slices(), strict=True)]


def test_batch_norm_makes_unit_second_moments_and_centers_scalars():
    norm = EquivariantBatchNorm(IRREPS, eps=0).double()
    y = norm(scaled(500))
    for block in fields(y, norm):
        assert torch.allclose(block.square().mean((0, 2)), torch.ones(block.shape[1], dtype=torch.float64), atol=1e-10)
    assert y[:, :3].mean(0).abs().max() < 1e-12
    assert y[:, 3:].mean(0).abs().max() > 1e-3  # the mean of a vector field is not taken away, nor that of 0o


def test_batch_norm_keeps_running_statistics_for_evaluation():
    norm = EquivariantBatchNorm(IRREPS, momentum=1.0, eps=0).double()
    x = scaled(500)
    trained = norm(x)
    assert torch.allclose(norm.eval()(x), trained, atol=1e-12)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(scaled(10))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_running_statistics_converge():
    norm = EquivariantBatchNorm(IRREPS).double()
    for _ in range(100):
        norm(scaled(200))
    norm.eval()
    y = norm(scaled(4000))
    for block in fields(y, norm):
        assert torch.allclose(block.square().mean((0, 2)), torch.ones(block.shape[1], dtype=torch.float64), rtol=0.1)
    assert y[:, :3].mean(0).abs().max() < 0.1


def test_an_empty_batch_changes_nothing():
    norm = EquivariantBatchNorm(IRREPS).double()
    norm(scaled(100))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    assert norm(scaled(0)).shape == (0, 20)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert EquivariantLayerNorm(IRREPS)(torch.zeros(0, 20)).shape == (0, 20)


def test_layer_norm_normalizes_each_row_and_irrep_by_itself():
    norm = EquivariantLayerNorm(IRREPS, eps=0).double()
    x = scaled(50)
    y = norm(x)
    for block in fields(y, norm):
        assert torch.allclose(block.square().mean((1, 2)), torch.ones(50, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(norm(x[:1]), y[:1], atol=1e-14)
    assert torch.allclose(norm(7 * x), y, atol=1e-12)


@pytest.mark.parametrize("norm", [EquivariantBatchNorm(IRREPS), EquivariantLayerNorm(IRREPS)], ids=["batch", "layer"])
def test_zero_rows_are_finite_with_gradients(norm):
    x = torch.zeros(4, 20, requires_grad=True)
    y = norm(x)
    assert torch.isfinite(y).all()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(gradient).all()


def test_scales_and_shifts_are_learnable():
    batch, layer = EquivariantBatchNorm(IRREPS), EquivariantLayerNorm(IRREPS)
    assert sum(p.numel() for p in batch.parameters()) == 16
    assert sum(p.numel() for p in layer.parameters()) == 8
    assert not list(EquivariantBatchNorm(IRREPS, affine=False).parameters())
    assert not list(EquivariantLayerNorm(IRREPS, affine=False).parameters())
    with torch.no_grad():
        batch.beta.fill_(2.0)
        batch.gamma.fill_(3.0)
    y = batch(torch.randn(1000, 20))
    assert torch.allclose(y[:, :3].mean(0), torch.full((3,), 2.0), atol=1e-3)
    assert y[:, 3:].mean(0).abs().max() < 0.5  # only invariants are shifted
    assert torch.allclose(y[:, 3:6].square().mean(), torch.tensor(9.0), rtol=0.1)
