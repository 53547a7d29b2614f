"""Sums over the neighbours of a node: as scatter, and as blocks of equal size that a batched GEMM can take."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Gather(torch.autograd.Function):
    """x[index] whose gradient is ``_SegmentSum``: faster than autograd's own on CPU, and twice differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size = x.shape[0]
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _SegmentSum.apply(grads[0], index, ctx.size), None


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(index)
        flat = x.reshape(x.shape[0], x.shape[1:].numel())
        return flat.new_zeros(size, flat.shape[1]).index_add_(0, index, flat).view(size, *x.shape[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return _Gather.apply(grads[0], index), None, None


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows x[index], shape (len(index), ...)."""
    return _Gather.apply(x, index)


def segment_sum(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum rows of x (E, ...) that share an index into (size, ...); the order of summation is fixed on CPU."""
    return _SegmentSum.apply(x, index, size)


def pad_row(x: Tensor) -> Tensor:
    """Append one row of zeros: what an empty place of a block refers to."""
    return torch.cat([x, x.new_zeros(1, *x.shape[1:])])


class ReceiverBlocks(NamedTuple):
    """Edges grouped by receiver into blocks of equal width, padded with an edge that does not exist.

    A node of degree d has ceil(d / width) blocks. Sums over (edge in block, ...) are then one batched GEMM.

    Attributes:
        slots: Edge in every place, (blocks, width); the number of edges where a place is empty.
        receivers: Node of every block, (blocks,).
    """

    slots: Tensor
    receivers: Tensor

    @staticmethod
    def width_for(num_edges: int, num_nodes: int) -> int:
        """A width near the mean degree, at most 4: wider blocks waste more padding than they save."""
        if torch.compiler.is_compiling():
            return 4  # a width that depends on the sizes would be a branch on symbols
        return max(1, min(4, round(num_edges / max(num_nodes, 1))))

    @classmethod
    def from_receivers(cls, receivers: Tensor, num_nodes: int, width: int | None = None) -> "ReceiverBlocks":
        """Group edges by receiver.

        Args:
            receivers: Node that every edge points to, (E,), in any order.
            num_nodes: Number of nodes.
            width: Edges a block.

        Example:
            >>> ReceiverBlocks.from_receivers(torch.tensor([1, 0, 1, 1]), 3, width=2).slots
            tensor([[1, 4],
                    [0, 2],
                    [3, 4]])
        """
        num_edges = receivers.shape[0]
        width = cls.width_for(num_edges, num_nodes) if width is None else width
        order = torch.argsort(receivers, stable=True)
        degrees = torch.zeros(num_nodes, dtype=torch.long, device=receivers.device)
        degrees = degrees.index_add(0, receivers, torch.ones_like(receivers))
        blocks = (degrees + width - 1) // width
        first_edge, first_block = degrees.cumsum(0) - degrees, blocks.cumsum(0) - blocks
        if torch.compiler.is_compiling():
            total = num_edges // width + num_nodes  # the number itself would be a shape that depends on data
        else:
            total = int(blocks.sum())
        node = receivers[order]
        rank = torch.arange(num_edges, device=receivers.device) - first_edge[node]
        place = (first_block[node] + rank // width) * width + rank % width
        slots = torch.full((total * width,), num_edges, device=receivers.device)
        slots = slots.index_copy(0, place, order)
        owner = torch.zeros(total, dtype=torch.long, device=receivers.device)
        owner = owner.index_copy(0, place // width, node)
        return cls(slots.view(total, width), owner)
