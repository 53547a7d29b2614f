"""Low-rank updates (LoRA) of equivariant linear layers, for fine-tuning with few trained weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ik_e3nn.nn.linear import EquivariantLinear
from ik_e3nn.nn.scalar import ScalarMLP
from ik_e3nn.nn.tensor_product import PathLinear


class LowRankUpdate(nn.Module):
    r"""A parametrization that adds a matrix of low rank to every weight matrix of an equivariant linear layer.

    .. math:: w_q \mapsto w_q + r^{-1/2} \, A_q B_q, \qquad A_q \in R^{m \times r}, \; B_q \in R^{r \times n}

    The weights :math:`w_q` multiply intertwiners, so the layer stays equivariant for all A and B. A is initialized with
    standard normal numbers and B with zeros, so that the layer is unchanged at first, and a step of B changes w by
    about as much as a step of w itself would.

    Args:
        shapes: Shapes (m, n) of the matrices.
        rank: Rank r; it is min(m, n) for matrices that are smaller.
        like: A tensor with the dtype and device for the factors.

    Reference:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, section 4.1.

    Example:
        >>> LowRankUpdate([(4, 2)], 1, like=torch.ones(8))(torch.ones(8)).sum()
        tensor(8., grad_fn=<SumBackward0>)
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], rank: int, *, like: Tensor) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"the rank of an update must be at least 1; got {rank}")
        ranks = [min(rank, *shape) for shape in shapes]
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self.down = nn.ParameterList(
            nn.Parameter(torch.randn(m, r, **options)) for (m, _), r in zip(shapes, ranks, strict=True)
        )
        self.up = nn.ParameterList(
            nn.Parameter(torch.zeros(r, n, **options)) for (_, n), r in zip(shapes, ranks, strict=True)
        )

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weights, of the same shape."""
        pairs = zip(self.down, self.up, strict=True)
        change = torch.cat([(A @ B).flatten() * A.shape[1] ** -0.5 for A, B in pairs])
        return weight + change.view_as(weight)


def add_lora(module: nn.Module, rank: int) -> None:
    """Add a low-rank update to every equivariant linear layer in a module, in place, and freeze the updated weights.

    The last layer of every scalar MLP gets an update too, because radial kernels are linear in its weights.

    Args:
        module: The module; layers that already have an update keep it.
        rank: Rank of the updates.

    Raises:
        ValueError: The rank is not positive.

    Example:
        >>> linear = EquivariantLinear("4x0e + 4x1o", "4x0e + 4x1o")
        >>> add_lora(linear, 1)
        >>> sum(p.numel() for p in linear.parameters() if p.requires_grad), linear.weight.numel()
        (16, 32)
    """
    for layer in list(module.modules()):
        for owner, name, shapes in _weights(layer):
            if not parametrize.is_parametrized(owner, name):
                weight = getattr(owner, name)
                weight.requires_grad_(False)
                parametrize.register_parametrization(owner, name, LowRankUpdate(shapes, rank, like=weight))


def merge_lora(module: nn.Module) -> None:
    """Merge all low-rank updates in a module into the weights, in place, which leaves ordinary layers.

    Example:
        >>> linear = EquivariantLinear("4x0e", "4x0e")
        >>> add_lora(linear, 1)
        >>> merge_lora(linear)
        >>> [name for name, _ in linear.named_parameters()]
        ['weight']
    """
    for layer in list(module.modules()):
        for owner, name, _ in _weights(layer):
            if parametrize.is_parametrized(owner, name):
                parametrize.remove_parametrizations(owner, name, leave_parametrized=True)
                getattr(owner, name).requires_grad_(True)


def lora_layers(module: nn.Module) -> dict[str, int]:
    """Ranks of the low-rank updates in a module, by the names of the layers.

    Example:
        >>> lora_layers(EquivariantLinear("4x0e", "4x0e"))
        {}
    """
    ranks: dict[str, int] = {}
    for name, layer in module.named_modules():
        updates = [o.parametrizations[n][0] for o, n, _ in _weights(layer) if parametrize.is_parametrized(o, n)]
        if updates:
            ranks[name] = max(A.shape[1] for update in updates for A in update.down)
    return ranks


def lora_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters of the low-rank updates in a module.

    Example:
        >>> linear = EquivariantLinear("4x0e", "4x0e")
        >>> add_lora(linear, 1)
        >>> sorted(lora_parameters(linear))
        ['parametrizations.weight.0.down.0', 'parametrizations.weight.0.up.0']
    """
    updates = [(name, one) for name, one in module.named_modules() if isinstance(one, LowRankUpdate)]
    return {f"{name}.{own}" for name, update in updates for own, _ in update.named_parameters()}


def _weights(layer: nn.Module) -> list[tuple[Any, str, list[tuple[int, int]]]]:
    """Weights of a layer that can be updated: owning module, name, and the shapes of the matrices in them."""
    if isinstance(layer, EquivariantLinear):
        return [(layer, "weight", layer.weight_shapes())]
    if isinstance(layer, PathLinear):
        return [(layer.weights, str(k), [(w.shape[0], w.shape[1])]) for k, w in enumerate(layer.weights) if w.numel()]
    if isinstance(layer, ScalarMLP):
        return [(layer.weights, str(len(layer.sizes) - 2), [(layer.sizes[-2], layer.sizes[-1])])]
    return []
