"""Sums over the edges of a receiver, by scatter or in blocks of equal size for a batched GEMM."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

# The two operators are each other's derivative. They are defined here because both autograd's gradient of an index and
# the compiler's code for a scatter are several times slower on a CPU than ``index_add_``, which adds whole rows in a
# fixed order.
_LIBRARY = torch.library.Library("ik_e3nn", "DEF")
_LIBRARY.define("gather(Tensor x, Tensor index) -> Tensor")
_LIBRARY.define("segment_sum(Tensor x, Tensor index, SymInt size) -> Tensor")


def _gather(x: Tensor, index: Tensor) -> Tensor:
    return x.contiguous().index_select(0, index)  # rows in one piece are copied several times faster


def _segment_sum(x: Tensor, index: Tensor, size: int) -> Tensor:
    rows = x.reshape(x.shape[0], x.shape[1:].numel())
    return rows.new_zeros(size, rows.shape[1]).index_add_(0, index, rows).view(size, *x.shape[1:])


def _gather_gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return segment_sum(gradient, ctx.saved_tensors[0], ctx.size), None


def _segment_sum_gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return gather(gradient, ctx.saved_tensors[0]), None, None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.size = inputs[0].shape[0]
    ctx.save_for_backward(inputs[1])


_LIBRARY.impl("gather", _gather, "CompositeExplicitAutograd")
_LIBRARY.impl("segment_sum", _segment_sum, "CompositeExplicitAutograd")
torch.library.register_fake("ik_e3nn::gather", lambda x, index: x.new_empty(index.shape[0], *x.shape[1:]), lib=_LIBRARY)
torch.library.register_fake(
    "ik_e3nn::segment_sum", lambda x, index, size: x.new_empty(size, *x.shape[1:]), lib=_LIBRARY
)
torch.library.register_autograd("ik_e3nn::gather", _gather_gradient, setup_context=_save, lib=_LIBRARY)
torch.library.register_autograd("ik_e3nn::segment_sum", _segment_sum_gradient, setup_context=_save, lib=_LIBRARY)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows x[index], shape (len(index), ...)."""
    if _is_plain(x):
        return _gather(x, index)
    result: Tensor = torch.ops.ik_e3nn.gather(x, index)
    return result


def segment_sum(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum rows of x (E, ...) that share an index into (size, ...); the order of summation is fixed on CPU."""
    if _is_plain(x):
        return _segment_sum(x, index, size)
    result: Tensor = torch.ops.ik_e3nn.segment_sum(x, index, size)
    return result


def _is_plain(x: Tensor) -> bool:
    """Whether x is neither differentiated nor traced: then the call of an operator would cost more than a small sum."""
    return type(x) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


class _TransposedProduct(torch.autograd.Function):
    """A batch of products of a transposed matrix and a matrix.

    Autograd's own gradient of the first matrix is a transposed tensor, whose copy would cost as much as the product.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.bmm(a.mT, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        g = gradients[0]
        a, b = (tensor.to(g.dtype) for tensor in ctx.saved_tensors)  # under autocast they have another dtype
        needs_a, needs_b = ctx.needs_input_grad
        return torch.bmm(b, g.mT) if needs_a else None, torch.bmm(a, g) if needs_b else None


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """Products of transposed matrices a (B, K, M) with b (B, K, N), (B, M, N)."""
    if _is_plain(a):
        return torch.bmm(a.mT, b)
    result: Tensor = _TransposedProduct.apply(a, b)
    return result


def pad_row(x: Tensor) -> Tensor:
    """Append one row of zeros, to which the empty places of blocks refer: (E, ...) to (E + 1, ...)."""
    return torch.cat([x, x.new_zeros(1, *x.shape[1:])])


WIDTH = 8  # edges per block: wider blocks have more empty places, narrower blocks make smaller GEMMs


class ReceiverBlocks(NamedTuple):
    """Edges grouped by receiver into blocks of equal width.

    A receiver of d edges has ceil(d / width) blocks, so that sums over the edges of blocks are one batched GEMM.

    Attributes:
        slots: Index of the edge in every place, (blocks, width); the number of edges E if a place is empty.
        receivers: Receiver of every block, (blocks,).
    """

    slots: Tensor
    receivers: Tensor

    @classmethod
    def from_receivers(cls, receivers: Tensor, num_nodes: int, width: int = WIDTH) -> "ReceiverBlocks":
        """Group edges by receiver.

        Args:
            receivers: Receiver of every edge, (E,), in any order.
            num_nodes: Number of nodes.
            width: Edges per block.

        Example:
            >>> ReceiverBlocks.from_receivers(torch.tensor([1, 0, 1, 1]), 3, width=2).slots
            tensor([[1, 4],
                    [0, 2],
                    [3, 4]])
        """
        num_edges = receivers.shape[0]
        edges = order = torch.arange(num_edges, device=receivers.device)
        if torch.compiler.is_compiling() or not bool((receivers[1:] >= receivers[:-1]).all()):
            order = torch.argsort(receivers, stable=True)
            receivers = receivers[order]
        degrees = torch.zeros(num_nodes, dtype=torch.long, device=receivers.device)
        degrees = degrees.index_add(0, receivers, torch.ones_like(receivers))
        blocks = (degrees + width - 1) // width
        empty = blocks * width - degrees  # places at the end of a node's last block
        place = edges + (empty.cumsum(0) - empty)[receivers]
        if torch.compiler.is_compiling():
            total = num_edges // width + num_nodes  # an upper bound: the exact number would depend on the data
        else:
            total = int(blocks.sum())
        slots = torch.full((total * width,), num_edges, device=receivers.device)
        slots = slots.index_copy(0, place, order)
        owner = torch.zeros(total, dtype=torch.long, device=receivers.device)
        owner = owner.index_copy(0, place // width, receivers)
        return cls(slots.view(total, width), owner)


TILE = 512  # edges that a CPU treats at once, so that the result of each step is in the cache for the next step


def tiles_without_gaps(blocks: ReceiverBlocks, num_edges: int) -> tuple[list[Tensor], Tensor]:
    """Split blocks of edges into tiles without empty places.

    Args:
        blocks: Blocks whose first places are filled, of any width.
        num_edges: Number of edges E, which is the index of an empty place.

    Returns:
        The edge in every place of each tile, (B, w), on a CPU with at most ``TILE`` edges, and the receivers of all
        blocks in the order of the tiles. There is at least one tile. When compiled, where sizes must not depend on
        values, it holds the blocks as they are.
    """
    if torch.compiler.is_compiling():
        return [blocks.slots], blocks.receivers
    filled = (blocks.slots < num_edges).sum(1)
    order = filled.argsort(stable=True)
    empty, *counts = torch.bincount(filled, minlength=blocks.slots.shape[1] + 1).tolist()
    order = order[empty:]
    groups = blocks.slots[order].split(counts)
    most = TILE if order.device.type == "cpu" else num_edges  # a GPU needs few large steps
    tiles = [
        tile
        for width, group in enumerate(groups, start=1)
        for tile in group[:, :width].split(max(most // width, 1))
        if len(tile)
    ]
    return tiles or [blocks.slots[:0]], blocks.receivers[order]
