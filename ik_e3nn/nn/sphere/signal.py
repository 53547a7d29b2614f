"""Signals on the sphere as flat features: conversion to one row per channel, band limits, truncation."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import spherical_irreps


def to_fields(x: Tensor, mul: int, l_max: int) -> Tensor:
    """Convert flat features (..., mul (l_max+1)^2) of ``spherical_irreps(l_max, mul)`` to (..., mul, (l_max+1)^2).

    Example:
        >>> to_fields(torch.tensor([1.0, 2, 11, 12, 13, 21, 22, 23]), 2, 1)
        tensor([[ 1., 11., 12., 13.],
                [ 2., 21., 22., 23.]])
    """
    blocks = x.split([mul * (2 * l + 1) for l in range(l_max + 1)], -1)
    return torch.cat([b.unflatten(-1, (mul, b.shape[-1] // mul)) for b in blocks], -1)


def from_fields(fields: Tensor, l_max: int) -> Tensor:
    """Convert fields (..., mul, (l_max+1)^2) to flat features (..., mul (l_max+1)^2), the inverse of ``to_fields``.

    Example:
        >>> from_fields(torch.tensor([[1.0, 11, 12, 13], [2, 21, 22, 23]]), 1)
        tensor([ 1.,  2., 11., 12., 13., 21., 22., 23.])
    """
    blocks = fields.split([2 * l + 1 for l in range(l_max + 1)], -1)
    return torch.cat([b.flatten(-2) for b in blocks], -1)


def band_limit(irreps: o3.Irreps | str, what: str) -> tuple[int, int]:
    """Multiplicity and l_max of signals on the sphere of type ``irreps``.

    Raises:
        ValueError: The type is not the same multiplicity of every harmonic up to some degree.

    Example:
        >>> band_limit("4x0e + 4x1o", "irreps_in")
        (4, 1)
    """
    irreps = o3.Irreps(irreps)
    mul, l_max = (irreps[0].mul, irreps.lmax) if len(irreps) else (1, 0)
    if irreps != spherical_irreps(l_max, mul):
        raise ValueError(
            f"{what} must be signals on the sphere, the same number of every harmonic, like "
            f"{spherical_irreps(2, 16)}; got {irreps}"
        )
    return mul, l_max


class SpectralPool(nn.Module):
    r"""Drop the high degrees of signals on the sphere: an exactly equivariant low-pass filter.

    .. math:: x_{lm} \mapsto x_{lm} \quad (l \le L_{out})

    Args:
        irreps_in: Type of the signals.
        l_max: Largest degree that is kept.

    Raises:
        ValueError: ``irreps_in`` is not a type of signals on the sphere, or l_max is negative or above theirs.

    Example:
        >>> pool = SpectralPool("4x0e + 4x1o + 4x2e", 1)
        >>> pool.irreps_out, pool(torch.randn(5, 36)).shape
        (4x0e+4x1o, torch.Size([5, 16]))
    """

    def __init__(self, irreps_in: o3.Irreps | str, l_max: int) -> None:
        super().__init__()
        mul, l_in = band_limit(irreps_in, "irreps_in")
        if not 0 <= l_max <= l_in:
            raise ValueError(f"spectral pooling keeps degrees up to an l_max of 0 to {l_in}; got {l_max}")
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), spherical_irreps(l_max, mul)
        self.dim_in, self.dim_out = self.irreps_in.dim, self.irreps_out.dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., irreps_in.dim) to (..., irreps_out.dim)."""
        if x.shape[-1] != self.dim_in:
            raise ValueError(f"expected signals of dimension {self.dim_in}; got shape {tuple(x.shape)}")
        return x[..., : self.dim_out]  # blocks of low degrees come first
