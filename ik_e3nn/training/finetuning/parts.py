"""The parts of a model that fine-tuning treats differently: embedding, blocks and heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ik_e3nn.errors import ConfigError

BLOCKS = ("interactions", "blocks", "layers")
HEADS = ("heads", "readouts")
BESIDE_HEADS = ("field", "invariants")


@dataclass(frozen=True)
class Parts:
    """Names of a model's parameters by part.

    Args:
        embedding: Parameters before the blocks, and all others that are in no block and no head.
        blocks: Parameters of each block, from the input on.
        heads: Parameters that read targets from features, including the field of surroundings, which is an energy by
            itself, and the invariants that heads of properties share.
    """

    embedding: list[str]
    blocks: list[list[str]]
    heads: list[str]

    def lr_factors(self, decay: float) -> dict[str, float]:
        """Factors of the learning rate: 1 for heads, and one more ``decay`` for every step towards the input.

        >>> Parts(["e"], [["a"], ["b"]], ["h"]).lr_factors(0.5)
        {'h': 1.0, 'b': 0.5, 'a': 0.25, 'e': 0.125}
        """
        steps = [self.heads, *reversed(self.blocks), self.embedding]
        return {name: decay**number for number, names in enumerate(steps) for name in names}


def parts_of(model: nn.Module) -> Parts:
    """The parts of a model whose blocks and heads are lists or mappings of modules, by their names.

    Args:
        model: The model; the lists may be nested in other modules.

    Raises:
        ConfigError: The model has no such lists.

    >>> from ik_e3nn.models import InteratomicPotential
    >>> parts = parts_of(InteratomicPotential(["H"], num_channels=4))
    >>> parts.embedding, len(parts.blocks), parts.heads[0]
    (['node_embedding.species'], 2, 'readouts.0.scalars.weight')
    """
    blocks_name, heads_name = (_find(model, *wanted) for wanted in (("blocks", BLOCKS), ("heads", HEADS)))
    children = [name for name, _ in model.get_submodule(blocks_name).named_children()]
    parameters = [name for name, _ in model.named_parameters()]
    blocks = [[name for name in parameters if name.startswith(f"{blocks_name}.{child}.")] for child in children]
    beside = [f"{heads_name.rpartition('.')[0]}.{name}.".lstrip(".") for name in BESIDE_HEADS]
    heads = [name for name in parameters if name.startswith((f"{heads_name}.", *beside))]
    taken = {*heads, *(name for block in blocks for name in block)}
    return Parts([name for name in parameters if name not in taken], blocks, heads)


def block_modules(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model, from the input on.

    Raises:
        ConfigError: The model has no blocks.
    """
    return list(model.get_submodule(_find(model, "blocks", BLOCKS)).children())


def _find(model: nn.Module, part: str, names: Sequence[str]) -> str:
    """Full name of the outermost list or mapping of modules with one of the names."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.ModuleDict) and name.rpartition(".")[2] in names
    ]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} cannot be fine-tuned: it has no {part}, a list of modules that is called "
            f"{' or '.join(names)}."
        )
    return min(found, key=lambda name: (name.count("."), names.index(name.rpartition(".")[2])))
