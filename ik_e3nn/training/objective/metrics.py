"""Mean absolute and root-mean-square errors, added up batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ik_e3nn.training.objective.loss import Loss, atoms_per_structure, residuals

NAMES = {"energy": "energy_{}_meV_per_atom", "forces": "force_{}_meV_per_A", "stress": "stress_{}_meV_per_A3"}


class Errors(Protocol):
    """Sums of errors over any number of batches."""

    def add(self, outputs: Mapping[str, Tensor], batch: Any) -> None:
        """Add the errors of one batch."""
        ...

    def reduce(self) -> None:
        """Add up the sums of all processes."""
        ...

    def compute(self) -> dict[str, float]:
        """The errors and the loss."""
        ...


class ErrorSums:
    """Adds up the errors of energies per atom, forces and stress, and the loss, over any number of batches.

    Args:
        labels: Which of "energy", "forces", "stress" to measure.
        device: Where the sums live.
        loss: Adds its own terms where given.
    """

    def __init__(self, labels: Iterable[str], *, device: torch.device | str = "cpu", loss: Loss | None = None) -> None:
        self._labels = tuple(labels)
        self._loss = loss
        # rows: labels; columns: sum |e|, sum e^2, count, sum of the loss, count of the loss
        self._sums = torch.zeros(len(self._labels), 5, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Tensor], batch: Any) -> None:
        """Add the errors of one batch; labels that the batch lacks are left out."""
        terms = self._loss.terms(outputs, batch) if self._loss is not None else {}
        for row, label in enumerate(self._labels):
            if label not in outputs or label not in batch:
                continue
            error, known = residuals(outputs, batch, label)
            error = error.double()
            if label == "energy":
                error = error / atoms_per_structure(batch, len(error))
            parts = [error.abs().sum(), error.square().sum(), known.sum().double()]
            if label in terms:
                parts += [terms[label].total.double(), terms[label].count.double()]
            self._sums[row, : len(parts)] += torch.stack(parts)

    def reduce(self) -> None:
        """Add up the sums of all processes, where there are several."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._sums)

    def compute(self) -> dict[str, float]:
        """The errors, such as ``energy_mae_meV_per_atom``, of all labels that occurred; and ``loss`` with a loss."""
        sums = dict(zip(self._labels, self._sums.tolist(), strict=True))
        result = {}
        if self._loss is not None:
            weights = self._loss.weights
            result["loss"] = sum(weight * sums[label][3] / max(sums[label][4], 1) for label, weight in weights.items())
        for label, (absolute, square, count, *_) in sums.items():
            if count:
                result[NAMES[label].format("mae")] = 1000.0 * absolute / count
                result[NAMES[label].format("rmse")] = 1000.0 * math.sqrt(square / count)
        return result
