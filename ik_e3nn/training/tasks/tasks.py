"""What differs between trainings: of a potential, or of properties of molecules."""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from ase import Atoms
from torch import nn

from ik_e3nn.data import PropertyDataset, PropertySet, StructureDataset, resolve_targets
from ik_e3nn.data.graphs.splits import content_digest, inputs_digest
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.data.structures.ranges import GEOMETRY, GeometryRanges
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.models.networks.domain import domain_of
from ik_e3nn.training.config.file import model_type
from ik_e3nn.training.config.properties import PropertyConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.inference.prediction import plot_predictions, predict
from ik_e3nn.training.inference.property_prediction import Values, plot_properties, predict_properties
from ik_e3nn.training.loop.module import PotentialModule
from ik_e3nn.training.loop.property_module import PropertyModule
from ik_e3nn.training.objective.loss import PotentialLoss
from ik_e3nn.training.objective.property_loss import PropertyLoss
from ik_e3nn.training.run.clock import RunClock
from ik_e3nn.training.sets.prepare import ISOLATED, LabeledSet, TrainingData, prepare_data, warn_unused_inputs
from ik_e3nn.training.sets.property_prepare import PropertyData, prepare_properties, set_references
from ik_e3nn.training.tasks.model_section import check_model_arguments, seeded

_log = logging.getLogger(__name__)


class Task(ABC):
    """One training: its data, its model, and how that is measured. Made, it has read the data.

    Attributes:
        config: Its configuration.
        graphs: Data sets of graphs: "train", "valid" and, where there is one, "test".
        module: What Lightning trains.
    """

    config: Any
    graphs: Mapping[str, Any]
    module: PotentialModule

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise for what is impossible in a configuration of the kind, before any data is read.

        Raises:
            ConfigError: Names the setting.
        """
        check_model_arguments(config.model, model_type(type(config)))

    @abstractmethod
    def measure(self, model: nn.Module, name: str, folder: Path) -> dict[str, float]:
        """Errors of a model on one of the sets, which are also drawn into the folder."""

    @abstractmethod
    def structures(self, name: str) -> list[Atoms]:
        """Structures of one of the sets with their labels; read from a file, they are the same."""

    def begin(self, folder: Path) -> None:
        """Write down what the training starts from, once it is known that it may."""
        del folder

    def set_aside(self) -> list[str]:
        """Names of the sets that are in no file of their own."""
        given = {name for name in ("valid", "test") if isinstance(getattr(self.config.data, name), str | list)}
        return [name for name in ("valid", "test") if name in self.graphs and name not in given]

    def finish(self, model: nn.Module) -> None:
        """Change the best model, in place, into what is measured and written."""
        del model

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write reports of the kind; what the model file keeps of them."""
        del model, folder, metrics
        return {}

    @abstractmethod
    def digests(self) -> dict[str, str]:
        """Digests of what the sets hold as they were read, by their names.

        The part before the hyphen is of structures and labels, that after it of charges, bonds and what else models
        see; earlier versions of the package had the first alone.
        """

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What the model file keeps of the data."""


class PotentialTask(Task):
    """Training of a new potential, with the data's species, E0s and scales; a subclass starts from something else.

    Args:
        config: Its configuration.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.run, self.data = config, config.run, self.prepare(config)
        model, dtype = self.start(config), getattr(torch, config.run.dtype)
        self.graphs: dict[str, StructureDataset] = {
            name: self.data.dataset(name, model, dtype) for name in self.data.sets
        }
        self.scale(model)
        self.inputs = model.inputs
        self.module = PotentialModule(
            model,
            PotentialLoss(config.loss),
            optimizer=config.optimizer,
            clock=RunClock(time_limit(config), config.run.clock),
            compile=config.run.compile,
            lr_factors=self.lr_factors(model),
        )

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """See the base class."""
        super().check(config)
        seeded(config, InteratomicPotential, ["H"])  # the arguments are the same for all elements

    def prepare(self, config: TrainConfig) -> TrainingData:
        """Read the data.

        Raises:
            DataError: The data cannot be used.
        """
        return prepare_data(config)

    def start(self, config: TrainConfig) -> InteratomicPotential:
        """The model to train, on the CPU in the configured precision; the same for the same seed.

        Raises:
            ConfigError: The model refuses one of its arguments.
        """
        data = self.data
        model = cast(InteratomicPotential, seeded(config, InteratomicPotential, data.species))
        if data.reference is not None:
            model.set_energy_reference(data.reference.values, provenance=data.reference.source)
        if data.force_rms > 0:
            model.set_scale(data.force_rms)
        model.trained_on = domain_of(data.sets["train"].structures)
        _log.info("RMS force %.4g eV/A; model with %d parameters", data.force_rms, count_parameters(model))
        return model

    def scale(self, model: InteratomicPotential) -> None:
        """Set what the model takes from the training graphs."""
        neighbors = self.graphs["train"].average_neighbors()
        model.set_average_neighbors(neighbors)
        _log.info("%.1f neighbors within %.3g A", neighbors, model.r_max)

    def lr_factors(self, model: InteratomicPotential) -> dict[str, float]:
        """Factors of the learning rate by the names of parameters, where they are not 1."""
        del model
        return {}

    def measure(self, model: nn.Module, name: str, folder: Path) -> dict[str, float]:
        """See the base class."""
        graphs = self.graphs[name]
        result = predict(model, graphs, limits=self.run.limits)
        plot_predictions(result, graphs.structures, graphs.labels, folder, name)
        return result.errors

    def structures(self, name: str) -> list[Atoms]:
        """See the base class."""
        return self.data.sets[name].labeled()

    def as_read(self) -> dict[str, LabeledSet]:
        """All sets before anything is computed of their labels."""
        return self.data.sets

    def digests(self) -> dict[str, str]:
        """See the base class."""
        sets = {name: [one] for name, one in self.as_read().items()} | {ISOLATED: list(self.data.isolated)}
        found = {}
        for name, parts in sets.items():
            structures = [atoms for one in parts for atoms in one.structures]
            labels = [label for one in parts for label in one.labels]
            values = (part for label in labels for part in (label.energy, label.forces, label.stress))
            found[name] = f"{content_digest(structures, values)}-{inputs_digest(structures)}"
        return found

    def summary(self) -> dict[str, Any]:
        """See the base class."""
        return {
            "labels": {name: dataclasses.asdict(one.counts) for name, one in self.data.sets.items()},
            GEOMETRY: self.geometry().to_json(),
        }

    def geometry(self) -> GeometryRanges:
        """Bonds, contacts and heights over a surface that the structures of the training have."""
        return GeometryRanges.of(self.data.sets["train"].structures, surface="surface" in self.inputs)


class PropertyTask(Task):
    """Training of a new model of properties of molecules; a subclass starts from something else.

    Args:
        config: Its configuration.
    """

    def __init__(self, config: PropertyConfig) -> None:
        self.config, self.run, self.data = config, config.run, self.prepare(config)
        model = self.start(config)
        self.graphs: dict[str, PropertyDataset] = self.data.datasets(model, getattr(torch, config.run.dtype))
        for graphs in self.graphs.values():
            graphs.prepare(progress=config.run.progress)
        self.scale(model)
        everything = [atoms for one in self.data.sets.values() for atoms in one.structures]
        warn_unused_inputs(everything, model.body.inputs, ("charge", "spin"))
        self.loss = self.make_loss(config, model)
        self.module = PropertyModule(
            model,
            self.loss,
            optimizer=config.optimizer,
            clock=RunClock(time_limit(config), config.run.clock),
            lr_factors=self.lr_factors(model),
        )

    @classmethod
    def check(cls, config: PropertyConfig) -> None:
        """See the base class."""
        super().check(config)
        if not config.model_is_given:
            seeded(config, MolecularPropertyModel, ["H"], resolve_targets(config.data.targets))
        if config.run.compile:
            raise ConfigError("run.compile is true, but models of properties are not compiled: leave it out")

    def prepare(self, config: PropertyConfig) -> PropertyData:
        """Read the data.

        Raises:
            DataError: The data cannot be used.
        """
        return prepare_properties(config)

    def start(self, config: PropertyConfig) -> MolecularPropertyModel:
        """The model to train, on the CPU in the configured precision; the same for the same seed.

        Raises:
            ConfigError: The model refuses one of its arguments.
        """
        train = self.data.sets["train"]
        model = cast(MolecularPropertyModel, seeded(config, MolecularPropertyModel, train.species, train.targets))
        set_references(model, train)
        model.trained_on = domain_of(train.structures)
        _log.info("model with %d parameters", count_parameters(model))
        return model

    def scale(self, model: MolecularPropertyModel) -> None:
        """Set what the model takes from the training graphs."""
        model.set_average_neighbors(self.graphs["train"].average_neighbors())

    def lr_factors(self, model: MolecularPropertyModel) -> dict[str, float]:
        """Factors of the learning rate by the names of parameters, where they are not 1."""
        del model
        return {}

    def make_loss(self, config: PropertyConfig, model: MolecularPropertyModel) -> PropertyLoss:
        """The loss, in units of what composition leaves of the values in the training set."""
        spread = [one.scale for one in fit_references(self.data.sets["train"], model.species)]
        return PropertyLoss(config.loss, model.targets, spread)

    def predicted(self, model: nn.Module, name: str) -> tuple[Values, dict[str, float]]:
        """What a model says of one of the sets, and its errors."""
        return predict_properties(
            model,
            self.graphs[name],
            limits=dataclasses.replace(self.run.limits, batch_size=max(self.run.batch_size, 64)),
            loss=self.loss,
        )

    def measure(self, model: nn.Module, name: str, folder: Path) -> dict[str, float]:
        """See the base class."""
        values, errors = self.predicted(model, name)
        plot_properties(values, self.graphs[name].molecules, folder, name)
        return errors

    def structures(self, name: str) -> list[Atoms]:
        """See the base class."""
        return self.data.sets[name].labeled()

    def as_read(self) -> dict[str, PropertySet]:
        """All sets before anything is computed of their values."""
        return self.data.sets

    def digests(self) -> dict[str, str]:
        """See the base class."""
        bonds = self.module.model.edges != "radius"
        return {
            name: f"{content_digest(one.structures, [one.matrix()])}-{inputs_digest(one.structures, bonds=bonds)}"
            for name, one in self.as_read().items()
        }

    def summary(self) -> dict[str, Any]:
        """See the base class."""
        return {"data": self.data.summary()}


def time_limit(config: TrainConfig | PropertyConfig) -> float | None:
    """Seconds that a run may take."""
    return None if config.run.max_minutes is None else 60.0 * config.run.max_minutes


def count_parameters(model: nn.Module) -> int:
    """Number of weights; those of an average, which are not trained, count too."""
    return sum(parameter.numel() for parameter in model.parameters())
