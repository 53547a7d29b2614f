"""Fine-tuning to properties of molecules: training that starts from a potential, or from a model of properties."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ik_e3nn.data import PropertySet, resolve_targets
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.data.properties.set import joined
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import batch_graphs
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, extended, retargeted
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.models.networks.bodies import PotentialBody
from ik_e3nn.models.networks.domain import domain_of
from ik_e3nn.models.transfer.retarget import kept_targets
from ik_e3nn.models.transfer.species import new_element_masks
from ik_e3nn.targets import Target
from ik_e3nn.training.config.finetune import OLD, REPLAY, PropertyFinetuneConfig
from ik_e3nn.training.config.properties import PropertyConfig
from ik_e3nn.training.finetuning.adaptation import Adaptation, load_any
from ik_e3nn.training.finetuning.potentials import elements_reason
from ik_e3nn.training.finetuning.property_base import body_settings, check_body, known_elements
from ik_e3nn.training.finetuning.property_refit import move_references
from ik_e3nn.training.finetuning.property_replay import moved_values, read_old_properties
from ik_e3nn.training.finetuning.report import PageText, warn_unmeasured
from ik_e3nn.training.objective.property_loss import PropertyLoss
from ik_e3nn.training.sets.property_prepare import (
    PropertyData,
    bonded,
    prepare_properties,
    set_references,
    without_reference,
)
from ik_e3nn.training.tasks.tasks import PropertyTask

_log = logging.getLogger(__name__)

BODY = "body.potential."
SAMPLE, BATCH = 512, 32  # molecules that the size of features is found from, and how many at once


class PropertyFinetuning(PropertyTask):
    """Starts from the body of a base model, trains what the method says, and measures before and after.

    The constants of the body (numbers of neighbors and scales, to which its weights belong) stay the base's. Heads and
    scales of targets that the base has stay too, and their references are moved to the new labels (``E0s: refit``);
    others are new and start by predicting their references. With old data, the base's other targets stay too.

    Args:
        config: The configuration.

    Attributes:
        adaptation: The base's file, the method and notes.
        base: The base model.
        kept: Targets that it shares with the new data.
        others: Those that it shares with old data alone.
        new: New molecules to train on.
        old: Molecules of old data, by ``REPLAY`` and ``OLD``, with their values as they were read.
        warning: What the report says if nothing measures what was forgotten.
    """

    def __init__(self, config: PropertyFinetuneConfig) -> None:
        self.adaptation = Adaptation(config)
        self.base = load_any(self.adaptation.path)
        super().__init__(config)

    @classmethod
    def check(cls, config: PropertyConfig) -> None:
        """See the base class."""
        super().check(config)
        if isinstance(config, PropertyFinetuneConfig):
            base, method = load_any(model_path(config.finetune.base)), config.finetune
            check_body(config.model, base)
            for name in ("replay", "old_domain"):
                if getattr(method, name) is not None and isinstance(base, InteratomicPotential):
                    raise ConfigError(
                        f"finetune.{name} is {getattr(method, name)!r}, but has no effect, because the base is a "
                        "potential: a model of properties that is made of it has no energies and forces that it could "
                        "forget; leave it out."
                    )

    def prepare(self, config: PropertyConfig) -> PropertyData:
        """Read the data, with bonds if the base's graph has them."""
        self.adaptation.check_same_base()
        targets = resolve_targets(config.data.targets)
        self.kept = kept_targets(self.base, targets) if isinstance(self.base, MolecularPropertyModel) else []
        if self.adaptation.method.E0s == "base" and not self.kept:
            raise ConfigError(
                "finetune.E0s is 'base', but has no effect, because the base has none of the targets: their references "
                "come from the data; leave it out."
            )
        config = dataclasses.replace(config, model={"edges": body_settings(self.base)["edges"]})
        data = prepare_properties(config, known=known_elements(self.base, targets))
        self.new, self.old, self.others, self.warning = data.sets["train"], {}, [], ""
        if not isinstance(self.base, MolecularPropertyModel):
            return data
        self.old = read_old_properties(config, self.adaptation.method, self.base, count=len(self.new))
        if self.base.edges != "radius":
            self.old, sources = bonded(self.old, config)
            data = dataclasses.replace(data, bonds=data.bonds | sources)
        found = [target for one in self.old.values() for target in one.targets]
        self.others = [target for target in self.base.targets if target in found and target not in self.kept]
        if (self.kept or self.others) and OLD not in self.old:
            self.warning = warn_unmeasured(replay=REPLAY in self.old)
        return data

    def start(self, config: PropertyConfig) -> MolecularPropertyModel:
        """The base's body with the new elements, heads and references; what the method does not train is frozen.

        Old data join the sets here, because their values are moved by the new references.
        """
        train = self.new
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            model = self._with_heads(train.species, [*train.targets, *self.others])
        model = model.to(getattr(torch, config.run.dtype))
        set_references(model, train, self.kept)
        if self.kept and self.adaptation.method.E0s == "refit":
            move_references(model, train, self.kept)
        self._add_old_data(model)
        known = self.base.trained_on if isinstance(self.base, MolecularPropertyModel) else None  # heads know no others
        model.trained_on = domain_of(train.structures).joined(known)
        self.adaptation.apply(model, self._masks(model))
        self._settle(model)
        return model

    def scale(self, model: MolecularPropertyModel) -> None:
        """Set the size of features for new heads; numbers of neighbors are the base's, to which its weights belong."""
        if isinstance(self.base, MolecularPropertyModel):
            return
        initial, graphs = cast(MolecularPropertyModel, self.adaptation.initial), self.graphs["train"]
        squares, atoms = torch.zeros(()), 0
        count = min(len(graphs), SAMPLE)
        chosen = [graphs[number * len(graphs) // count] for number in range(count)]
        with torch.no_grad():
            for start in range(0, count, BATCH):
                batch = batch_graphs(chosen[start : start + BATCH])
                features = initial.body(batch, initial.molecules(batch).species)
                squares = squares + len(features) * initial.feature_scale.mean_squares(features)
                atoms += len(features)
        for one in (initial, model):
            one.feature_scale.set_mean_squares(squares / atoms)

    def lr_factors(self, model: MolecularPropertyModel) -> dict[str, float]:
        """See ``Adaptation.lr_factors``."""
        return self.adaptation.lr_factors(model)

    def make_loss(self, config: PropertyConfig, model: MolecularPropertyModel) -> PropertyLoss:
        """See the base class; targets of old data alone have the base's spread, and no weight if none is replayed."""
        counts = self.data.sets["train"].counts()
        unlearned = [target.name for target in self.others if not counts[target.name]]
        useless = ", ".join(f"loss.weights.{name}" for name in unlearned if name in config.loss.weights)
        if useless:
            raise ConfigError(f"{useless} has no effect, because nothing to train on has a value of it; leave it out.")
        if unlearned:
            _log.warning(
                "nothing to train on has a value of %s: the model goes on predicting it, but nothing keeps that right; "
                "finetune.replay with such values would", ", ".join(unlearned),
            )  # fmt: skip
        weights = config.loss.weights | dict.fromkeys(unlearned, 0.0)
        if not any(weights.get(name, 1.0) for name, count in self.data.sets["valid"].counts().items() if count):
            raise ConfigError(
                "data.valid has no value of a target whose weight (loss.weights) is not zero, so that no epoch is "
                "better than another; give it such values, or one of its targets a weight."
            )
        new = dict(zip(self.new.targets, fit_references(self.new, model.species), strict=True))
        scales = zip(model.targets, model.scales.scale.tolist(), strict=True)
        spread = [new[target].scale if target in new else scale for target, scale in scales]
        return PropertyLoss(dataclasses.replace(config.loss, weights=weights), model.targets, spread)

    def as_read(self) -> dict[str, PropertySet]:
        """See the base class."""
        return {**super().as_read(), "train": self.new, **self.old}

    def set_aside(self) -> list[str]:
        """See the base class; what is left of the replayed data counts, with the values that it was measured by."""
        left = OLD in self.graphs and self.adaptation.method.old_domain is None
        return [*super().set_aside(), *([OLD] if left else [])]

    def begin(self, folder: Path) -> None:
        """See the base class."""
        self.adaptation.begin(folder)

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to be kept apart."""
        self.adaptation.finish(model)

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Errors before and after, on new and old data, in the targets' units."""
        initial = self.adaptation.initial.to(resolve_device(self.run.device))
        errors: dict[str, Any] = {
            name: {"before": self.predicted(initial, name)[1], "after": metrics[name]}
            for name in ("valid", "test")
            if name in self.graphs
        }
        if OLD in self.graphs:
            for when, one in (("before", initial), ("after", model)):
                found = self.predicted(one, OLD)[1]
                found.pop("loss")  # that of targets which are learned, and old data may have others alone
                errors.setdefault(OLD, {})[when] = found
        facts = self.adaptation.facts
        names = {
            "Targets shared with the base": "kept_targets", "new": "new_targets",
            "kept from the base for old data": "old_targets", "left out": "lost_targets",
        }  # fmt: skip
        text = "; ".join(f"{what}: {', '.join(facts[key]) or 'none'}" for what, key in names.items()) + "."
        if self.old:
            text += f" Molecules of old data: {facts['replayed']} replayed, {len(self.old.get(OLD, ()))} to measure on."
        before = "the body of the base with heads that say what composition and size say, the reference"
        if self.kept or self.others:
            moved = self.kept and self.adaptation.method.E0s == "refit"
            before += ", but for targets of the base, which it predicts itself"
            before += ", with references moved to the new labels, as are values of old data" if moved else ""
        before += "."
        return self.adaptation.report(errors, folder, PageText(text, before, self.warning))

    def _add_old_data(self, model: MolecularPropertyModel) -> None:
        """Give all sets the model's targets, and add the old data, with values that belong to its references."""
        sets = {name: one.with_targets(model.targets) for name, one in self.data.sets.items()}
        for name, one in self.old.items():
            moved = moved_values(one, cast(MolecularPropertyModel, self.base), model).with_targets(model.targets)
            if name == REPLAY:
                sets["train"] = joined([sets["train"], moved])
            else:
                sets[name] = moved
        self.data = dataclasses.replace(self.data, sets=sets)

    def _with_heads(self, species: Sequence[int], targets: Sequence[Target]) -> MolecularPropertyModel:
        if isinstance(self.base, MolecularPropertyModel):
            return retargeted(self.base, targets, species)
        hidden = {name: value for name, value in self.config.model.items() if name == "hidden" and value is not None}
        return MolecularPropertyModel.from_potential(extended(self.base, species), targets, **hidden)

    def _masks(self, model: MolecularPropertyModel) -> dict[str, Tensor]:
        """Masks of the weights of new elements, by the names of parameters."""
        body = self.base.body if isinstance(self.base, MolecularPropertyModel) else self.base
        old = body.potential if isinstance(body, PotentialBody) else body
        if not isinstance(old, InteratomicPotential) or not isinstance(model.body, PotentialBody):
            return {}
        return {f"{BODY}{name}": mask for name, mask in new_element_masks(old, model.body.potential).items()}

    def _settle(self, model: MolecularPropertyModel) -> None:
        """Note what the settings have come to, and say it."""
        new = [z for z in model.species if z not in self.base.species]
        resolved = {f"model.{name}": value for name, value in model.config.items() if name != "targets"}
        self.adaptation.facts |= {
            "kept_targets": [target.name for target in self.kept],
            "new_targets": [target.name for target in self.new.targets if target not in self.kept],
            "old_targets": [target.name for target in self.others],
            "lost_targets": [t.name for t in getattr(self.base, "targets", ()) if t not in model.targets],
            "replayed": len(self.old.get(REPLAY, ())),
            "without_reference": without_reference(model),
        }
        resolved |= self.adaptation.replay_settings(len(self.new))
        reasons = elements_reason(new)
        if isinstance(self.base, InteratomicPotential):
            reasons["model.hidden"] = "the default"
        self.adaptation.settle(model, new, resolved, reasons)
