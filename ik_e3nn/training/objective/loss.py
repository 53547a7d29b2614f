"""Loss of energies, forces and stress, with missing labels masked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ik_e3nn.training.config.schema import LossConfig


@dataclass(frozen=True)
class Term:
    """Sum of a loss over the labeled values, and how many there are (both scalars)."""

    total: Tensor
    count: Tensor


class Loss(Protocol):
    """A weighted sum of terms, one a label."""

    weights: dict[str, float]

    def terms(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Term]:
        """Sums and counts of each label."""
        ...

    def combine(self, terms: Mapping[str, Term], *, progress: float = 1.0) -> Tensor:
        """The loss, from sums and counts that may have been added up over batches."""
        ...


def residuals(outputs: Mapping[str, Tensor], batch: Any, label: str) -> tuple[Tensor, Tensor]:
    """Predicted minus reference values of one label, zero where the label is missing.

    Args:
        outputs: What the model returned.
        batch: graph with the reference (``energy`` (B,) eV, ``forces`` (N,3) eV/A, ``stress`` (B,3,3) eV/A^3; NaN =
            missing).
        label: "energy", "forces" or "stress".

    Returns:
        The residuals, in the prediction's shape and in the wider of both dtypes, and the mask of the labeled values.
    """
    predicted = outputs[label]
    reference = batch[label].reshape(predicted.shape)
    known = ~torch.isnan(reference)
    if label == "stress":  # no volume, no stress: the model says NaN there
        known = known & (torch.linalg.det(batch["cell"]) != 0)[:, None, None]
    # both sides are filled before the difference: the gradient of a masked NaN would still be NaN
    return torch.where(known, predicted, 0.0) - torch.where(known, reference, 0.0), known


def atoms_per_structure(batch: Any, num_structures: int) -> Tensor:
    """Number of atoms of each structure, (B,) int64."""
    return torch.bincount(batch["batch"], minlength=num_structures)


class PotentialLoss:
    """Weighted sum of mean losses, each mean taken over the labeled values of a batch.

    ::

        L(t) = w_E g^t <f(dE / N)> + w_F <f(dF)> + w_S <f(dS)>,   f(x) = x^2, |x| or Huber's function

    with t in [0, 1] the progress of the run and g the growth of the energies' weight; ``weights`` are those of t = 1.

    Args:
        config: Kind of loss, weights, and whether energies count per atom.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self._growth = config.energy_growth if config.labels != ("energy",) else 1.0
        weights = {
            "energy": config.energy_weight * self._growth,
            "forces": config.forces_weight,
            "stress": config.stress_weight,
        }
        self.weights = {label: weights[label] for label in config.labels}

    def terms(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Term]:
        """Sums and counts of each weighted label; differentiable in the outputs."""
        terms = {}
        for label in self.weights:
            error, known = residuals(outputs, batch, label)
            if label == "energy" and self.config.energy_per_atom:
                error = error / atoms_per_structure(batch, len(error))
            terms[label] = Term(self._penalty(error), known.sum())
        return terms

    def combine(self, terms: Mapping[str, Term], *, progress: float = 1.0) -> Tensor:
        """The loss at some progress of the run, from sums and counts that may have been added up over batches."""
        weights = dict(self.weights)
        if "energy" in weights:
            weights["energy"] *= self._growth ** (progress - 1)
        parts = [weight * terms[label].total / terms[label].count.clamp(min=1) for label, weight in weights.items()]
        return torch.stack(parts).sum()

    def __call__(self, outputs: Mapping[str, Tensor], batch: Any) -> Tensor:
        """The loss of one batch, a scalar."""
        return self.combine(self.terms(outputs, batch))

    def _penalty(self, error: Tensor) -> Tensor:
        error = error.flatten()
        if self.config.kind == "mse":
            return torch.dot(error, error)
        if self.config.kind == "mae":
            return error.abs().sum()
        return functional.huber_loss(error, torch.zeros_like(error), reduction="sum", delta=self.config.huber_delta)
