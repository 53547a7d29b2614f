"""Fine-tuning to properties of molecules: training that starts from a potential, or from a model of properties."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ik_e3nn.data import resolve_targets
from ik_e3nn.data.property_reference import fit_references
from ik_e3nn.data.property_set import joined
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import SURROUNDINGS, Target, batch_graphs
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, extended, retargeted
from ik_e3nn.models.bodies import PotentialBody
from ik_e3nn.models.pretrained import model_path
from ik_e3nn.models.property import natural_edges
from ik_e3nn.models.retarget import kept_targets
from ik_e3nn.models.species import new_element_masks
from ik_e3nn.training.finetune_config import PropertyFinetuneConfig
from ik_e3nn.training.finetune_report import PageText, warn_unmeasured
from ik_e3nn.training.finetuning import check_architecture, elements_reason
from ik_e3nn.training.from_base import Adaptation, load_any
from ik_e3nn.training.prediction import choose_device
from ik_e3nn.training.property_config import PropertyConfig
from ik_e3nn.training.property_prepare import (
    PropertyData,
    move_references,
    prepare_properties,
    set_references,
    without_reference,
)
from ik_e3nn.training.replay import OLD, moved_values, read_old_properties
from ik_e3nn.training.tasks import PropertyTask

_log = logging.getLogger(__name__)

Base = InteratomicPotential | MolecularPropertyModel
BODY = "body.potential."
SAMPLE, BATCH = 512, 32  # molecules that the size of features is found from, and how many at once


class PropertyFinetuning(PropertyTask):
    """Starts from the body of a base model, trains what the method says, and measures before and after.

    The constants of the body (numbers of neighbours and scales, to which its weights belong) stay the base's. Heads and
    scales of targets that the base has stay too, and their references are moved to the new labels (`E0s: refit`);
    others are new and start by predicting their references. With old data, the base's other targets stay too.

    Args:
        config: The configuration.
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
        data = prepare_properties(config, known=_known_elements(self.base, targets))
        self.new, method = data.sets["train"], self.adaptation.method
        self.replayed = self.old = None
        if isinstance(self.base, MolecularPropertyModel):
            self.replayed, self.old = read_old_properties(config, method, self.base, count=len(self.new))
        found = [target for one in (self.replayed, self.old) if one is not None for target in one.targets]
        self.others = [t for t in getattr(self.base, "targets", ()) if t in found and t not in self.kept]
        return data

    def start(self, config: PropertyConfig) -> MolecularPropertyModel:
        """The base's body with the new elements, heads and references; what the method does not train is frozen."""
        train = self.new
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            model = self._with_heads(train.species, [*train.targets, *self.others])
        model = model.to(getattr(torch, config.run.dtype))
        set_references(model, train, self.kept)
        if self.kept and self.adaptation.method.E0s == "refit":
            move_references(model, train, self.kept)
        self._add_old_data(model)
        self.adaptation.apply(model, self._masks(model))
        self._settle(model)
        return model

    def scale(self, model: MolecularPropertyModel) -> None:
        """Set the size of features for new heads; numbers of neighbours are the base's, to which its weights belong."""
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
        """See `Adaptation.lr_factors`."""
        return self.adaptation.lr_factors(model)

    def spread(self, model: MolecularPropertyModel) -> list[float]:
        """See the base class; that of a target which only old data have is the base's."""
        new = dict(zip(self.new.targets, fit_references(self.new, model.species), strict=True))
        scales = zip(model.targets, model.scales.scale.tolist(), strict=True)
        return [new[target].scale if target in new else scale for target, scale in scales]

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to be kept apart."""
        self.adaptation.finish(model)

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Errors before and after, on new and old data, in the targets' units."""
        initial = self.adaptation.initial.to(choose_device(self.run.device))
        errors: dict[str, Any] = {
            name: {"before": self.predicted(initial, name)[1], "after": metrics[name]}
            for name in ("valid", "test")
            if name in self.graphs
        }
        if OLD in self.graphs:
            errors[OLD] = {key: self.predicted(one, OLD)[1] for key, one in (("before", initial), ("after", model))}
        facts = self.adaptation.facts
        text = f"Targets of the base: {', '.join(facts['kept_targets']) or 'none'}. "
        text += f"New targets: {', '.join(facts['new_targets']) or 'none'}."
        if self.replayed is not None or self.old is not None:
            text += f" Targets of old data alone: {', '.join(facts['old_targets']) or 'none'}."
            text += f" Replayed molecules: {facts['replayed']}."
        before = "the body of the base with heads that say what composition and size say, the reference"
        if self.kept or self.others:
            moved = self.kept and self.adaptation.method.E0s == "refit"
            before += ", but for targets of the base, which it predicts itself"
            before += ", with references moved to the new labels, as are values of old data" if moved else ""
        before += "."
        warning = warn_unmeasured() if self.kept and OLD not in errors else ""
        return self.adaptation.report(errors, folder, PageText(text, before, warning))

    def _add_old_data(self, model: MolecularPropertyModel) -> None:
        """Give all sets the model's targets, and add the old data, with values that belong to its references."""
        sets = {name: one.with_targets(model.targets) for name, one in self.data.sets.items()}
        for name, one in (("train", self.replayed), (OLD, self.old)):
            if one is not None and isinstance(self.base, MolecularPropertyModel):
                moved = moved_values(one, self.base, model).with_targets(model.targets)
                sets[name] = joined([sets[name], moved]) if name in sets else moved
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
        replayed = 0 if self.replayed is None else len(self.replayed)
        if replayed:
            resolved["finetune.replay_ratio"] = round(replayed / len(self.new), 6)
        self.adaptation.facts |= {
            "kept_targets": [target.name for target in self.kept],
            "new_targets": [target.name for target in self.new.targets if target not in self.kept],
            "old_targets": [target.name for target in self.others],
            "replayed": replayed,
            "without_reference": without_reference(model),
        }
        reasons = elements_reason(new)
        if isinstance(self.base, InteratomicPotential):
            reasons["model.hidden"] = "the default"
        self.adaptation.settle(model, new, resolved, reasons)


def body_settings(base: Base) -> dict[str, Any]:
    """Arguments of a model of properties that has a base's body, but for its elements and targets.

    Raises:
        ConfigError: The base is a potential beside surroundings.

    >>> settings = body_settings(InteratomicPotential(["H"], num_channels=4))
    >>> settings["edges"], settings["potential"]["num_channels"]
    ('radius', 4)
    """
    if isinstance(base, MolecularPropertyModel):
        return {name: value for name, value in base.config.items() if name not in ("species", "targets")}
    outside = sorted(base.inputs.intersection(SURROUNDINGS))
    if outside:
        raise ConfigError(
            f"finetune.base is a potential for atoms beside a {outside[0]}, which molecules in a table of properties "
            "have not; choose another base."
        )
    options = {name: value for name, value in base.config.items() if name not in ("species", "r_max")}
    return {"edges": natural_edges(base), "r_max": base.r_max, "potential": options}


def check_body(asked: Mapping[str, Any], base: Base) -> None:
    """Raise unless arguments of a model of properties that were asked for are those that a base has.

    Raises:
        ConfigError: Names the first that differs.
    """
    known = body_settings(base)
    for name, value in asked.items():
        if value is None or (name == "hidden" and name not in known):
            continue
        if name not in known:
            bodies = {"steerable", "potential"} & set(known)
            raise ConfigError(
                f"model.{name} is given, but the base has a body of the kind {bodies.pop()!r}, which fine-tuning "
                "keeps; leave the setting out, or train a new model."
            )
        if isinstance(value, Mapping):
            names = [*known[name], *(["preset"] if name == "potential" else [])]
            unknown = sorted(set(value).difference(names))
            if unknown:
                raise ConfigError(f"unknown setting 'model.{name}.{unknown[0]}'; there are {', '.join(names)}.")
            check_architecture(value, known[name], where=f"model.{name}")
        else:
            check_architecture({name: value}, known)


def _known_elements(base: Base, targets: Sequence[Target]) -> list[int]:
    """Elements whose part in the references of all targets is known without data."""
    known = list(base.species)
    for target in targets:
        if target.by_element and not (isinstance(base, MolecularPropertyModel) and target in base.targets):
            return []
        if target.by_element and isinstance(base, MolecularPropertyModel):
            values = base.scales.per_atom[base.targets.index(target)]
            known = [
                z for z, value in zip(base.species, values.isnan().tolist(), strict=True) if z in known and not value
            ]
    return known
