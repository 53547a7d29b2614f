"""A model's properties of many molecules, batch by batch, and what to draw of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ik_e3nn.data import PropertySet
from ik_e3nn.data.properties.set import known_rows
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.plots import plot_parity
from ik_e3nn.training.objective.property_loss import PropertyErrors, PropertyLoss
from ik_e3nn.training.sets.loader import Graphs

Values = dict[str, NDArray[np.float64]]
LIMITS = BatchLimits(128)


def predict_properties(
    model: nn.Module,
    graphs: Graphs,
    *,
    limits: BatchLimits = LIMITS,
    loss: PropertyLoss | None = None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> tuple[Values, dict[str, float]]:
    """Evaluate a model.

    Args:
        model: A ``MolecularPropertyModel``; it is evaluated where it is.
        graphs: Graphs of the model's kind.
        limits: How large batches may become; they become smaller where the memory does not suffice.
        loss: Measures errors, where the graphs have values.
        on_batch: Called after each batch with the number of its molecules (for a progress bar).

    Returns:
        Values by the targets' names, (M, *shape) in the order of the graphs; and errors, empty without ``loss``.

    Raises:
        DataError: The memory does not suffice for one of the molecules.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    parts: dict[str, list[NDArray[np.float64]]] = {}
    errors = None if loss is None else PropertyErrors(loss, device=device)
    with torch.no_grad():
        for batch, outputs in in_batches(model, graphs, limits, device):
            if errors is not None:
                errors.add(outputs, batch)
            for name, value in outputs.items():
                parts.setdefault(name, []).append(value.double().cpu().numpy())
            on_batch(len(batch["cell"]))
    model.train(was_training)
    values = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return values, {} if errors is None else errors.compute()


def plot_properties(predicted: Values, molecules: PropertySet, folder: Path, name: str) -> list[Path]:
    """Draw predicted against reference values of every target with values.

    Args:
        predicted: What the model says.
        molecules: The molecules with their values.
        folder: Where ``parity_NAME_TARGET.png`` go, with "_" for what file names may not hold.
        name: Name of the set.

    Returns:
        The files written.
    """
    files = []
    for target in molecules.targets:
        reference = molecules.values[target.name]
        known = known_rows(reference)
        if known.any():
            files.append(folder / f"parity_{name}_{re.sub(r'[^A-Za-z0-9.+-]', '_', target.name)}.png")
            plot_parity(target.name, reference[known], predicted[target.name][known], files[-1], unit=target.unit)
    return files
