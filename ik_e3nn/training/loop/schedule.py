"""Learning rate of each step: linear warm-up times cosine, plateau or constant."""

from __future__ import annotations

import math
from typing import Any

from ik_e3nn.training.config.schema import OptimizerConfig


class LearningRateSchedule:
    """Learning rate as a function of the step, of the run's progress and of the validation losses so far.

    ::

        lr(step, t) = lr * min(1, (step + 1) / warmup_steps) * shape
        cosine:   shape = m + (1 - m) (1 + cos(pi t)) / 2,  t in [0, 1] the progress of the run, m = min_lr_ratio
        plateau:  shape = max(m, factor^k),  k = number of times that ``patience`` epochs in a row were no better
        constant: shape = 1

    >>> schedule = LearningRateSchedule(OptimizerConfig(lr=1.0, warmup_steps=0, min_lr_ratio=0.0))
    >>> [round(schedule.lr(step=0, progress=t), 3) for t in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """

    def __init__(self, config: OptimizerConfig) -> None:
        self._config = config
        self._best = math.inf
        self._bad_epochs = 0
        self._reductions = 0

    def lr(self, *, step: int, progress: float) -> float:
        """Learning rate of optimizer step ``step`` (from 0) at ``progress`` (0 at the start, 1 at the end)."""
        config = self._config
        warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        return config.rate * warm * self._shape(min(max(progress, 0.0), 1.0))

    def observe(self, valid_loss: float) -> None:
        """Record the validation loss of an epoch (only the plateau schedule uses it)."""
        if valid_loss < self._best:
            self._best, self._bad_epochs = valid_loss, 0
            return
        self._bad_epochs += 1
        if self._bad_epochs > self._config.plateau_patience:
            self._reductions, self._bad_epochs = self._reductions + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The state for ``load_state_dict``, in plain numbers."""
        return {"best": self._best, "bad_epochs": self._bad_epochs, "reductions": self._reductions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        self._best, self._bad_epochs = float(state["best"]), int(state["bad_epochs"])
        self._reductions = int(state["reductions"])

    def _shape(self, progress: float) -> float:
        low = self._config.min_lr_ratio
        if self._config.schedule == "cosine":
            return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * progress))
        if self._config.schedule == "plateau":
            return float(max(low, self._config.plateau_factor**self._reductions))
        return 1.0
