"""Pooling is one isotropic blur for all components, taken at every stride-th point."""

import pytest
import torch
from scipy.ndimage import correlate

from ik_e3nn.conv import GridPool, Stencil
from ik_e3nn.testing import TOLERANCE, grid_equivariance_error, grid_symmetries

IRREPS = "2x0e + 1x1o"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "points"), [(4, 8), (3, 7), (2, 6)])
def test_it_commutes_with_the_cubes_group(dims, dtype, size, points):
    pool = GridPool(IRREPS, stencil=Stencil(size, dims=dims)).to(dtype)
    x = torch.randn(2, 5, *(points,) * dims, dtype=dtype)
    error = grid_equivariance_error(pool, IRREPS, IRREPS, grid_symmetries("Oh", dims), features=x)
    assert error < TOLERANCE[dtype]
    assert pool(x).shape[2:] == ((points + 1) // 2,) * dims


def test_it_is_scipys_correlation_at_every_second_point():
    pool = GridPool("0e", stencil=Stencil(5), sigma=1.3, padding=2).double()
    x = torch.randn(1, 1, 9, 9, dtype=torch.float64)
    t = torch.arange(-2.0, 3.0, dtype=torch.float64)
    square = t[:, None] ** 2 + t**2
    gaussian = torch.exp(-square / 2 / 1.3**2) * (square <= 6.25)
    blurred = correlate(x[0, 0].numpy(), (gaussian / gaussian.sum()).numpy(), mode="constant")
    assert torch.allclose(pool(x)[0, 0], torch.from_numpy(blurred)[::2, ::2], atol=1e-14)


def test_far_from_the_border_constants_stay():
    pool = GridPool("0e")
    y = pool(torch.full((1, 1, 10, 10), 3.0))
    assert torch.allclose(y[..., 1:-1, 1:-1], torch.tensor(3.0))


def test_empty_batches():
    pool = GridPool(IRREPS)
    assert pool(torch.zeros(0, 5, 8, 8)).shape == (0, 5, 4, 4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"features must have shape \(B, 5, X, Y\) for 2x0e\+1x1o; got \(1, 4, 8, 8\)"):
        GridPool(IRREPS)(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="leaves out 1 on one side only"):
        GridPool(IRREPS)(torch.zeros(1, 5, 9, 9))
    with pytest.raises(ValueError, match="pooling needs a stride of 1 or more, a positive sigma and a padding of 0"):
        GridPool(IRREPS, sigma=0.0)
