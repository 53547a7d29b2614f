"""Loss and errors of properties, with missing values masked out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import fields
from ik_e3nn.targets import Target
from ik_e3nn.targets.target import columns
from ik_e3nn.training.config.properties import PropertyLossConfig
from ik_e3nn.training.objective.loss import Term


class PropertyLoss:
    r"""Weighted mean over targets of mean losses, each over the known values of a batch, in units of its spread.

    ::

        L = sum_t w_t <f((p_t - q_t) / s_t)> / sum_t w_t,   f(x) = x^2 / 2, |x| or Huber's function

    Args:
        config: Kind of loss and weights.
        targets: All targets.
        spread: s_t, one a target.

    Raises:
        ConfigError: A weight of something that is no target, or nothing but zero weights.
    """

    def __init__(self, config: PropertyLossConfig, targets: Sequence[Target], spread: Sequence[float]) -> None:
        self.config = config
        self.targets = {target.name: target for target in targets}
        unknown = sorted(set(config.weights) - set(self.targets))
        if unknown:
            raise ConfigError(f"loss.weights names {', '.join(unknown)}; the targets are {', '.join(self.targets)}")
        weights = {name: config.weights.get(name, 1.0) for name in self.targets}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ConfigError("loss.weights are all zero; give at least one target a positive weight")
        self.spread = dict(zip(self.targets, spread, strict=True))
        self._columns = columns(tuple(targets))

    def residuals(self, outputs: Mapping[str, Tensor], batch: Any, name: str) -> tuple[Tensor, Tensor]:
        """Predicted minus reference values of a target, (B, width), zero where missing; and which are known."""
        reference = batch[fields.TARGETS][:, self._columns[name]]
        known = ~torch.isnan(reference)
        predicted = outputs[name].reshape(reference.shape)
        return torch.where(known, predicted, 0.0) - torch.where(known, reference, 0.0), known

    def terms(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Term]:
        """Sums and counts of each weighted target; differentiable in the outputs."""
        result = {}
        for name in self.weights:
            error, known = self.residuals(outputs, batch, name)
            result[name] = Term(self._penalty(error / self.spread[name]), known.sum())
        return result

    def combine(self, terms: Mapping[str, Term], *, progress: float = 1.0) -> Tensor:
        """The loss, from sums and counts that may have been added up over batches."""
        parts = [w * terms[name].total / terms[name].count.clamp(min=1) for name, w in self.weights.items()]
        return torch.stack(parts).sum() / sum(self.weights.values())

    def _penalty(self, error: Tensor) -> Tensor:
        if self.config.kind == "mse":
            return 0.5 * error.square().sum()
        if self.config.kind == "mae":
            return error.abs().sum()
        delta = self.config.huber_delta
        return functional.huber_loss(error, torch.zeros_like(error), reduction="sum", delta=delta) / delta


class PropertyErrors:
    """Adds up the errors of all targets, and the loss, over any number of batches.

    Args:
        loss: Knows the targets.
        device: Where the sums live.
    """

    def __init__(self, loss: PropertyLoss, *, device: torch.device | str = "cpu") -> None:
        self._loss = loss
        # rows: targets; columns: sum |e|, sum e^2, count, sum of the loss
        self._sums = torch.zeros(len(loss.targets), 4, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Tensor], batch: Any) -> None:
        """Add the errors of one batch."""
        terms = self._loss.terms(outputs, batch)
        for row, name in enumerate(self._loss.targets):
            error, known = self._loss.residuals(outputs, batch, name)
            error = error.double()
            loss = terms[name].total.double() if name in terms else error.new_zeros(())
            self._sums[row] += torch.stack([error.abs().sum(), error.square().sum(), known.sum().double(), loss])

    def reduce(self) -> None:
        """Add up the sums of all processes, where there are several."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._sums)

    def compute(self) -> dict[str, float]:
        """``NAME_mae_UNIT`` and ``NAME_rmse_UNIT`` of all targets with values, their mean in spreads, and ``loss``."""
        loss, weights, relative, result = 0.0, 0.0, [], {}
        for (name, target), (absolute, square, count, penalty) in zip(
            self._loss.targets.items(), self._sums.tolist(), strict=True
        ):
            if count:
                weight = self._loss.weights.get(name, 0.0)
                loss, weights = loss + weight * penalty / count, weights + weight
                unit = f"_{target.unit}" if target.unit else ""
                result[f"{name}_mae{unit}"] = absolute / count
                result[f"{name}_rmse{unit}"] = math.sqrt(square / count)
                relative.append(absolute / count / self._loss.spread[name])
        mean = sum(relative) / len(relative) if relative else math.nan
        return {"loss": loss / weights if weights else 0.0, "mean_mae_over_spread": mean, **result}
