"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(nn.Module):
    """A copy of a model whose weights follow the trained ones slowly.

    After the n-th optimizer step (n = 1, 2, ...), with trained weights ``w_n``::

        d_n = min(decay, (1 + n) / (10 + n))
        a_n = d_n a_(n-1) + (1 - d_n) w_n

    The growing ``d_n`` lets the average forget the random initial weights quickly.

    Args:
        model: The model to follow; it is copied, and the copy's weights never receive gradients.
        decay: The final decay per step, in [0, 1).
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, *, step: int) -> None:
        """Update the average after optimizer step ``step`` (from 1) of ``model``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(list(self.model.parameters()), list(model.parameters()), step)

    @torch.no_grad()
    def copy_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of the model (running statistics), which are not averaged."""
        for mine, other in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(other)
