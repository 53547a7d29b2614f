"""At every point of a grid, a module of points does what it does to a list of them."""

import pytest
import torch

from ik_e3nn.nn import EquivariantBatchNorm, EquivariantLinear, Gate, OnGrid, SphereActivation
from ik_e3nn.testing import TOLERANCE, grid_equivariance_error, grid_symmetries

MODULES = {
    "gate": lambda: Gate("2x0e + 2x1o"),
    "norm": lambda: EquivariantBatchNorm("2x0e + 2x1o"),
    "linear": lambda: EquivariantLinear("2x0e + 2x1o", "1x0e + 2x1o", "C4v", bias=True),
    "sphere": lambda: SphereActivation(2, 1),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("memory", ["contiguous", "channels last"])
def test_it_is_the_module_at_every_point(name, dims, memory):
    on_grid = OnGrid(MODULES[name]()).double()
    x = torch.randn(2, on_grid.irreps_in.dim, *(3, 4, 2)[:dims], dtype=torch.float64)
    if memory == "channels last":
        x = x.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[dims - 2])
    y = on_grid(x)
    rows = torch.stack([x[b][(slice(None), *i)] for b in range(2) for i in _places(x)])
    expected = on_grid.module(rows)
    got = torch.stack([y[b][(slice(None), *i)] for b in range(2) for i in _places(x)])
    assert torch.allclose(got, expected, atol=1e-12)


def _places(x):
    return torch.cartesian_prod(*[torch.arange(n) for n in x.shape[2:]]).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODULES)
def test_it_commutes_with_the_symmetries_of_the_grid(name, dtype):
    on_grid = OnGrid(MODULES[name]()).to(dtype)
    x = torch.randn(2, on_grid.irreps_in.dim, 4, 4, dtype=dtype)
    elements = grid_symmetries("C4v", 2)
    error = grid_equivariance_error(on_grid, on_grid.irreps_in, on_grid.irreps_out, elements, features=x)
    assert error < TOLERANCE[dtype]


def test_results_lie_in_memory_point_by_point():
    gate = OnGrid(Gate("2x0e + 2x1o"))
    y = gate(torch.randn(2, 10, 5, 4))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_empty_batches():
    assert OnGrid(Gate("2x0e + 2x1o"))(torch.zeros(0, 10, 5, 4)).shape == (0, 8, 5, 4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="a module on a grid must have irreps_in and irreps_out; ReLU lacks one"):
        OnGrid(torch.nn.ReLU())
    with pytest.raises(ValueError, match=r"features must have shape \(B, 10, grid...\) for .*; got \(2, 9, 5, 5\)"):
        OnGrid(Gate("2x0e + 2x1o"))(torch.zeros(2, 9, 5, 5))
