"""The configuration of a fine-tuning: a training configuration and how the base model is adapted.

With ``data.targets`` the result is a model of properties of molecules, otherwise a potential.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import Count, CountOrZero, Positive, Range, check_settings, no_effect, refuse_unused
from ik_e3nn.training.config.schema import TrainConfig

LABEL_SETTINGS = ("energy_key", "forces_key", "stress_key", "virial_key", "energy_unit", "length_unit")

LORA_RANK, LORA_LR_FACTOR = 2, 5.0
REPLAY, OLD = "replay", "old domain"  # names of sets of old data


@dataclass(frozen=True)
class MethodConfig:
    """How a base model is adapted.

    Args:
        base: Model file to start from; "base" and "base-properties" are the models that come with the package.
        method: What is trained: all weights ("full"); only the heads, which read energies or properties from features
            ("head"); the heads and low-rank updates of the equivariant linear layers, also in the kernels ("lora"); or
            only what acts near a surface, wire, site or face ("surroundings"), so that far from it the model stays the
            base. Weights of new elements and of added surroundings are always trained.
        frozen_blocks: Number of blocks (interactions) to freeze, from the input on; above 0 the embedding is frozen
            too.
        lr_decay: Factor of the learning rate from the heads to the last block, and from each block to the one before
            it; below 1, the layers nearest to the input change least.
        lora_rank: Rank of the low-rank updates; null means 2.
        lora_lr_factor: Factor of ``optimizer.lr`` for the low-rank updates, which need larger steps than the heads;
            null means 5. With the default rates, 10 was better for another level of theory but diverged for properties.
        merge: Add the low-rank updates to the weights of the written model, which makes it an ordinary model.
        E0s: "refit" starts from isolated atoms if the data have any, otherwise from the E0s of the base, and shifts
            them by least squares so that the energies of the base fit the labels best. "data" uses only ``data.E0s``
            and the data, as in training from scratch. "base" keeps the E0s of the base, as all choices do for elements
            that the data lack; those of new elements come from isolated atoms in the data. null means "refit", but
            "base" if ``model.inputs`` or the method name surroundings: a fit would take their energy for one of atoms,
            far away too. For properties, "refit" shifts the references of targets that the base has so that its
            predictions fit the labels best, and "base" keeps them.
        replay: Training data of the base, or similar data: some are learned again, against forgetting. Their energies
            are shifted from the E0s of the base to the new ones. If the base is a model of properties, its properties
            that have values in these data stay in the model, with the weight of a new property unless ``loss.weights``
            names them; if the new data have the same property, the old values are shifted with its reference. Not
            allowed if a potential becomes a model of properties alone, which has no energies and forces to forget.
        replay_ratio: Replayed structures per new structure.
        old_domain: Data on which errors before and after the fine-tuning are compared, with labels as in the training
            data of the base; null uses what is left of ``replay``.
        old_labels: Names and units of the labels in ``replay`` and ``old_domain``, if they differ from the new data, as
            settings of ``data``: {energy_key: REF_energy, energy_unit: eV}. Only for potentials; properties have the
            names and units of the base.
        uncertainty: Last-layer uncertainty file of the base, for method "surroundings": the run also writes
            ``uncertainty.safetensors`` for the new model. Far from the surroundings standard deviations are those of
            the base; near them they follow the features, and the data say nothing about their size. After other
            methods use ``ik-e3nn calibrate``.
    """

    base: str = "base"
    method: Literal["full", "head", "lora", "surroundings"] = "full"
    frozen_blocks: CountOrZero = 0
    lr_decay: Annotated[float, Range("above 0 and at most 1", lambda x: 0 < x <= 1)] = 1.0
    lora_rank: Count | None = None
    lora_lr_factor: Positive | None = None
    merge: bool = True
    E0s: Literal["refit", "data", "base"] | None = None
    replay: str | list[str] | None = None
    replay_ratio: Positive = 1.0
    old_domain: str | list[str] | None = None
    old_labels: dict[str, str] = field(default_factory=dict)
    uncertainty: str | None = None

    def __post_init__(self) -> None:
        check_settings(self, "finetune")
        for name in ("replay", "old_domain"):
            if getattr(self, name) == []:
                raise ConfigError(f"finetune.{name} is [], but it must be a file or several.")
        if self.method == "head":
            self._refuse("frozen_blocks", "lr_decay", reason="method is 'head', which freezes all blocks")
        if self.method == "surroundings":
            self._refuse("frozen_blocks", "lr_decay", reason="method is 'surroundings', which freezes the whole base")
        if self.method != "surroundings":
            reason = f"method is {self.method!r}, which changes the base: use `ik-e3nn calibrate` afterwards"
            self._refuse("uncertainty", reason=reason)
        if self.method != "lora":
            self._refuse("lora_rank", "lora_lr_factor", "merge", reason=f"method is {self.method!r}, not 'lora'")
        if self.replay is None:
            self._refuse("replay_ratio", reason="finetune.replay is not given")
        if self.replay is None and self.old_domain is None:
            self._refuse("old_labels", reason="neither finetune.replay nor old_domain is given")
        unknown = set(self.old_labels) - set(LABEL_SETTINGS)
        if unknown:
            raise ConfigError(
                f"finetune.old_labels has {', '.join(sorted(unknown))}, but it may hold {', '.join(LABEL_SETTINGS)}."
            )

    def replay_count(self, new: int) -> int:
        """The number of structures to replay for a number of new ones."""
        return max(1, round(self.replay_ratio * new))

    @property
    def rank(self) -> int:
        """Rank of low-rank updates."""
        return self.lora_rank or LORA_RANK

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate of low-rank updates."""
        return self.lora_lr_factor or LORA_LR_FACTOR

    def _refuse(self, *names: str, reason: str) -> None:
        """Raise if one of these settings, which would have no effect, is given."""
        refuse_unused(self, names, reason, section="finetune")


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Everything a fine-tuning needs.

    Args:
        data: New structures and labels. Targets that the base has too (with the same kind and unit) keep their heads,
            references and scales; other targets get new ones.
        model: Leave it out: the model is that of the base. Arguments given here must be those of the base, with two
            exceptions. ``group`` and ``inputs`` of a surface, wire, site or face add surroundings to a potential with
            the group O3. If a potential becomes a model of properties, ``hidden`` and ``places`` can be chosen.
        loss: What is minimized.
        optimizer: How it is minimized.
        run: Output, length, batches and hardware.
        finetune: How the base is adapted.
    """

    model_is_given: ClassVar[bool] = True

    finetune: MethodConfig = field(default_factory=MethodConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        method = self.finetune
        if isinstance(self.data.E0s, dict) and self.references != "data":
            raise ConfigError(
                f"data.E0s gives values, but finetune.E0s is {self.references!r} and would replace them; "
                "set finetune.E0s to 'data', or leave data.E0s out."
            )
        if self.data.targets is None:
            return
        if method.method == "surroundings":
            raise ConfigError(
                "finetune.method is 'surroundings', but models of properties have none; choose another method."
            )
        if method.E0s == "data":
            raise ConfigError(
                "finetune.E0s is 'data', but with data.targets it must be 'refit' or 'base', which shift or keep the "
                "references of properties that the base has; references of new properties always come from the data."
            )
        if method.old_labels:
            reason = "data.targets makes this a fine-tuning to properties, which have the names and units of the base"
            raise no_effect("finetune.old_labels", method.old_labels, reason)

    @property
    def references(self) -> Literal["refit", "data", "base"]:
        """What energies of isolated atoms to use."""
        from ik_e3nn.graph import SURROUNDINGS  # torch, which takes seconds to import

        inputs = self.model.get("inputs")
        named = {*inputs} if isinstance(inputs, list | tuple | set | frozenset) else set()
        beside = self.finetune.method == "surroundings" or not named.isdisjoint(SURROUNDINGS)
        return self.finetune.E0s or ("base" if beside else "refit")

    @property
    def _usual_lr(self) -> float:
        """The learning rate if none is given."""
        if self.data.targets is not None:
            return 0.02
        return 0.001 if self.finetune.method == "surroundings" else 0.01
