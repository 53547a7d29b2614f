"""Fine-tuning: training that starts from a model."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import nn

from ik_e3nn.data import EnergyReference
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import PRESETS, InteratomicPotential, extended, load_model
from ik_e3nn.models.pretrained import model_path
from ik_e3nn.models.species import new_element_masks
from ik_e3nn.nn import merge_lora
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.training import run_folder
from ik_e3nn.training.config import DataConfig, TrainConfig
from ik_e3nn.training.finetune_config import LORA_RANK, FinetuneConfig
from ik_e3nn.training.finetune_report import Change, describe, write_page
from ik_e3nn.training.methods import apply_method, trained_parameters
from ik_e3nn.training.parallel import is_main
from ik_e3nn.training.parts import parts_of
from ik_e3nn.training.prediction import choose_device, predict
from ik_e3nn.training.prepare import LabelledSet, TrainingData, label_keys, prepare_data, reference_from_data
from ik_e3nn.training.refit import refit_reference
from ik_e3nn.training.replay import joined, read_old_data
from ik_e3nn.training.tasks import PotentialTask

_log = logging.getLogger(__name__)

OLD = "old domain"


def check_architecture(asked: dict[str, Any], base: InteratomicPotential) -> None:
    """Raise unless arguments of a model that were asked for are those of the base.

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
        if name in base.config and wanted != base.config[name]:
            raise ConfigError(
                f"model.{name} is {value!r}, but the base has {base.config[name]!r}: fine-tuning keeps the "
                "architecture of the base; leave the setting out, or train a new model."
            )


class Finetuning(PotentialTask):
    """Starts from a base model, trains what the method says, and measures before and after.

    Args:
        config: The configuration.
    """

    def __init__(self, config: FinetuneConfig) -> None:
        self.method = config.finetune
        self.base = load_model(model_path(self.method.base))
        self._facts: dict[str, Any] = {}
        super().__init__(config)

    def prepare(self, config: TrainConfig) -> TrainingData:
        """The new data, E0s for them, and old data where they are asked for."""
        self._check_same_base(Path(config.run.output).expanduser() / run_folder.FINETUNE)
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
        if replayed is not None:
            sets["train"] = joined(train, replayed)
        if kept is not None:
            sets[OLD] = kept
        self._facts["replayed"] = 0 if replayed is None else len(replayed.structures)
        return dataclasses.replace(data, sets=sets)

    def start(self, config: TrainConfig) -> InteratomicPotential:
        """The base with the new elements and E0s; what the method does not train is frozen."""
        data = self.data
        model = extended(self.base, data.species).to(getattr(torch, config.run.dtype))
        if data.reference is not None:
            old = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
            model.set_energy_reference(old | data.reference.values, provenance=data.reference.source)
        self._initial = copy.deepcopy(model).eval()
        masks = new_element_masks(self.base, model)
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            apply_method(model.train(), self.method, masks)
        if masks and config.optimizer.weight_decay and (self.method.method != "full" or self.method.frozen_blocks):
            raise ConfigError(
                "optimizer.weight_decay would shrink frozen weights that share tensors with those of the new elements; "
                "set it to 0."
            )
        self._settle(model)
        return model

    def scale(self, model: InteratomicPotential) -> None:
        """Nothing: scales are the base's, to which its weights belong."""

    def lr_factors(self, model: InteratomicPotential) -> dict[str, float]:
        """Factors that fall towards the input."""
        return parts_of(model).lr_factors(self.method.lr_decay)

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to be kept apart."""
        if self.method.merge:
            merge_lora(model)

    def report(self, model: nn.Module, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
        """Errors before and after, on new and old data."""
        initial = self._initial.to(choose_device(self.run.device))
        options: dict[str, Any] = {"batch_size": self.run.batch_size, "max_atoms": self.run.max_atoms}
        errors = {}
        for name in ("valid", "test", OLD):
            if name in self.graphs:
                before = predict(initial, self.graphs[name], **options).errors
                known = metrics.get(name)
                after = known if known is not None else predict(model, self.graphs[name], **options).errors
                errors[name] = {"before": before, "after": after}
        if OLD not in errors:
            _log.warning("nothing says what the model has forgotten: give finetune.old_domain or finetune.replay")
        report = {**self._facts, "errors": errors}
        run_folder.write_json(report, folder / run_folder.FINETUNE)
        write_page(report, folder / run_folder.FINETUNE_PAGE)
        return {"finetune": report}

    def _refit(self, data: DataConfig, train: LabelledSet, isolated: Any, species: list[int]) -> EnergyReference | None:
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
                f"the base has no E0 of {', '.join(new)}; set finetune.E0s to 'refit', with labelled energies, or "
                "'data'."
            )
        values = dict(zip(self.base.species, self.base.atomic_energy.reference.tolist(), strict=True))
        return EnergyReference(values, 0, 1.0, self.base.energy_reference_provenance)

    def _settle(self, model: InteratomicPotential) -> None:
        """Note what the settings have come to, and say it."""
        config, data = self.config, self.data
        path = model_path(self.method.base)
        trained, total = (
            trained_parameters(model),
            sum(p.numel() for p in extended(self.base, data.species).parameters()),
        )
        resolved: dict[str, Any] = {f"model.{name}": value for name, value in model.config.items()}
        resolved |= {"finetune.base": str(path), "run.device": choose_device(config.run.device).type}
        resolved["data.E0s"] = {
            chemical_symbols[z]: round(e, 6)
            for z, e in zip(model.species, model.atomic_energy.reference.tolist(), strict=True)
        }
        if self.method.method == "lora":
            resolved["finetune.lora_rank"] = self.method.lora_rank or LORA_RANK
        if self.method.replay is not None:
            new = len(data.sets["train"].structures) - self._facts["replayed"]
            resolved["finetune.replay_ratio"] = round(self._facts["replayed"] / new, 6)
        changes = [Change.of(config, key, value, self.base, data) for key, value in resolved.items()]
        self._facts |= describe(config, resolved, [change for change in changes if change is not None])
        self._facts |= {
            "base": {"file": str(path), "sha256": _digest(path)},
            "new_elements": [chemical_symbols[z] for z in model.species if z not in self.base.species],
            "parameters": total,
            "trained_parameters": trained,
            "E0s_from": model.energy_reference_provenance,
        }
        _log.info("trained: %d of %d parameters (%.1f %%)", trained, total, 100.0 * trained / total)
        if is_main():
            run_folder.write_json(self._facts, Path(config.run.output).expanduser() / run_folder.FINETUNE)

    def _check_same_base(self, notes: Path) -> None:
        """Refuse to go on with a run whose base has changed meanwhile."""
        if not notes.exists():
            return
        before, now = json.loads(notes.read_text())["base"]["sha256"], _digest(model_path(self.method.base))
        if before != now:
            raise ConfigError(
                f"finetune.base: {model_path(self.method.base)} is not the file that the run began with; bring that "
                "one back, or choose another run.output."
            )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
