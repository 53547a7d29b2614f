"""Which weights of a base model are trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ik_e3nn.errors import ConfigError
from ik_e3nn.nn import add_lora
from ik_e3nn.training.config.finetune import FinetuneConfig, MethodConfig
from ik_e3nn.training.finetuning.parts import block_modules, parts_of


def adapt_weights(model: nn.Module, config: FinetuneConfig, new: Mapping[str, Tensor]) -> None:
    """Freeze weights and add low-rank updates as a configuration asks, in place, with random numbers of its seed.

    Args:
        model: The base with new elements, references and heads.
        config: The configuration.
        new: Masks of the weights of elements and surroundings that the base does not know, by names of parameters.

    Raises:
        ConfigError: The base has fewer blocks than are to be frozen, or weight decay would shrink frozen weights.
    """
    method = config.finetune
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        apply_method(model.train(), method, new)
    if new and config.optimizer.weight_decay and (method.method != "full" or method.frozen_blocks):
        raise ConfigError(
            "optimizer.weight_decay would shrink frozen weights that share tensors with those of new elements or "
            "surroundings; set it to 0."
        )


def apply_method(model: nn.Module, method: MethodConfig, new: Mapping[str, Tensor]) -> None:
    """Freeze the weights that a method does not train, and add low-rank updates if it uses them, in place.

    Weights of new elements and surroundings are always trained: if the rest of their tensor is frozen, its gradient is
    set to zero.

    Args:
        model: A model with blocks and heads, see ``parts_of``; none of its weights is frozen yet.
        method: The method.
        new: Masks of the weights of elements and surroundings that the base does not know, by names of parameters.

    Raises:
        ConfigError: The model has fewer blocks than are to be frozen.
    """
    parts = parts_of(model)
    if method.frozen_blocks > len(parts.blocks):
        raise ConfigError(
            f"finetune.frozen_blocks is {method.frozen_blocks}, but the base has {len(parts.blocks)} blocks; "
            "use finetune.method=head to freeze all of them."
        )
    frozen = [*parts.embedding] if method.frozen_blocks or method.method != "full" else []
    count = method.frozen_blocks if method.method == "full" else len(parts.blocks)
    frozen += [name for block in parts.blocks[:count] for name in block]
    frozen += parts.heads if method.method == "surroundings" else []
    parameters = dict(model.named_parameters())
    for name in frozen:
        if name in new:
            _train_some(parameters[name], new[name])
        else:
            parameters[name].requires_grad_(False)
    if method.method == "lora":
        for block in block_modules(model)[method.frozen_blocks :]:
            kept = {id(p) for p in block.parameters() if p.requires_grad}
            add_lora(block, method.rank)
            for parameter in block.parameters():  # new elements and surroundings
                if id(parameter) in kept:
                    parameter.requires_grad_(True)


def trained_parameters(model: nn.Module) -> int:
    """Number of weights in trained tensors, including entries that a mask of ``apply_method`` freezes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _train_some(parameter: nn.Parameter, mask: Tensor) -> None:
    """Set the gradients of all entries outside a mask to zero."""

    def keep(gradient: Tensor) -> Tensor:
        return gradient * mask.to(device=gradient.device, dtype=gradient.dtype)

    parameter.register_hook(keep)
