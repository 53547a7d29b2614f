"""Clipping of gradients that are unusually large."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

_DECAY = 0.99  # of the running mean, per step


class GradientClipping:
    r"""Scales large gradients down to a multiple of the usual norm.

    .. math:: g \leftarrow g \, \min(1, c r / |g|), \qquad r^2 = \langle |g|^2 \rangle

    over about the last hundred steps. In this mean a norm counts as at most c times the norm that it was clipped to, so
    that frequent large gradients raise the limit. Adam divides gradients by their usual size: one that is a hundred
    times as large moves the weights by about a hundred learning rates before it is forgotten. A fixed limit that suits
    the first steps does not prevent this at the end, when gradients are small.

    Args:
        factor: Largest norm in units of r, above 1; None for no clipping.

    >>> clipping = GradientClipping(3.0)
    >>> [clipping.limit(norm) for norm in (0.0, 2.0, 1.0, 2.0)] == [0.0, 2.0, 1.0, 2.0]
    True
    >>> 4.0 < clipping.limit(1000.0) < 6.0
    True
    """

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self._mean, self._weight = 0.0, 0.0

    def limit(self, norm: float) -> float:
        """The norm to which a gradient is scaled; it enters the mean that limits the next gradients."""
        if self.factor is None or not 0.0 < norm < math.inf:  # zero: no labels
            return norm
        cut = norm
        if self._weight:
            cut = min(norm, self.factor * math.sqrt(self._mean / self._weight))
        self._mean = _DECAY * self._mean + (1.0 - _DECAY) * min(norm, self.factor * cut) ** 2
        self._weight = _DECAY * self._weight + (1.0 - _DECAY)
        return cut

    def __call__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Scale the gradients of parameters in place."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.factor is None or not gradients:
            return
        norm = float(nn.utils.get_total_norm(gradients))
        limit = self.limit(norm)
        if limit < norm:
            for gradient in gradients:
                gradient.mul_(limit / norm)

    def state_dict(self) -> dict[str, Any]:
        """The state for ``load_state_dict``, in plain numbers."""
        return {"mean": self._mean, "weight": self._weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        self._mean, self._weight = float(state["mean"]), float(state["weight"])
