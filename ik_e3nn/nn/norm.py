"""Normalization per irrep."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.nn.layout import Block, layout


def _squares(x: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    """Mean square over m of every field: (N, irreps.dim) -> (N, irreps.num_irreps)."""
    return torch.cat([x[:, b.place].unflatten(1, (b.mul, b.dim)).square().mean(2) for b in blocks], 1)


def _expand(scale: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    """Repeat a number per field over its m: (..., irreps.num_irreps) -> (..., irreps.dim)."""
    pieces = scale.split([b.mul for b in blocks], -1)
    return torch.cat([p.repeat_interleave(b.dim, -1) for p, b in zip(pieces, blocks, strict=True)], -1)


class EquivariantBatchNorm(nn.Module):
    r"""Divide every field by its root mean square over the batch; scalars (0e) are centered first.

    .. math:: x_k \mapsto \gamma_k \, x_k \big/ \sqrt{\langle |x_k|^2/\dim k \rangle + \epsilon}\;
              (+ \beta_k \text{ for } 0e)

    In evaluation the averages are running ones. An empty batch does not change them.

    Args:
        irreps: Type of the features.
        momentum: Weight of a new batch in the running averages.
        affine: Learn gamma and beta.
        eps: Added to the mean square.

    Reference:
        Zhdanov et al., NeurIPS 2023, appendix B.1 (harmonics are normalized per irrep).

    Example:
        >>> EquivariantBatchNorm("2x0e + 1o")(torch.randn(10, 5)).shape
        torch.Size([10, 5])
    """

    is_scalar: Tensor
    running_mean: Tensor
    running_square: Tensor

    def __init__(
        self, irreps: o3.Irreps | str, *, momentum: float = 0.1, affine: bool = True, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = self.irreps = o3.Irreps(irreps)
        self.blocks = layout(self.irreps)
        self.momentum, self.eps = momentum, eps
        scalar = torch.cat([torch.full((mul,), float(ir == o3.Irrep("0e"))) for mul, ir in self.irreps])
        self.register_buffer("is_scalar", scalar, persistent=False)
        self.register_buffer("running_mean", torch.zeros(self.irreps.num_irreps))
        self.register_buffer("running_square", torch.ones(self.irreps.num_irreps))
        self.gamma = nn.Parameter(torch.ones(self.irreps.num_irreps)) if affine else None
        self.beta = nn.Parameter(torch.zeros(self.irreps.num_irreps)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, irreps.dim) to the same shape."""
        mean, square = self.running_mean, self.running_square
        if self.training:
            mean, square = self._update(x)
        gamma = torch.rsqrt(square + self.eps)
        if self.gamma is not None:
            gamma = gamma * self.gamma
        shift = -mean * gamma
        if self.beta is not None:
            shift = shift + self.beta * self.is_scalar
        return x * _expand(gamma, self.blocks) + _expand(shift, self.blocks)

    def _update(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square (irreps.num_irreps,) of the batch; updates the running averages with them."""
        count = max(x.shape[0], 1)
        # equivariance allows to subtract the mean of 0e only
        sums = torch.cat([x[:, b.place].unflatten(1, (b.mul, b.dim)).sum((0, 2)) for b in self.blocks])
        mean = sums / count * self.is_scalar
        square = _squares(x - _expand(mean, self.blocks), self.blocks).sum(0) / count
        rate = self.momentum * min(x.shape[0], 1)
        with torch.no_grad():
            self.running_mean.lerp_(mean, rate)
            self.running_square.lerp_(square, rate)
        return mean, square


class EquivariantLayerNorm(nn.Module):
    r"""Divide the fields of each irrep, point by point, by their common root mean square.

    .. math:: x_{uk} \mapsto \gamma_{uk} \, x_{uk} \big/
              \sqrt{\tfrac{1}{U}\textstyle\sum_u |x_{uk}|^2/\dim k + \epsilon}

    Args:
        irreps: Type of the features.
        affine: Learn gamma.
        eps: Added to the mean square; keeps the map smooth at zero.

    Example:
        >>> EquivariantLayerNorm("4x0e + 2x1o")(torch.randn(10, 10)).shape
        torch.Size([10, 10])
    """

    def __init__(self, irreps: o3.Irreps | str, *, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = self.irreps = o3.Irreps(irreps)
        self.blocks = layout(self.irreps)
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(self.irreps.num_irreps)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, irreps.dim) to the same shape."""
        squares = _squares(x, self.blocks).split([b.mul for b in self.blocks], 1)
        scale = torch.cat([torch.rsqrt(s.mean(1, keepdim=True) + self.eps).expand_as(s) for s in squares], 1)
        return x * _expand(scale if self.gamma is None else scale * self.gamma, self.blocks)
