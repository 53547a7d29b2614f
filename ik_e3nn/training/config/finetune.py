"""The configuration of a fine-tuning: that of a training, and how the base model is adapted.

Where ``data.targets`` is named, it is one to properties of molecules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import check_settings
from ik_e3nn.training.config.schema import TrainConfig, _require

LABEL_SETTINGS = ("energy_key", "forces_key", "stress_key", "virial_key", "energy_unit", "length_unit")

LORA_RANK, LORA_LR_FACTOR = 2, 5.0
REPLAY, OLD = "replay", "old domain"  # names of sets of old data


@dataclass(frozen=True)
class MethodConfig:
    """How a base model is adapted.

    Args:
        base: Model file to start from; "base" and "base-properties" are those that come with the package.
        method: What is trained: all weights ("full"), those of the heads, which read energies or properties from
            features ("head"), or the heads and low-rank updates of the equivariant linear layers, kernels' among them
            ("lora").
        frozen_blocks: The embedding and so many of the first blocks (interactions) keep their weights.
        lr_decay: Factor of the learning rate from the heads to the last block, and from every block to the one before
            it; below 1, what is nearest to the input changes least.
        lora_rank: Rank of the low-rank updates; null is 2.
        lora_lr_factor: Factor of ``optimizer.lr`` for the low-rank updates, which want larger steps than the heads;
            null is 5. With the default rates 10 was better for another level of theory, and diverged for properties.
        merge: Add low-rank updates to the weights of the model that is written, which makes it an ordinary one.
        E0s: "refit": those of isolated atoms in the data where there are some, else the base's, moved by least squares
            so that the base's energies fit the labels best; "data": as in a training from scratch, from ``data.E0s``
            and the data alone; "base": the base's. Elements that the data lack keep the base's. For properties:
            references of the targets that the base has are moved by least squares so that its predictions fit the
            labels best ("refit"), or stay ("base").
        replay: Data that the base was trained on, or like it: some of it is learned again, against forgetting. Its
            energies are moved from the base's E0s to the new ones. For a base of properties, properties that it has
            and these data have values of stay in the model, each with the weight of a new one unless ``loss.weights``
            says otherwise; of those that the new data have too, the old values are moved with the references. Where a
            potential becomes a model of properties there is nothing to replay, and it is refused.
        replay_ratio: Replayed structures for every new one.
        old_domain: Data on which errors before and after are compared, labeled as the base's training set was; null
            takes what is left of ``replay``.
        old_labels: Names and units of the labels of ``replay`` and ``old_domain`` where they are not those of the new
            data: {energy_key: REF_energy, energy_unit: eV}, the settings of ``data`` for this. For potentials alone:
            properties have the base's names and units.
    """

    base: str = "base"
    method: Literal["full", "head", "lora"] = "full"
    frozen_blocks: int = 0
    lr_decay: float = 1.0
    lora_rank: int | None = None
    lora_lr_factor: float | None = None
    merge: bool = True
    E0s: Literal["refit", "data", "base"] = "refit"
    replay: str | list[str] | None = None
    replay_ratio: float = 1.0
    old_domain: str | list[str] | None = None
    old_labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, "finetune")
        _require(self.frozen_blocks >= 0, "finetune.frozen_blocks", self.frozen_blocks, "zero or positive")
        _require(0 < self.lr_decay <= 1, "finetune.lr_decay", self.lr_decay, "above 0 and at most 1")
        for name in ("replay", "old_domain"):
            _require(getattr(self, name) not in ("", []), f"finetune.{name}", getattr(self, name), "a file or several")
        _require(self.replay_ratio > 0, "finetune.replay_ratio", self.replay_ratio, "positive")
        _require(self.lora_rank is None or self.lora_rank >= 1, "finetune.lora_rank", self.lora_rank, "at least 1")
        factor = self.lora_lr_factor
        _require(factor is None or 0 < factor < math.inf, "finetune.lora_lr_factor", factor, "positive")
        self._refuse("frozen_blocks", self.frozen_blocks, self.method == "head", "method is 'head': all are frozen")
        self._refuse("lr_decay", self.lr_decay, self.method == "head" and self.lr_decay < 1, "method is 'head'")
        for name in ("lora_rank", "lora_lr_factor"):
            self._refuse(name, getattr(self, name), self.method != "lora", f"method is {self.method!r}, not 'lora'")
        self._refuse("replay_ratio", self.replay_ratio != 1.0, self.replay is None, "there is no replay")
        no_old_data = self.replay is None and self.old_domain is None
        self._refuse("old_labels", self.old_labels, no_old_data, "there is neither replay nor old_domain")
        unknown = set(self.old_labels) - set(LABEL_SETTINGS)
        if unknown:
            raise ConfigError(
                f"finetune.old_labels has {', '.join(sorted(unknown))}, but it may hold {', '.join(LABEL_SETTINGS)}."
            )
        self._refuse("merge", not self.merge, self.method != "lora", f"method is {self.method!r}, not 'lora'")

    def replay_count(self, new: int) -> int:
        """How many structures to replay beside a number of new ones."""
        return max(1, round(self.replay_ratio * new))

    @property
    def rank(self) -> int:
        """Rank of low-rank updates."""
        return self.lora_rank or LORA_RANK

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate of low-rank updates."""
        return self.lora_lr_factor or LORA_LR_FACTOR

    def _refuse(self, name: str, given: object, useless: bool, reason: str) -> None:
        """No setting is without effect."""
        if given and useless:
            value = getattr(self, name)
            raise ConfigError(f"finetune.{name} is {value!r}, but has no effect, because {reason}; leave it out.")


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Everything a fine-tuning needs.

    Args:
        data: New structures and labels. Targets that the base has too (with the same kind and unit) keep what reads
            them, their references and scales; others get new ones.
        model: Arguments of the base model. They cannot be changed: one that is given must be the base's. Only
            ``hidden`` can be chosen, where a potential becomes a model of properties.
        loss: What is minimized.
        optimizer: How it is minimized.
        run: Where and how long.
        finetune: What is adapted, and how.
    """

    model_is_given: ClassVar[bool] = True

    finetune: MethodConfig = field(default_factory=MethodConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        method = self.finetune
        if isinstance(self.data.E0s, dict) and method.E0s != "data":
            raise ConfigError(
                f"data.E0s gives values, but finetune.E0s is {method.E0s!r} and would replace them; "
                "set finetune.E0s to 'data', or leave data.E0s out."
            )
        if self.data.targets is None:
            return
        if method.E0s == "data":
            raise ConfigError(
                "finetune.E0s is 'data', but references of properties that the base has are moved ('refit') or stay "
                "('base'); those of others come from the data in any case."
            )
        if method.old_labels:
            raise ConfigError(
                f"finetune.old_labels is {method.old_labels!r}, but has no effect, because data.targets makes "
                "this a fine-tuning to properties, which have the base's names and units in old data; leave it out."
            )

    @property
    def _usual_lr(self) -> float:
        """The learning rate where none is given."""
        return 0.01 if self.data.targets is None else 0.02
