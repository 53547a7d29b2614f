"""A model's energies, forces and stress on many structures, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn

from ik_e3nn.data import StructureLabels
from ik_e3nn.errors import DataError
from ik_e3nn.graph import closest_pair, fields
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.plots import plot_parity
from ik_e3nn.training.objective.metrics import ErrorSums
from ik_e3nn.training.sets.loader import Graphs

LABELS = ("energy", "forces", "stress")
LIMITS = BatchLimits(16)


@dataclass(frozen=True)
class Predictions:
    """What a model says about a list of structures.

    Args:
        energy: Energies in eV, one a structure.
        forces: Forces in eV/A, an (N, 3) array a structure.
        stress: Stress in eV/A^3, a (3, 3) array a structure, NaN without a volume.
        errors: Mean errors over the labels there are, see ``ErrorSums``.
    """

    energy: list[float]
    forces: list[NDArray[np.float64]]
    stress: list[NDArray[np.float64]]
    errors: dict[str, float]


def predict(
    model: nn.Module,
    graphs: Graphs,
    *,
    limits: BatchLimits = LIMITS,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Predictions:
    """Evaluate a model.

    Args:
        model: An ``InteratomicPotential``; it is evaluated where it is.
        graphs: Graphs with the tensors that the model needs, with or without labels.
        limits: How large batches may become; they become smaller where the memory does not suffice.
        on_batch: Called after each batch with the number of its structures (for a progress bar).

    Returns:
        Predictions in the order of the graphs.

    Raises:
        DataError: The memory does not suffice for one of the structures, or its energy or forces are not finite.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    stress = any(bool(graphs[index]["pbc"].any()) for index in range(len(graphs)))
    result = Predictions([], [], [], {})
    sums = ErrorSums(LABELS, device=device)
    for batch, outputs in in_batches(lambda one: model(one, forces=True, stress=stress), graphs, limits, device):
        check_finite(outputs, batch, first=len(result.energy))
        sums.add(outputs, batch)
        count = len(outputs["energy"])
        sizes = torch.bincount(batch["batch"], minlength=count).tolist()
        result.energy.extend(outputs["energy"].tolist())
        result.forces.extend(part.double().cpu().numpy() for part in outputs["forces"].split(sizes))
        nothing = torch.full((count, 3, 3), torch.nan)
        result.stress.extend(outputs.get("stress", nothing).double().cpu().numpy())
        on_batch(count)
    result.errors.update(sums.compute())
    model.train(was_training)
    return result


def check_finite(outputs: dict[str, Tensor], batch: dict[str, Tensor], *, first: int = 0) -> None:
    """Refuse energies and forces that are NaN or infinite, as those of atoms in the same place may be.

    Args:
        outputs: What the model says of a batch.
        batch: The batch, on any device.
        first: Number of its first structure in the data set.

    Raises:
        DataError: Names the structure and its closest atoms.
    """
    energy, forces = outputs["energy"].cpu().isfinite(), outputs["forces"].cpu().isfinite().all(1)
    if energy.all() and forces.all():
        return
    owners = batch[fields.BATCH].cpu()
    bad = int(torch.cat([(~energy).nonzero().flatten(), owners[~forces]]).min())
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


def plot_predictions(
    predictions: Predictions,
    structures: Sequence[Atoms],
    labels: Sequence[StructureLabels],
    folder: Path,
    name: str,
) -> list[Path]:
    """Draw predicted against reference values of every label there is.

    Args:
        predictions: What the model says.
        structures: The structures.
        labels: Their labels.
        folder: Where ``parity_NAME_energy.png`` and the like go.
        name: Name of the set.

    Returns:
        The files written.
    """
    atoms = np.array([len(one) for one in structures])
    reference_energy = np.array([one.energy for one in labels]) / atoms
    # the mean is taken off, or the differences would be lost beside the total energies
    mean = np.nanmean(reference_energy) if np.isfinite(reference_energy).any() else 0.0
    pairs = {
        "energy": (reference_energy - mean, np.array(predictions.energy) / atoms - mean),
        "forces": (_flat([one.forces for one in labels]), _flat(predictions.forces)),
        "stress": (_flat([one.stress for one in labels]), _flat(predictions.stress)),
    }
    files = []
    for label, (reference, predicted) in pairs.items():
        known = np.isfinite(reference) & np.isfinite(predicted)
        if known.any():
            files.append(folder / f"parity_{name}_{label}.png")
            plot_parity(label, reference[known], predicted[known], files[-1])
    return files


def _flat(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.ravel(array) for array in arrays])
