"""Equivariance of one convolution at angles that are no symmetry of the grid, on smooth fields.

Fields are sums of Gaussians, known at every point, so that no interpolation is needed. The convolution is applied to
patches around points of the original field and around the rotated points of the rotated field.
"""

import math
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.basis import PolynomialBasis
from ik_e3nn.conv import GridConv, Stencil
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.symmetry.named import rotation
from ik_e3nn.testing import representation

IRREPS_IN, IRREPS_OUT = "1x0e + 1x1o", "1x0e + 1x1o + 1x2e"
SIZES = (3, 5, 7, 9, 11)
SIGMAS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
WIDTHS = (1.0, 2.0)
GROUP = "SO2"
CENTERS, PLACES, ANGLES, SEEDS = 24, 64, 6, 3
Row = dict[str, Any]


def make_conv(size: int, sigma: float, seed: int) -> GridConv:
    """A random kernel, the same for the same seed, with a Gaussian window of width sigma pixels."""
    torch.manual_seed(seed)
    basis = PolynomialBasis(2, sigma=1.0)  # lengths in units of the width of the window
    kernel = ImplicitKernel("", "4x0e + 4x1o + 4x2e", GROUP, basis=basis, depth=1, activation="gate")
    stencil = Stencil(size, spacing=1 / sigma)
    return GridConv(IRREPS_IN, IRREPS_OUT, kernel, stencil=stencil, padding=0).double().eval()


def field(places: Tensor, centers: Tensor, values: Tensor, width: float) -> Tensor:
    """Sum of Gaussians at places (..., 2): (..., dim)."""
    squares = (places[..., None, :] - centers).square().sum(-1)
    return torch.exp(-0.5 * squares / width**2) @ values


def response(conv: GridConv, places: Tensor, centers: Tensor, values: Tensor, width: float) -> Tensor:
    """The convolution of the field at places (n, 2), which need not be on a grid: (n, dim)."""
    ticks = torch.arange(conv.stencil.size, dtype=torch.float64) - (conv.stencil.size - 1) / 2
    steps = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1)
    patches = field(places[:, None, None] + steps, centers, values, width)
    with torch.no_grad():
        return conv(patches.movedim(-1, 1))[:, :, 0, 0]


def measure(size: int, sigma: float, width: float) -> Row:
    """Root mean square of F(g f)(g x) - D(g) F(f)(x), over the root mean square of F."""
    errors, sizes = [], []
    for seed in range(SEEDS):
        conv = make_conv(size, sigma, seed)
        generator = torch.Generator().manual_seed(seed)
        centers = 12 * torch.rand(CENTERS, 2, generator=generator, dtype=torch.float64) - 6
        values = torch.randn(CENTERS, o3.Irreps(IRREPS_IN).dim, generator=generator, dtype=torch.float64)
        places = 8 * torch.rand(PLACES, 2, generator=generator, dtype=torch.float64) - 4
        plain = response(conv, places, centers, values, width)
        sizes.append(plain.square().mean())
        for angle in (0.5 * math.pi * torch.rand(ANGLES, generator=generator, dtype=torch.float64)).tolist():
            g = rotation((0.0, 0.0, 1.0), angle)
            D_in, D_out = representation(IRREPS_IN, g), representation(IRREPS_OUT, g)
            turn = g[:2, :2].T
            moved = response(conv, places @ turn, centers @ turn, values @ D_in.T, width)
            errors.append((moved - plain @ D_out.T).square().mean())
    error = (torch.stack(errors).mean() / torch.stack(sizes).mean()).sqrt()
    return {"size": size, "sigma": sigma, "field_width": width, "group": GROUP, "error": float(error)}
