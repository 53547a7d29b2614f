"""A training: its data, its model, and how the model is measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from ase import Atoms
from torch import nn

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data import LabeledSet, StructureDataset
from ik_e3nn.data.graphs.dataset import warn_without_bonds
from ik_e3nn.data.graphs.splits import content_digest, inputs_digest
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.data.structures.ranges import GEOMETRY, GeometryRanges
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, StoredModel
from ik_e3nn.models.networks.domain import domain_of
from ik_e3nn.training.config.file import model_of
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.inference.prediction import Predictions, plot_predictions, predict
from ik_e3nn.training.loop.module import TrainingModule
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.run.clock import RunClock
from ik_e3nn.training.sets.checks import warn_unused_inputs
from ik_e3nn.training.sets.places import places_of
from ik_e3nn.training.sets.prepare import ISOLATED, TrainingData, prepare_data
from ik_e3nn.training.sets.references import set_energy_reference, set_references
from ik_e3nn.training.tasks.field import fit_field
from ik_e3nn.training.tasks.model_section import check_model_arguments, seeded

_log = logging.getLogger(__name__)


class Task:
    """Training of a new model; subclasses start from other models. The constructor reads the data.

    Args:
        config: The configuration.

    Attributes:
        data: The sets that the training uses.
        graphs: Data sets of graphs: "train", "valid" and, if given, "test".
        module: The module that Lightning trains.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.run = config, config.run
        self.data = self.prepare(config)
        model, dtype = self.start(config), getattr(torch, config.run.dtype)
        self.graphs: dict[str, StructureDataset] = {
            name: self.data.dataset(name, model, dtype) for name in self.data.sets
        }
        warn_without_bonds(list(self.data.sets.values()), model.inputs)
        for graphs in self.graphs.values():
            graphs.prepare(progress=config.run.progress)
        everything = [atoms for one in self.data.sets.values() for atoms in one.structures]
        # a model of properties can use bonds as edges of its graph, so that no warning about them is needed
        warn_unused_inputs(everything, model.inputs, ("charge", "spin", *(["bonds"] if model.edges is None else [])))
        self.scale(model)
        self.loss = self.make_loss(config, model)
        self.module = TrainingModule(
            model,
            self.loss,
            optimizer=config.optimizer,
            clock=RunClock(time_limit(config), config.run.clock),
            compile=config.run.compile,
            lr_factors=self.lr_factors(model),
        )

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """Raise for impossible settings, before any data are read.

        Raises:
            ConfigError: Names the setting.
        """
        check_model_arguments(config.model, model_of(config))
        if config.run.compile is True and config.data.targets is not None:
            raise ConfigError("run.compile is true, but models of properties cannot be compiled; leave it out")
        if not config.model_is_given:
            new_model(config, ["H"])  # the arguments are the same for all elements

    def prepare(self, config: TrainConfig) -> TrainingData:
        """Read the data.

        Raises:
            DataError: The data cannot be used.
        """
        return prepare_data(config, edges=config.model.get("edges", "bonds") if config.data.targets else None)

    def start(self, config: TrainConfig) -> StoredModel:
        """The model to train, on the CPU in the configured precision; the same seed gives the same model.

        Raises:
            ConfigError: The model refuses one of its arguments.
        """
        train = self.data.sets["train"]
        model = new_model(config, train.species)
        if model.potential is not None:
            set_energy_reference(model.potential, self.data, config.data)
        if model.potential is not model:
            set_references(model, train)
        model.trained_on = domain_of(train.structures)
        _log.info("model with %d parameters", count_parameters(model))
        return model

    def scale(self, model: StoredModel) -> None:
        """Set the constants of the model that come from the training graphs, and its field of surroundings."""
        neighbors = self.graphs["train"].average_neighbors()
        model.set_average_neighbors(neighbors)
        _log.info("%.1f neighbors within %.3g A", neighbors, model.r_max)
        if isinstance(model, InteratomicPotential) and model.field is not None:
            fit_field(model, self.data.sets["train"])

    def lr_factors(self, model: StoredModel) -> dict[str, float]:
        """Factors of the learning rate by names of parameters, if they are not 1."""
        del model
        return {}

    def make_loss(self, config: TrainConfig, model: StoredModel) -> Loss:
        """The loss, with errors of properties in units of their spread around the reference in the training set."""
        return Loss(config.loss, self.data.sets["train"].targets, spreads_of(self.data.sets["train"], model))

    def predicted(self, model: nn.Module, name: str) -> Predictions:
        """The predictions of a model for one of the sets, and their errors."""
        limits = self.run.limits
        if not self.config.trained:  # no derivatives are needed
            limits = replace(limits, batch_size=max(limits.batch_size, 64))
        return predict(model, self.graphs[name], limits=limits, loss=self.loss if self.loss.properties else None)

    def measure(self, model: nn.Module, name: str, folder: Path) -> dict[str, float]:
        """Errors of a model on one of the sets; also plots them in the folder."""
        found = self.predicted(model, name)
        plot_predictions(found, self.data.sets[name], folder, name)
        return found.errors

    def structures(self, name: str) -> list[Atoms]:
        """Structures of one of the sets with their labels, ready to be written and read back unchanged."""
        return self.data.sets[name].labeled()

    def begin(self, folder: Path) -> None:
        """Write what the training starts from, after all checks have passed."""
        del folder

    def set_aside(self) -> list[str]:
        """Names of the sets that have no file of their own."""
        given = {name for name in ("valid", "test") if isinstance(getattr(self.config.data, name), str | list)}
        return [name for name in ("valid", "test") if name in self.graphs and name not in given]

    def finish(self, model: nn.Module) -> None:
        """Turn the best model, in place, into the model that is measured and written."""
        del model

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write further reports, and return what the model file keeps of them."""
        del model, folder, metrics
        return {}

    def as_read(self) -> Mapping[str, LabeledSet]:
        """All sets with their labels as they were read."""
        return self.data.sets

    def digests(self) -> dict[str, str]:
        """Digests of the sets as they were read, by name.

        The part before the hyphen covers structures and labels, the part after it charges, bonds and other inputs of
        models. Earlier versions of the package wrote only the first part.
        """
        bonds = self.module.model.edges != "radius"
        return {
            name: _digest(one, bonds=bonds)
            for name, one in ({**self.as_read()} | {ISOLATED: self.data.isolated}).items()
        }

    def summary(self) -> dict[str, Any]:
        """The facts about the data that the model file keeps."""
        return {"data": self.data.summary(), GEOMETRY: self.geometry().to_json()}

    def geometry(self) -> GeometryRanges:
        """Ranges of bonds, contacts, heights over a surface and places in a site in the training structures."""
        model = cast(StoredModel, self.module.model)
        surroundings = getattr(model.potential, "surroundings", None)
        places = None
        if surroundings is not None and surroundings.kind == "site":

            def places(atoms: Atoms) -> FloatArray:
                return places_of(atoms, surroundings)[0]

        surface = bool({"surface", "face"} & set(model.inputs))
        return GeometryRanges.of(self.data.sets["train"].structures, surface=surface, places=places)


def new_model(config: TrainConfig, species: Any) -> Any:
    """A new model with the settings of a configuration, for some elements."""
    given = [species] if config.data.targets is None else [species, config.targets]
    return seeded(config, model_of(config), *given)


def spreads_of(train: LabeledSet, model: StoredModel) -> dict[str, float]:
    """Spreads of properties around their references in a training set: root mean squares, by name."""
    properties = train.only([target.name for target in train.targets if target.field is None])
    found = fit_references(properties, model.species)
    return {target.name: one.scale for target, one in zip(properties.targets, found, strict=True)}


def time_limit(config: TrainConfig) -> float | None:
    """Seconds that a run may take."""
    return None if config.run.max_minutes is None else 60.0 * config.run.max_minutes


def count_parameters(model: nn.Module) -> int:
    """Number of weights, including those that are not trained."""
    return sum(parameter.numel() for parameter in model.parameters())


def _digest(data: LabeledSet, *, bonds: bool) -> str:
    values = (data.values[target.name] for target in data.targets)
    return f"{content_digest(data.structures, values)}-{inputs_digest(data.structures, bonds=bonds)}"
