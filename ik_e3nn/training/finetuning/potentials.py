"""Fine-tuning: training that starts from a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import nn

from ik_e3nn.data import EnergyReference
from ik_e3nn.data.structures.ranges import GEOMETRY, GeometryRanges
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import PRESETS, InteratomicPotential, extended, read_model_info
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.models.networks.domain import domain_of
from ik_e3nn.models.transfer.species import new_element_masks
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.training.config.finetune import OLD, REPLAY, FinetuneConfig
from ik_e3nn.training.config.schema import DataConfig, TrainConfig
from ik_e3nn.training.finetuning.adaptation import Adaptation, load_potential
from ik_e3nn.training.finetuning.refit import refit_reference, warn_of_units
from ik_e3nn.training.finetuning.replay import join_labeled, read_old_data
from ik_e3nn.training.finetuning.report import PageText, warn_unmeasured
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.prepare import LabeledSet, TrainingData, label_keys, prepare_data, reference_from_data
from ik_e3nn.training.tasks.model_section import check_model_arguments
from ik_e3nn.training.tasks.tasks import PotentialTask


def check_architecture(asked: Mapping[str, Any], known: Mapping[str, Any], *, where: str = "model") -> None:
    """Raise unless arguments of a potential that were asked for are those of the base.

    Args:
        asked: Arguments that were asked for.
        known: Those of the base.
        where: What they are called in messages.

    Raises:
        ConfigError: Names the first that differs.
    """
    asked = {name: value for name, value in asked.items() if value is not None}
    sizes = PRESETS.get(asked.pop("preset", ""), {})
    for name, value in {**sizes, **asked}.items():
        wanted = value
        if name == "group":
            wanted = SymmetryGroup.from_config(value).to_config()
        elif name == "inputs":
            wanted = sorted(value)
        if name in known and wanted != known[name]:
            raise ConfigError(
                f"{where}.{name} is {value!r}, but the base has {known[name]!r}: fine-tuning keeps the "
                "architecture of the base; leave the setting out, or train a new model."
            )


class Finetuning(PotentialTask):
    """Starts from a base model, trains what the method says, and measures before and after.

    Args:
        config: The configuration.
    """

    def __init__(self, config: FinetuneConfig) -> None:
        self.method, self.adaptation = config.finetune, Adaptation(config)
        self.base = load_potential(self.adaptation.path)
        training = read_model_info(self.adaptation.path).get("training", {})
        self.known_geometry = GeometryRanges.from_json(training.get(GEOMETRY))
        super().__init__(config)

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """See the base class."""
        check_model_arguments(config.model)
        if isinstance(config, FinetuneConfig):
            check_architecture(config.model, load_potential(model_path(config.finetune.base)).config)

    def prepare(self, config: TrainConfig) -> TrainingData:
        """The new data, E0s for them, and old data where they are asked for."""
        self.adaptation.check_same_base()
        arguments = {name: value for name, value in self.base.config.items() if name != "species"}
        config = dataclasses.replace(config, model=arguments)
        fit = {"refit": self._refit, "base": self._base_reference, "data": reference_from_data}[self.method.E0s]
        data = prepare_data(config, fit=fit, known=self.base.species)
        old = dict(zip(self.base.species, self.base.atomic_energy.reference.tolist(), strict=True))
        new = old if data.reference is None else old | data.reference.values
        shift = {z: new[z] - old[z] for z in old}
        train = data.sets["train"]
        replayed, kept = read_old_data(
            self.method, label_keys(config.data), shift, count=len(train.structures), seed=config.run.seed
        )
        sets = dict(data.sets)
        self.read = {**sets, **{name: one for name, one in ((REPLAY, replayed), (OLD, kept)) if one is not None}}
        if replayed is not None:
            sets["train"] = join_labeled(train, replayed)
        if kept is not None:
            sets[OLD] = kept
        self.warning = "" if OLD in sets else warn_unmeasured(replay=replayed is not None)
        self.adaptation.facts["replayed"] = 0 if replayed is None else len(replayed.structures)
        return dataclasses.replace(data, sets=sets)

    def start(self, config: TrainConfig) -> InteratomicPotential:
        """The base with the new elements and E0s; what the method does not train is frozen."""
        data = self.data
        model = extended(self.base, data.species).to(getattr(torch, config.run.dtype))
        if data.reference is not None:
            old = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
            model.set_energy_reference(old | data.reference.values, provenance=data.reference.source)
        warn_of_units(model, data.sets["train"])
        model.trained_on = domain_of(data.sets["train"].structures).joined(self.base.trained_on)
        self.adaptation.apply(model, new_element_masks(self.base, model))
        self._settle(model)
        return model

    def as_read(self) -> dict[str, LabeledSet]:
        """See the base class; of old data without the energies, which are moved by refitted E0s."""
        return {name: one.without_energies() if name in (REPLAY, OLD) else one for name, one in self.read.items()}

    def scale(self, model: InteratomicPotential) -> None:
        """Nothing: scales are the base's, to which its weights belong."""

    def lr_factors(self, model: InteratomicPotential) -> dict[str, float]:
        """See ``Adaptation.lr_factors``."""
        return self.adaptation.lr_factors(model)

    def begin(self, folder: Path) -> None:
        """See the base class."""
        self.adaptation.begin(folder)

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to be kept apart."""
        self.adaptation.finish(model)

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Errors before and after, on new and old data."""
        initial = self.adaptation.initial.to(resolve_device(self.run.device))
        limits = self.run.limits
        errors = {}
        for name in ("valid", "test", OLD):
            if name in self.graphs:
                before = predict(initial, self.graphs[name], limits=limits).errors
                known = metrics.get(name)
                after = known if known is not None else predict(model, self.graphs[name], limits=limits).errors
                errors[name] = {"before": before, "after": after}
        facts = self.adaptation.facts
        text = f"Replayed structures: {facts['replayed']}. E0s: {facts['E0s_from']}."
        start = "the base with the new elements and E0s. Energies of the old domain are moved to the new E0s."
        return self.adaptation.report(errors, folder, PageText(text, start, self.warning))

    def geometry(self) -> GeometryRanges:
        """Those of the base and of the new structures together."""
        found = super().geometry()
        return found if self.known_geometry is None else found.joined(self.known_geometry)

    def _refit(self, data: DataConfig, train: LabeledSet, isolated: Any, species: list[int]) -> EnergyReference | None:
        del data
        labels = [one.energy for part in (train, *isolated) for one in part.labels]
        if not np.isfinite(labels).any():
            return self._base_reference(None, train, isolated, species)
        return refit_reference(extended(self.base, species), train, isolated)

    def _base_reference(self, data: Any, train: Any, isolated: Any, species: list[int]) -> EnergyReference:
        del data, train, isolated
        new = [chemical_symbols[z] for z in species if z not in self.base.species]
        if new:
            raise ConfigError(
                f"the base has no E0 of {', '.join(new)}; set finetune.E0s to 'refit', with labeled energies, or "
                "'data'."
            )
        values = dict(zip(self.base.species, self.base.atomic_energy.reference.tolist(), strict=True))
        return EnergyReference(values, 0, 1.0, self.base.energy_reference_provenance)

    def _settle(self, model: InteratomicPotential) -> None:
        """Note what the settings have come to, and say it."""
        facts, new = self.adaptation.facts, [z for z in model.species if z not in self.base.species]
        resolved: dict[str, Any] = {f"model.{name}": value for name, value in model.config.items()}
        resolved["data.E0s"] = {
            chemical_symbols[z]: round(e, 6)
            for z, e in zip(model.species, model.atomic_energy.reference.tolist(), strict=True)
        }
        resolved |= self.adaptation.replay_settings(len(self.data.sets["train"].structures) - facts["replayed"])
        facts["E0s_from"] = model.energy_reference_provenance
        self.adaptation.settle(model, new, resolved, elements_reason(new))


def elements_reason(new: list[int]) -> dict[str, str]:
    """Why a model has the elements that it has, for the report of settings."""
    extra = ", ".join(chemical_symbols[z] for z in new)
    return {"model.species": f"the base's and {extra} of the data"} if extra else {}
