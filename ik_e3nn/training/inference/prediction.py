"""Predictions of a model for many structures, batch by batch, and plots of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ik_e3nn.data import LabeledSet
from ik_e3nn.errors import DataError
from ik_e3nn.graph import closest_pair, fields
from ik_e3nn.targets import mechanics_of
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.plots import plot_parity
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.objective.metrics import ErrorSums
from ik_e3nn.training.sets.loader import Graphs

LIMITS = BatchLimits(16)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for a list of structures.

    Args:
        values: Values by name, in their units: (M, *shape) for M structures, or (atoms of all structures, *shape) for
            values of atoms. The stress is NaN for structures without a volume.
        num_atoms: Atoms of every structure.
        errors: Mean errors over all labeled values, see ``ErrorSums``.
    """

    values: dict[str, FloatArray]
    num_atoms: list[int]
    errors: dict[str, float]

    def of_atoms(self, name: str) -> list[FloatArray]:
        """Values of atoms, structure by structure: arrays (N, *shape)."""
        return np.split(self.values[name], np.cumsum(self.num_atoms)[:-1])


def predict(
    model: nn.Module,
    graphs: Graphs,
    *,
    limits: BatchLimits = LIMITS,
    loss: Loss | None = None,
    names: Collection[str] | None = None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Predictions:
    """Evaluate a model.

    Args:
        model: A potential, or a model of properties; it is evaluated on its own device.
        graphs: Graphs of the kind that the model needs, with or without labels.
        limits: Limits on the size of batches; they become smaller if the memory does not suffice.
        loss: A loss to measure too, for the targets of the graphs; None for none.
        names: Targets to predict, whose values may be NaN; None predicts all and requires finite energies and forces.
        on_batch: Called after each batch with the number of its structures (for a progress bar).

    Returns:
        Predictions in the order of the graphs.

    Raises:
        DataError: The memory does not suffice for one of the structures, or its energy or forces are not finite.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    mechanics = mechanics_of(getattr(model, "targets", ()))
    options: dict[str, bool] = {}
    if mechanics:
        stress = any(bool(graphs[index][fields.PBC].any()) for index in range(len(graphs)))
        wanted = mechanics.keys() if names is None else mechanics.keys() & names
        options = {"forces": "forces" in wanted, "stress": stress and "stress" in wanted}
    data = getattr(graphs, "data", None)
    sums = ErrorSums(() if data is None else data.targets, device=device, loss=loss)
    parts: dict[str, list[FloatArray]] = {}
    num_atoms: list[int] = []
    with torch.no_grad():
        for batch, outputs in in_batches(lambda one: model(one, **options), graphs, limits, device):
            if mechanics and names is None:
                check_finite(outputs, batch, first=len(num_atoms))
            sums.add(outputs, batch)
            count = len(batch[fields.CELL])
            num_atoms += torch.bincount(batch[fields.BATCH], minlength=count).tolist()
            nothing = {"stress": torch.full((count, 3, 3), torch.nan)} if "stress" in mechanics else {}
            for name, value in (nothing | outputs).items():
                parts.setdefault(name, []).append(value.double().cpu().numpy())
            on_batch(count)
    model.train(was_training)
    values = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Predictions(values, num_atoms, sums.compute())


def check_finite(outputs: dict[str, Tensor], batch: dict[str, Tensor], *, first: int = 0) -> None:
    """Raise if energies or forces are NaN or infinite, as they may be if two atoms are in the same place.

    Args:
        outputs: The predictions for a batch.
        batch: The batch, on any device.
        first: Number of its first structure in the data set.

    Raises:
        DataError: Names the structure and its closest atoms.
    """
    owners = batch[fields.BATCH].cpu()
    wrong = [(~outputs["energy"].cpu().isfinite()).nonzero().flatten()]
    if "forces" in outputs:
        wrong.append(owners[~outputs["forces"].cpu().isfinite().all(1)])
    if not any(map(len, wrong)):
        return
    bad = int(torch.cat(wrong).min())
    atoms = (owners == bad).nonzero().flatten()
    edges = owners[batch[fields.EDGE_INDEX][1].cpu()] == bad
    alone = {
        fields.ATOMIC_NUMBERS: batch[fields.ATOMIC_NUMBERS].cpu()[atoms],
        fields.POSITIONS: batch[fields.POSITIONS].cpu()[atoms],
        fields.CELL: batch[fields.CELL].cpu()[bad : bad + 1],
        fields.EDGE_INDEX: batch[fields.EDGE_INDEX].cpu()[:, edges] - int(atoms[0]),
        fields.EDGE_SHIFTS: batch[fields.EDGE_SHIFTS].cpu()[edges],
        fields.BATCH: torch.zeros_like(atoms),
    }
    raise DataError(
        f"the model's energy or forces of structure {first + bad} (counted from 0, with {len(atoms)} atoms) are NaN or "
        f"infinite: {closest_pair(alone)}; leave the structure out, or train a model on such distances"
    )


def plot_predictions(predictions: Predictions, data: LabeledSet, folder: Path, name: str) -> list[Path]:
    """Plot predictions against labels, for every target that has labels.

    Args:
        predictions: Predictions for the structures.
        data: The structures with their labels.
        folder: Folder for ``parity_NAME_energy.png`` and so on; "_" replaces characters that file names may not have.
        name: Name of the set.

    Returns:
        The files written.
    """
    files = []
    atoms = np.array(predictions.num_atoms)
    for target in data.targets:
        drawn = [target.drawn(values[target.name], atoms) for values in (data.values, predictions.values)]
        reference, predicted = (values.reshape(len(values), -1) for values in drawn)
        known = np.isfinite(reference) & np.isfinite(predicted)
        if target.centered and known.any():
            mean = reference[known].mean()
            reference, predicted = reference - mean, predicted - mean
        if known.any():
            files.append(folder / f"parity_{name}_{re.sub(r'[^A-Za-z0-9.+-]', '_', target.name)}.png")
            plot_parity(target, reference[known], predicted[known], files[-1])
    return files
