"""Fine-tuning: training that starts from a model."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from ase.data import chemical_symbols
from torch import nn

from ik_e3nn.data import LabeledSet
from ik_e3nn.data.labels.labeled_set import joined
from ik_e3nn.data.structures.ranges import GEOMETRY, GeometryRanges
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import batch_graphs
from ik_e3nn.json_file import read_json, write_json
from ik_e3nn.listing import listed
from ik_e3nn.models import (
    InteratomicPotential,
    MolecularPropertyModel,
    StoredModel,
    read_model_info,
    save_uncertainty,
    with_uncertainty,
)
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.models.networks.domain import domain_of
from ik_e3nn.nn import lora_parameters, merge_lora
from ik_e3nn.settings import no_effect
from ik_e3nn.training.config.finetune import OLD, REPLAY, FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.finetuning.base import (
    OF_HEADS,
    adapted,
    always_trained,
    body_settings,
    check_base,
    known_elements,
    load_base,
    size_of_features,
)
from ik_e3nn.training.finetuning.beside import check_places, far_from, with_surroundings
from ik_e3nn.training.finetuning.methods import adapt_weights, trained_parameters
from ik_e3nn.training.finetuning.old_data import moved_values, read_old_data
from ik_e3nn.training.finetuning.parts import parts_of
from ik_e3nn.training.finetuning.references import adapt_energies, move_references
from ik_e3nn.training.finetuning.report import describe, error_table, resolved_settings, warn_unmeasured, write_page
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.run import run_folder
from ik_e3nn.training.sets.prepare import TrainingData, bonded, prepare_data
from ik_e3nn.training.sets.references import set_references, without_reference
from ik_e3nn.training.tasks.field import fit_field
from ik_e3nn.training.tasks.tasks import Task, spreads_of
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)

SAMPLE, BATCH = 512, 32  # molecules from which the size of features is computed, and molecules per batch


class Finetuning(Task):
    """Starts from a base model, trains the weights that the method chooses, and measures errors before and after.

    The base is a potential or a model of properties, and so is the result. The constants of the body (numbers of
    neighbors and scales, on which its weights depend) stay those of the base. Heads of targets that the base has stay
    too, and the references of these targets are shifted to the new labels (``E0s: refit``); heads of other targets are
    new and start by predicting the references. With old data, other targets of the base stay too. A potential can get
    surroundings, which act on nothing at first; before the training their field on single atoms is fitted. Old data are
    then put far from them.

    Args:
        config: The configuration.

    Attributes:
        base: The base model.
        sure: The base with its uncertainty, which the new model takes over, or None.
        larger: The base with added surroundings, or the base itself.
        initial: A copy of the model before any training.
        facts: The content of the report, by name.
        kept: Targets that the base and the new data share.
        others: Targets of the base that only old data have.
        new: New structures to train on.
        old: The sets of old data, ``REPLAY`` and ``OLD``, with their values as they were read.
    """

    config: FinetuneConfig
    initial: StoredModel

    def __init__(self, config: FinetuneConfig) -> None:
        self.method, self.path = config.finetune, model_path(config.finetune.base)
        self.base = load_base(self.path)
        sure = self.method.uncertainty
        self.sure = None if sure is None else with_uncertainty([self.base], user_path(sure))
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.facts: dict[str, Any] = {"base": {"file": str(self.path), "sha256": digest}}
        super().__init__(config)

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """See the base class."""
        super().check(config)
        check_base(cast(FinetuneConfig, config))

    def prepare(self, config: TrainConfig) -> TrainingData:
        """Read the new data, and old data if they are asked for."""
        self._check_same_base(user_path(config.run.output) / run_folder.FINETUNE)
        targets, edges = config.targets, None
        self.kept = [target for target in targets if target in self.base.targets]
        if self.config.references == "base" and not self.kept:
            reason = "the base has none of the targets: their references come from the data"
            raise no_effect("finetune.E0s", self.config.references, reason)
        known: Any = self.base.species
        if config.data.targets is not None:
            edges, known = body_settings(self.base)["edges"], known_elements(self.base, targets)
        data = prepare_data(config, edges=edges, known=known, inputs=self.base.inputs)
        self.new = data.sets["train"]
        if self.sure is not None:
            self._check_carried(self.method.uncertainty)
        self.old = read_old_data(self.config, self.base, count=len(self.new))
        if edges in ("bonds", "both"):
            self.old, sources = bonded(self.old, config)
            data = replace(data, bonds=data.bonds | sources)
        found = {name for one in self.old.values() for name, count in one.counts().items() if count}
        self.others = [one for one in self.base.targets if one.name in found and one not in self.kept]
        forgets = self.method.method != "surroundings"  # which keeps the base as it is far from them
        unmeasured = forgets and (self.kept or self.others) and OLD not in self.old
        self.facts["warning"] = warn_unmeasured(replay=REPLAY in self.old) if unmeasured else ""
        return data

    def _check_carried(self, file: object) -> None:
        unknown = [chemical_symbols[z] for z in self.new.species if z not in self.base.species]
        if unknown:
            raise ConfigError(
                f"finetune.uncertainty: {file} knows nothing of {listed(unknown)}, which the base lacks too, so that "
                "standard deviations of the new model would be too small: leave the key out and run `ik-e3nn "
                "calibrate` on the new model"
            )

    def start(self, config: TrainConfig) -> StoredModel:
        """The base with new elements, references and heads; weights that the method does not train are frozen.

        Old data are added to the sets here, because their values are shifted to the new references.
        """
        train = self.new
        heads = {name: value for name, value in config.model.items() if name in OF_HEADS and value is not None}
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            targets = None if config.data.targets is None else [*config.targets, *self.others]
            self.larger = with_surroundings(self.base, config.model, getattr(torch, config.run.dtype))
            model = adapted(self.larger, train.species, targets, heads)
        model = model.to(getattr(torch, config.run.dtype))
        if model.potential is not None:
            isolated = self.data.isolated.with_mechanics()
            if self.larger is not self.base:
                check_places(train, model.potential)
            adapt_energies(model.potential, self.base.potential, train.with_mechanics(), isolated, self.config)
        if model.potential is not model:
            kept = [target for target in self.kept if target.field is None]
            set_references(cast(MolecularPropertyModel, model), train, kept)
            if kept and self.config.references == "refit":
                move_references(cast(MolecularPropertyModel, model), train, kept)
        self._add_old_data(model)
        others = None if self.base.potential is self.base and model.potential is None else self.base.trained_on
        model.trained_on = domain_of(train.structures).joined(others)
        self.initial = copy.deepcopy(model).eval()
        if self.larger is not self.base:
            fit_field(cast(InteratomicPotential, model), train)
        new = always_trained(self.base, self.larger, model, self.method.method)
        self.whole_new = {name for name, mask in new.items() if bool(mask.all())}
        adapt_weights(model, self.config, new)
        self._settle(model)
        return model

    def scale(self, model: StoredModel) -> None:
        """Set the size of features for new heads; numbers of neighbors stay as the weights of the base need them."""
        if self.base.potential is not self.base or model.potential is model:
            return
        initial, graphs = cast(MolecularPropertyModel, self.initial), self.graphs["train"]
        count = min(len(graphs), SAMPLE)
        chosen = [graphs[number * len(graphs) // count] for number in range(count)]
        batches = (batch_graphs(chosen[start : start + BATCH]) for start in range(0, count, BATCH))
        size = size_of_features(initial, batches)
        for one in (initial, cast(MolecularPropertyModel, model)):
            one.feature_scale.set_mean_squares(size)

    def lr_factors(self, model: StoredModel) -> dict[str, float]:
        """Factors of the learning rate, which decrease towards the input and are larger for low-rank updates.

        They are 1 for tensors of added surroundings, which belong to no layer of the base.
        """
        factors, updates = parts_of(model).lr_factors(self.method.lr_decay), lora_parameters(model)
        rise = self.method.lr_factor
        factors |= dict.fromkeys(self.whole_new, 1.0)
        return {name: factor * (rise if name in updates else 1.0) for name, factor in factors.items()}

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
        """Write what is known before the training; ``report`` adds the errors."""
        write_json(folder / run_folder.FINETUNE, self.facts)

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to stay separate."""
        if self.method.merge:
            merge_lora(model)

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Errors before and after, on new and old data, in the targets' units."""
        initial = self.initial.to(resolve_device(self.run.device))
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
            _log.info("errors on the old domain:\n%s", error_table({OLD: errors[OLD]}))
        report = {**self.facts, "errors": errors}
        write_json(folder / run_folder.FINETUNE, report)
        write_page(report, folder / run_folder.FINETUNE_PAGE)
        if self.sure is not None:
            sure = self.sure.of([cast(StoredModel, model)], self.sure.tensors())
            notes = {"carried_over_from": self.method.uncertainty}
            save_uncertainty(sure, folder / run_folder.UNCERTAINTY, notes, overwrite=True)
        return {"finetune": report}

    def geometry(self) -> GeometryRanges:
        """Ranges of the base and of the new structures together."""
        found = super().geometry()
        known = GeometryRanges.from_json(read_model_info(self.path).get("training", {}).get(GEOMETRY))
        return found if known is None or self.module.model.potential is None else found.joined(known)

    def _check_same_base(self, notes: Path) -> None:
        """Raise if the base has changed since the run began that wrote the notes.

        Raises:
            ConfigError: The digest of its file differs.
        """
        base = read_json(notes, "base")["base"] if notes.exists() else self.facts["base"]
        if not isinstance(base, dict) or base.get("sha256") != self.facts["base"]["sha256"]:
            raise ConfigError(
                f"finetune.base: {self.path} is not the file that the run began with; restore that file, or choose "
                "another run.output."
            )

    def _add_old_data(self, model: StoredModel) -> None:
        """Give all sets the model's targets, and add the old data, with values shifted to its references."""
        sets = {name: one.with_targets(model.targets) for name, one in self.data.sets.items()}
        for name, one in self.old.items():
            moved = moved_values(one, self.base, model).with_targets(model.targets)
            if self.larger is not self.base:
                moved = far_from(moved, cast(InteratomicPotential, model), self.new.structures)
            if name == REPLAY:
                sets["train"] = joined([sets["train"], moved])
            else:
                sets[name] = moved
        self.data = replace(self.data, sets=sets)

    def _new_surroundings(self) -> str:
        """The surroundings that the base lacks, in words."""
        kinds = sorted(self.larger.inputs - self.base.inputs)
        return f"{kinds[0]}, group {cast(InteratomicPotential, self.larger).group.name}" if kinds else ""

    def _settle(self, model: StoredModel) -> None:
        """Record and log the targets, the trained weights and how settings were resolved."""
        new = [chemical_symbols[z] for z in model.species if z not in self.base.species]
        weights, heads = dict(self.initial.named_parameters()), parts_of(self.initial).heads
        trained, total = trained_parameters(model), sum(weight.numel() for weight in weights.values())
        self.facts |= {
            "kept_targets": [target.name for target in self.kept],
            "new_targets": [target.name for target in self.new.targets if target not in self.kept],
            "old_targets": [target.name for target in self.others],
            "lost_targets": [target.name for target in self.base.targets if target not in model.targets],
            "structures": len(self.new),
            "replayed": len(self.old.get(REPLAY, ())),
            "measured": len(self.old.get(OLD, ())),
            "new_elements": new,
            "new_surroundings": self._new_surroundings(),
            "parameters": total,
            "trained_parameters": trained,
            "head_parameters": sum(weights[name].numel() for name in heads),
        }
        if model.potential is not None:
            self.facts["E0s_from"] = model.potential.energy_reference_provenance
        if model.potential is not model:
            self.facts["without_reference"] = without_reference(cast(MolecularPropertyModel, model))
        _log.info("trained: %d of %d parameters (%.1f %%)", trained, total, 100.0 * trained / total)
        reasons = {"model.species": f"elements of the base, and {', '.join(new)} from the data"} if new else {}
        if self.larger is not self.base:
            reasons["model.inputs"] = "those of the base, and the added surroundings"
            reasons["model.group"] = "the group with its axis"
        if self.base.potential is self.base and model.potential is not model:
            reasons |= {f"model.{name}": "the default" for name in OF_HEADS}
        self.facts |= describe(self.config, resolved_settings(model, self.config, self.facts), reasons)
