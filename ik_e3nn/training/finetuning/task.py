"""Fine-tuning: training that starts from a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import nn

from ik_e3nn.data import LabeledSet
from ik_e3nn.data.labels.labeled_set import joined
from ik_e3nn.data.structures.ranges import GEOMETRY, GeometryRanges
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import batch_graphs
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, StoredModel, read_model_info
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.models.networks.domain import domain_of
from ik_e3nn.training.config.finetune import OLD, REPLAY, FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.finetuning.adaptation import Adaptation, load_base
from ik_e3nn.training.finetuning.base import (
    OF_HEADS,
    adapted,
    body_settings,
    check_architecture,
    check_body,
    element_masks,
    known_elements,
    size_of_features,
)
from ik_e3nn.training.finetuning.old_data import moved_values, read_old_data
from ik_e3nn.training.finetuning.references import base_reference, move_references, refit_reference, warn_of_units
from ik_e3nn.training.finetuning.report import PageText, warn_unmeasured
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.sets.prepare import TrainingData, bonded, prepare_data
from ik_e3nn.training.sets.references import energy_reference, set_references, without_reference
from ik_e3nn.training.tasks.tasks import Task, spreads_of

_log = logging.getLogger(__name__)

SAMPLE, BATCH = 512, 32  # molecules from which the size of features is computed, and molecules per batch


class Finetuning(Task):
    """Starts from a base model, trains the weights that the method chooses, and measures errors before and after.

    The base is a potential or a model of properties, and so is the result. The constants of the body (numbers of
    neighbors and scales, on which its weights depend) stay those of the base. Heads of targets that the base has stay
    too, and the references of these targets are shifted to the new labels (``E0s: refit``); heads of other targets are
    new and start by predicting the references. With old data, other targets of the base stay too.

    Args:
        config: The configuration.

    Attributes:
        adaptation: The file of the base, the method and the facts for the report.
        base: The base model.
        kept: Targets that the base and the new data share.
        others: Targets of the base that only old data have.
        new: New structures to train on.
        old: The sets of old data, ``REPLAY`` and ``OLD``, with their values as they were read.
        warning: Warning of the report if nothing measures what was forgotten.
    """

    def __init__(self, config: FinetuneConfig) -> None:
        self.adaptation, self.method = Adaptation(config), config.finetune
        self.base = load_base(self.adaptation.path)
        super().__init__(config)

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """See the base class."""
        super().check(config)
        method = cast(FinetuneConfig, config).finetune
        base = load_base(model_path(method.base))
        is_potential = base.potential is base
        if config.data.targets is None:
            if not is_potential:
                raise ConfigError(
                    f"finetune.base is {method.base!r}, which is not a potential but a model of "
                    f"{', '.join(one.name for one in base.targets)}: name your targets with data.targets, or choose a "
                    "potential as the base."
                )
            check_architecture(config.model, base.config)
            return
        check_body(config.model, base)
        for name in ("replay", "old_domain"):
            if getattr(method, name) is not None and is_potential and not config.trained:
                raise ConfigError(
                    f"finetune.{name} is {getattr(method, name)!r}, but has no effect, because the base is a "
                    "potential, and a model of properties made from it has no energies and forces to forget; leave it "
                    "out."
                )

    def prepare(self, config: TrainConfig) -> TrainingData:
        """Read the new data, and old data if they are asked for."""
        self.adaptation.check_same_base()
        targets, edges = config.targets, None
        self.kept = [target for target in targets if target in self.base.targets]
        if self.method.E0s == "base" and not self.kept:
            raise ConfigError(
                "finetune.E0s is 'base', but has no effect, because the base has none of the targets: their references "
                "come from the data; leave it out."
            )
        known: Any = self.base.species
        if config.data.targets is not None:
            edges, known = body_settings(self.base)["edges"], known_elements(self.base, targets)
        data = prepare_data(config, edges=edges, known=known)
        self.new = data.sets["train"]
        self.old = read_old_data(cast(FinetuneConfig, config), self.base, count=len(self.new))
        if edges in ("bonds", "both"):
            self.old, sources = bonded(self.old, config)
            data = replace(data, bonds=data.bonds | sources)
        found = {name for one in self.old.values() for name, count in one.counts().items() if count}
        self.others = [one for one in self.base.targets if one.name in found and one not in self.kept]
        unmeasured = (self.kept or self.others) and OLD not in self.old
        self.warning = warn_unmeasured(replay=REPLAY in self.old) if unmeasured else ""
        return data

    def start(self, config: TrainConfig) -> StoredModel:
        """The base with new elements, references and heads; weights that the method does not train are frozen.

        Old data are added to the sets here, because their values are shifted to the new references.
        """
        train = self.new
        heads = {name: value for name, value in config.model.items() if name in OF_HEADS and value is not None}
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            targets = None if config.data.targets is None else [*config.targets, *self.others]
            model = adapted(self.base, train.species, targets, heads)
        model = model.to(getattr(torch, config.run.dtype))
        if model.potential is not None:
            self._set_energy_reference(model.potential, config)
        if model.potential is not model:
            kept = [target for target in self.kept if target.field is None]
            set_references(cast(MolecularPropertyModel, model), train, kept)
            if kept and self.method.E0s == "refit":
                move_references(cast(MolecularPropertyModel, model), train, kept)
        self._add_old_data(model)
        others = None if self.base.potential is self.base and model.potential is None else self.base.trained_on
        model.trained_on = domain_of(train.structures).joined(others)
        self.adaptation.apply(model, element_masks(self.base, model))
        self._settle(model)
        return model

    def scale(self, model: StoredModel) -> None:
        """Set the size of features for new heads; numbers of neighbors stay as the weights of the base need them."""
        if self.base.potential is not self.base or model.potential is model:
            return
        initial, graphs = cast(MolecularPropertyModel, self.adaptation.initial), self.graphs["train"]
        count = min(len(graphs), SAMPLE)
        chosen = [graphs[number * len(graphs) // count] for number in range(count)]
        batches = (batch_graphs(chosen[start : start + BATCH]) for start in range(0, count, BATCH))
        size = size_of_features(initial, batches)
        for one in (initial, cast(MolecularPropertyModel, model)):
            one.feature_scale.set_mean_squares(size)

    def lr_factors(self, model: StoredModel) -> dict[str, float]:
        """See ``Adaptation.lr_factors``."""
        return self.adaptation.lr_factors(model)

    def make_loss(self, config: TrainConfig, model: StoredModel) -> Loss:
        """See the base class; targets that only old data have use the base's spread, without weight if not replayed."""
        counts, weights = self.data.sets["train"].counts(), dict(config.loss.weights)
        unlearned = [target.name for target in self.others if not counts[target.name]]
        useless = ", ".join(f"loss.weights.{name}" for name in unlearned if name in weights)
        if useless:
            raise ConfigError(f"{useless} has no effect, as no training structure has a value of it; leave it out.")
        if unlearned:
            _log.warning(
                "no training structure has a value of %s: the model still predicts it, but may become wrong; give "
                "finetune.replay with such values to prevent that", ", ".join(unlearned),
            )  # fmt: skip
        weights |= dict.fromkeys(unlearned, 0.0)
        measured = [name for name, count in self.data.sets["valid"].counts().items() if count]
        if not config.trained and not any(weights.get(name, 1.0) for name in measured):
            raise ConfigError(
                "data.valid has no value of a target with a weight (loss.weights), so that epochs cannot be compared; "
                "add such values, or give one of its targets a weight."
            )
        spreads = dict[str, float]()
        if model.potential is not model:
            of_properties = cast(MolecularPropertyModel, model)
            scales = zip(of_properties.properties, of_properties.scales.scale.tolist(), strict=True)
            spreads = {one.name: scale for one, scale in scales}
        return Loss(replace(config.loss, weights=weights), model.targets, spreads | spreads_of(self.new, model))

    def as_read(self) -> Mapping[str, LabeledSet]:
        """See the base class."""
        return {**super().as_read(), "train": self.new, **self.old}

    def set_aside(self) -> list[str]:
        """See the base class; also what is left of the data for replay, with the values used to measure it."""
        left = OLD in self.graphs and self.method.old_domain is None
        return [*super().set_aside(), *([OLD] if left else [])]

    def begin(self, folder: Path) -> None:
        """See the base class."""
        self.adaptation.begin(folder)

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to stay separate."""
        self.adaptation.finish(model)

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Errors before and after, on new and old data, in the targets' units."""
        initial = self.adaptation.initial.to(resolve_device(self.run.device))
        errors: dict[str, Any] = {
            name: {"before": self.predicted(initial, name).errors, "after": metrics[name]}
            for name in ("valid", "test")
            if name in self.graphs
        }
        if OLD in self.graphs:
            for when, one in (("before", initial), ("after", model)):
                found = self.predicted(one, OLD).errors
                found.pop("loss", None)  # it is the loss of trained targets, which old data may lack
                errors.setdefault(OLD, {})[when] = found
        return self.adaptation.report(errors, folder, self._page())

    def geometry(self) -> GeometryRanges:
        """Ranges of the base and of the new structures together."""
        found = super().geometry()
        known = GeometryRanges.from_json(read_model_info(self.adaptation.path).get("training", {}).get(GEOMETRY))
        return found if known is None or self.module.model.potential is None else found.joined(known)

    def _page(self) -> PageText:
        """Texts of the page on targets, old data and references."""
        facts = self.adaptation.facts
        names = {
            "Targets shared with the base": "kept_targets", "new": "new_targets",
            "kept from the base for old data": "old_targets", "left out": "lost_targets",
        }  # fmt: skip
        text = "; ".join(f"{what}: {', '.join(facts[key]) or 'none'}" for what, key in names.items()) + "."
        text += f" Old structures: {facts['replayed']} replayed, {len(self.old.get(OLD, ()))} to measure on."
        text += f" E0s: {facts['E0s_from']}." if "E0s_from" in facts else ""
        before = "the base with the new elements"
        if facts["new_targets"]:
            before += "; new targets are predicted by their references, from composition and size alone"
            before += ", and targets of the base by its own heads" if self.kept or self.others else ""
        if self.kept and self.method.E0s != "base":
            before += "; references, and the values of old data, are shifted to the new labels"
        return PageText(text, before + ".", self.warning)

    def _set_energy_reference(self, model: InteratomicPotential, config: TrainConfig) -> None:
        """Set E0s as ``finetune.E0s`` asks; without energies they are those of the base."""
        train, isolated = self.new.with_mechanics(), self.data.isolated.with_mechanics()
        base = self.base.potential
        known = any(np.isfinite(one.values["energy"]).any() for one in (train, isolated))
        if base is None or self.method.E0s == "data":
            found = energy_reference(config.data, train, isolated)
        elif self.method.E0s == "refit" and known:
            found = refit_reference(model, train, isolated)
        else:
            found = base_reference(base, train.species)
        if found is not None:
            old = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
            model.set_energy_reference(old | found.values, provenance=found.source)
        warn_of_units(model, train)

    def _add_old_data(self, model: StoredModel) -> None:
        """Give all sets the model's targets, and add the old data, with values shifted to its references."""
        sets = {name: one.with_targets(model.targets) for name, one in self.data.sets.items()}
        for name, one in self.old.items():
            moved = moved_values(one, self.base, model).with_targets(model.targets)
            if name == REPLAY:
                sets["train"] = joined([sets["train"], moved])
            else:
                sets[name] = moved
        self.data = replace(self.data, sets=sets)

    def _settle(self, model: StoredModel) -> None:
        """Record and log the targets and how settings were resolved."""
        facts, new = self.adaptation.facts, [z for z in model.species if z not in self.base.species]
        resolved: dict[str, Any] = {f"model.{name}": value for name, value in model.config.items() if name != "targets"}
        facts |= {
            "kept_targets": [target.name for target in self.kept],
            "new_targets": [target.name for target in self.new.targets if target not in self.kept],
            "old_targets": [target.name for target in self.others],
            "lost_targets": [target.name for target in self.base.targets if target not in model.targets],
            "replayed": len(self.old.get(REPLAY, ())),
        }
        extra = ", ".join(chemical_symbols[z] for z in new)
        reasons = {"model.species": f"elements of the base, and {extra} from the data"} if extra else {}
        if model.potential is not None:
            energies = zip(model.species, model.potential.atomic_energy.reference.tolist(), strict=True)
            resolved["data.E0s"] = {chemical_symbols[z]: round(energy, 6) for z, energy in energies}
            facts["E0s_from"] = model.potential.energy_reference_provenance
        if model.potential is not model:
            facts["without_reference"] = without_reference(cast(MolecularPropertyModel, model))
            reasons |= {f"model.{name}": "the default" for name in OF_HEADS} if self.base.potential is self.base else {}
        resolved |= self.adaptation.replay_settings(len(self.new))
        self.adaptation.settle(model, new, resolved, reasons)
