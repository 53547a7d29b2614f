"""The loss for any targets; missing labels are masked out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ik_e3nn.errors import ConfigError
from ik_e3nn.targets import MECHANICS, LabelLayout, Target, mechanics_of
from ik_e3nn.training.config.schema import LossConfig


@dataclass(frozen=True)
class Term:
    """Sum of a loss over the labeled values, and the number of these values (both scalars)."""

    total: Tensor
    count: Tensor


class Loss:
    """Weighted sum of mean losses, each mean taken over the labeled values of a batch.

    ::

        L(t) = w_E g^t <f(dE / N)> + w_F <f(dF)> + w_S <f(dS)> + sum_p w_p <f(dp / s_p)> / sum_p w_p
        f(x) = x^2, |x| or Huber's function

    with t in [0, 1] the progress of the run, g the growth of the energy weight, and properties p in units of their
    spreads s_p. ``weights`` are the factors of the means at t = 1.

    Args:
        config: Kind of loss and weights.
        targets: The targets of the batches, in the order of their labels.
        spreads: Spreads of properties by name, in the unit of the property; 1 if not given.

    Raises:
        ConfigError: A weight is given for something other than a property, or all weights are zero.
    """

    def __init__(
        self,
        config: LossConfig,
        targets: Sequence[Target] = MECHANICS,
        spreads: Mapping[str, float] | None = None,
    ) -> None:
        self.config, self.layout = config, LabelLayout(targets)
        self.spreads = {name: (spreads or {}).get(name, 1.0) for name in self.layout.targets}
        mechanics = mechanics_of(targets)
        self.properties = [name for name in self.layout.targets if name not in mechanics]
        config.check_weights(self.properties)
        given = {name: getattr(config, f"{name}_weight") for name in mechanics}
        self._growth = config.energy_growth if given.get("forces") or given.get("stress") else 1.0
        if "energy" in given:
            given["energy"] *= self._growth
        of_properties = {name: config.weights.get(name, 1.0) for name in self.properties}
        whole = sum(of_properties.values())
        given |= {name: weight / whole for name, weight in of_properties.items() if weight > 0}
        self.weights = {name: weight for name, weight in given.items() if weight > 0}
        if not self.weights:
            raise ConfigError("loss.weights are all zero; give at least one target a positive weight")

    def terms(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Term]:
        """Sums and counts of each weighted target; differentiable in the outputs."""
        terms = {}
        for name in self.weights:
            error, known = self.layout.residual(outputs, batch, name)
            target = self.layout.targets[name]
            if self.config.energy_per_atom:
                error = target.reduced(error, batch)
            terms[name] = Term(self._penalty(error / self.spreads[name], target), known.sum())
        return terms

    def combine(self, terms: Mapping[str, Term], *, progress: float = 1.0) -> Tensor:
        """The loss at some progress of the run, from sums and counts that may have been added up over batches."""
        weights = dict(self.weights)
        if "energy" in weights:
            weights["energy"] *= self._growth ** (progress - 1)
        parts = [weight * terms[name].total / terms[name].count.clamp(min=1) for name, weight in weights.items()]
        return torch.stack(parts).sum()

    def of_means(self, means: Mapping[str, float]) -> float:
        """The loss at the end of a run from the mean losses of the targets that have labels.

        Properties without labels are left out of the weighted mean over properties.
        """
        there = sum(self.weights[name] for name in means if name in self.properties)
        shares = {name: self.weights[name] / (there if name in self.properties else 1.0) for name in means}
        return sum(shares[name] * mean for name, mean in means.items())

    def __call__(self, outputs: Mapping[str, Tensor], batch: Any) -> Tensor:
        """The loss of one batch, a scalar."""
        return self.combine(self.terms(outputs, batch))

    def _penalty(self, error: Tensor, target: Target) -> Tensor:
        error = error.flatten()
        if self.config.kind == "mse":
            return torch.dot(error, error)
        if self.config.kind == "mae":
            return error.abs().sum()
        delta = self.config.huber_delta or target.huber_delta
        return functional.huber_loss(error, torch.zeros_like(error), reduction="sum", delta=delta)
