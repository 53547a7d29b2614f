"""Mean absolute and root-mean-square errors, added up batch by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.targets import LabelLayout, Target
from ik_e3nn.training.objective.loss import Loss


class ErrorSums:
    """Sums of the errors of targets, and of the loss, over any number of batches.

    Args:
        targets: The targets of the batches, in the order of their labels; those of the loss if it is given.
        device: The device of the sums.
        loss: The loss whose terms are added up too; None for errors alone.
    """

    def __init__(
        self, targets: Sequence[Target] = (), *, device: torch.device | str = "cpu", loss: Loss | None = None
    ) -> None:
        self._loss = loss
        self._layout = LabelLayout(targets) if loss is None else loss.layout
        # rows: targets; columns: sum |e|, sum e^2, count, sum of the loss, count of the loss
        self._sums = torch.zeros(len(self._layout.targets), 5, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Tensor], batch: Any) -> None:
        """Add the errors of one batch; targets that the outputs or the batch lack are left out."""
        terms = self._loss.terms(outputs, batch) if self._loss is not None else {}
        for row, (name, target) in enumerate(self._layout.targets.items()):
            if name not in outputs or self._layout.places[name][0] not in batch:
                continue
            error, known = self._layout.residual(outputs, batch, name)
            error = target.reduced(error.double(), batch)
            parts = [error.abs().sum(), error.square().sum(), known.sum().double()]
            if name in terms:
                parts += [terms[name].total.double(), terms[name].count.double()]
            self._sums[row, : len(parts)] += torch.stack(parts)

    def reduce(self) -> None:
        """Add up the sums of all processes, if there are several."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._sums)

    def compute(self) -> dict[str, float]:
        """The errors, such as ``energy_mae_meV_per_atom`` or ``gap_rmse_eV``, of all targets that have labels.

        With a loss there are also ``loss`` and, with properties, ``mean_mae_over_spread``: the mean over properties of
        their MAE in units of their spread.
        """
        sums = dict(zip(self._layout.targets, self._sums.tolist(), strict=True))
        result, means, relative = {}, {}, []
        for name, (absolute, square, count, penalty, number) in sums.items():
            if number:
                means[name] = penalty / number
            if count:
                target = self._layout.targets[name]
                result[target.error_name("mae")] = target.shown_factor * absolute / count
                result[target.error_name("rmse")] = target.shown_factor * math.sqrt(square / count)
                if self._loss is not None and name in self._loss.properties:
                    relative.append(absolute / count / self._loss.spreads[name])
        if self._loss is None:
            return result
        over_spread = {"mean_mae_over_spread": sum(relative) / len(relative)} if relative else {}
        return {"loss": self._loss.of_means(means), **over_spread, **result}
