"""The training loop's step for properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ik_e3nn.training.config.schema import OptimizerConfig
from ik_e3nn.training.loop.module import PotentialModule
from ik_e3nn.training.objective.property_loss import PropertyErrors, PropertyLoss
from ik_e3nn.training.run.clock import RunClock


class PropertyModule(PotentialModule):
    """Trains a model of properties; validates, and in the end hands out, its moving average.

    Args:
        model: A ``MolecularPropertyModel``, or any module with its call signature.
        loss: What is minimized.
        optimizer: How.
        clock: Seconds so far, and the limit on them.
        lr_factors: Factors of the learning rate by the names of the model's parameters, where they are not 1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: PropertyLoss,
        *,
        optimizer: OptimizerConfig,
        clock: RunClock,
        lr_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(model, loss, optimizer=optimizer, clock=clock, lr_factors=lr_factors)
        self._property_loss = loss

    def outputs(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """What a model says of a batch."""
        return model(batch)

    def errors(self) -> PropertyErrors:
        """Sums of errors, all zero."""
        return PropertyErrors(self._property_loss, device=self.device)
