"""Scale the features of a trained body for new heads."""

from __future__ import annotations

from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn


class FeatureScale(nn.Module):
    r"""Multiply every field by a constant.

    .. math:: x_k \mapsto c_k \, x_k, \qquad c_k = \langle |x_k|^2 / \dim k \rangle^{-1/2}

    The features of a network that was trained for other targets have very different sizes: features that its own
    readouts hardly used are often smaller by a factor of ten or more. New heads start with weights of unit size and
    learn at one rate, so that they would make little use of small features.

    Args:
        irreps: Type of the features.

    Example:
        >>> scale = FeatureScale(o3.Irreps("2x0e + 1o"))
        >>> scale.set_mean_squares(torch.tensor([4.0, 1.0, 0.25]))
        >>> scale(torch.ones(1, 5)).tolist()
        [[0.5, 1.0, 2.0, 2.0, 2.0]]
    """

    factors: Tensor
    fields: Tensor

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        sizes = torch.tensor([ir.dim for mul, ir in irreps for _ in range(mul)], dtype=torch.long)
        self.register_buffer("factors", torch.ones(len(sizes)))
        self.register_buffer("fields", torch.arange(len(sizes)).repeat_interleave(sizes), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps.dim) to the same shape."""
        return features * self.factors.index_select(0, self.fields)

    def mean_squares(self, features: Tensor) -> Tensor:
        """Mean square of the components of every field over features (N, irreps.dim); (fields,)."""
        squares = features.square().mean(0)
        sums = torch.zeros_like(self.factors, dtype=squares.dtype).index_add(0, self.fields, squares)
        return sums / torch.bincount(self.fields, minlength=len(self.factors))

    def set_mean_squares(self, squares: Tensor) -> None:
        """Set the constants so that fields with mean squares (fields,) are scaled to 1; zero fields are not scaled."""
        self.factors.copy_(torch.where(squares > 0, squares, 1.0).rsqrt())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load states that are older than this module with constants of 1."""
        name = f"{prefix}factors"
        if name not in state_dict:
            state_dict = {**state_dict, name: torch.ones_like(self.factors)}
        super()._load_from_state_dict(state_dict, prefix, *args)
