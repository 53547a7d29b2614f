"""What a training starts from and what becomes of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ik_e3nn.data import StructureDataset
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.config import TrainConfig
from ik_e3nn.training.prepare import TrainingData, prepare_data

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What a training has come to.

    Args:
        data: The data.
        graphs: Graphs of every set.
        model: The model of the best epoch.
    """

    data: TrainingData
    graphs: dict[str, StructureDataset]
    model: InteratomicPotential


class Recipe:
    """Trains a new model with the data's species, E0s and scales; subclasses start from something else.

    Every process of a run gets a copy before the first method is called.
    """

    def prepare(self, config: TrainConfig) -> TrainingData:
        """Read the data.

        Raises:
            DataError: The data cannot be used.
        """
        return prepare_data(config)

    def start(self, config: TrainConfig, data: TrainingData) -> InteratomicPotential:
        """The model to train, on the CPU in the configured precision; the same for the same seed.

        Raises:
            ConfigError: The model refuses one of its arguments.
        """
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            try:
                model = InteratomicPotential(data.species, **config.model)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"model: {error}") from error
        model = model.to(getattr(torch, config.run.dtype))
        if data.reference is not None:
            model.set_energy_reference(data.reference.values, provenance=data.reference.source)
        if data.force_rms > 0:
            model.set_scale(data.force_rms)
        _log.info("RMS force %.4g eV/A; model with %d parameters", data.force_rms, count_parameters(model))
        return model

    def scale(self, model: InteratomicPotential, graphs: StructureDataset) -> None:
        """Set what the model takes from the training graphs."""
        neighbours = graphs.average_neighbours()
        model.set_average_neighbours(neighbours)
        _log.info("%.1f neighbours within %.3g A", neighbours, model.r_max)

    def lr_factors(self, model: InteratomicPotential) -> dict[str, float]:
        """Factors of the learning rate by the names of parameters, where they are not 1."""
        del model
        return {}

    def finish(self, model: InteratomicPotential) -> None:
        """Change the best model, in place, into what is measured and written."""

    def report(self, config: TrainConfig, folder: Path, fitted: Fitted, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write reports of the kind; what is to be in the model file besides the metrics."""
        del config, folder, fitted, metrics
        return {}


def count_parameters(model: nn.Module) -> int:
    """Number of weights; those of an average, which are not trained, count too."""
    return sum(parameter.numel() for parameter in model.parameters())
