"""How a fine-tuning adapts its base model, and the facts that its report is made of."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ik_e3nn.errors import ConfigError
from ik_e3nn.json_file import read_json, write_json
from ik_e3nn.models import (
    StoredModel,
    load_model,
)
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.nn import lora_parameters, merge_lora
from ik_e3nn.training.config.finetune import OLD, FinetuneConfig
from ik_e3nn.training.finetuning.methods import apply_method, trained_parameters
from ik_e3nn.training.finetuning.parts import parts_of
from ik_e3nn.training.finetuning.report import PageText, changes_of, describe, error_table, write_page
from ik_e3nn.training.run import run_folder
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)


def load_base(path: Path) -> StoredModel:
    """Load a model onto the CPU; low-rank updates that were stored separately are merged.

    Raises:
        FileNotFoundError: The file does not exist.
        ModelFileError: The file is broken.
    """
    model = load_model(path, device="cpu")
    merge_lora(model)
    return model


class Adaptation:
    """Prepares a model made from the base for training, and reports on it afterwards.

    Args:
        config: The configuration of the fine-tuning.

    Attributes:
        method: The section ``finetune`` of the configuration.
        path: The file of the base.
        initial: A copy of the model before any training, made by ``apply``.
        facts: The content of the report, by name.
    """

    initial: nn.Module

    def __init__(self, config: FinetuneConfig) -> None:
        self.config, self.method = config, config.finetune
        self.path, self.folder = model_path(config.finetune.base), user_path(config.run.output)
        self.facts: dict[str, Any] = {}

    def check_same_base(self) -> None:
        """Raise if the base has changed since the run began.

        Raises:
            ConfigError: The digest of its file differs.
        """
        notes = self.folder / run_folder.FINETUNE
        if not notes.exists():
            return
        base = read_json(notes, "base")["base"]
        if not isinstance(base, dict) or base.get("sha256") != _digest(self.path):
            raise ConfigError(
                f"finetune.base: {self.path} is not the file that the run began with; restore that file, or choose "
                "another run.output."
            )

    def apply(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """Keep a copy of a model, then freeze weights and add low-rank updates as the method asks, in place.

        Args:
            model: The base with new elements, references and heads.
            masks: Masks of the weights of elements that the base does not know, by names of parameters.

        Raises:
            ConfigError: The base has fewer blocks than are to be frozen, or weight decay would shrink frozen weights.
        """
        self.initial = copy.deepcopy(model).eval()
        with torch.random.fork_rng():
            torch.manual_seed(self.config.run.seed)
            apply_method(model.train(), self.method, masks)
        frozen = self.method.method != "full" or self.method.frozen_blocks
        if masks and self.config.optimizer.weight_decay and frozen:
            raise ConfigError(
                "optimizer.weight_decay would shrink frozen weights that share tensors with those of the new elements; "
                "set it to 0."
            )

    def settle(
        self, model: nn.Module, new_elements: Iterable[int], resolved: Mapping[str, Any], reasons: Mapping[str, str]
    ) -> None:
        """Record and log the resolved settings.

        Args:
            model: The model to train.
            new_elements: Atomic numbers that the base does not know.
            resolved: Resolved settings by dotted name; those of every fine-tuning are added.
            reasons: Reasons for settings that are not taken from the base.
        """
        settings = {**resolved, "finetune.base": str(self.path)}
        settings["run.device"] = str(resolve_device(self.config.run.device))
        if self.method.method == "lora":
            settings["finetune.lora_rank"] = self.method.rank
            settings["finetune.lora_lr_factor"] = self.method.lr_factor
        self.facts |= describe(self.config, settings, changes_of(self.config, settings, reasons))
        trained, total = trained_parameters(model), sum(p.numel() for p in self.initial.parameters())
        weights = dict(self.initial.named_parameters())
        self.facts |= {
            "base": {"file": str(self.path), "sha256": _digest(self.path)},
            "new_elements": [chemical_symbols[z] for z in new_elements],
            "parameters": total,
            "trained_parameters": trained,
            "head_parameters": sum(weights[name].numel() for name in parts_of(self.initial).heads),
        }
        _log.info("trained: %d of %d parameters (%.1f %%)", trained, total, 100.0 * trained / total)

    def begin(self, folder: Path) -> None:
        """Write what is known before the training; ``report`` adds the errors."""
        write_json(folder / run_folder.FINETUNE, self.facts)

    def replay_settings(self, count: int) -> dict[str, float]:
        """The actual ``finetune.replay_ratio``, if fewer structures are replayed than were asked for.

        Args:
            count: Number of new structures.
        """
        replayed, wanted = self.facts["replayed"], self.method.replay_count(count)
        return {"finetune.replay_ratio": round(replayed / count, 6)} if 0 < replayed < wanted else {}

    def lr_factors(self, model: nn.Module) -> dict[str, float]:
        """Factors of the learning rate, which decrease towards the input and are larger for low-rank updates."""
        factors, updates = parts_of(model).lr_factors(self.method.lr_decay), lora_parameters(model)
        rise = self.method.lr_factor
        return {name: factor * (rise if name in updates else 1.0) for name, factor in factors.items()}

    def finish(self, model: nn.Module) -> None:
        """Merge low-rank updates, unless they are to stay separate."""
        if self.method.merge:
            merge_lora(model)

    def report(self, errors: Mapping[str, Any], folder: Path, page: PageText) -> dict[str, Any]:
        """Write the report, and return what the model file keeps of it.

        Args:
            errors: Errors before and after, by set.
            folder: The run's folder.
            page: Texts of the page.
        """
        report = {**self.facts, "errors": errors}
        if OLD in errors:
            _log.info("errors on the old domain:\n%s", error_table({OLD: errors[OLD]}))
        write_json(folder / run_folder.FINETUNE, report)
        write_page(report, folder / run_folder.FINETUNE_PAGE, page)
        return {"finetune": report}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
