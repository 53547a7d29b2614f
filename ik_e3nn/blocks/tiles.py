"""Compute messages for tiles of receivers, so that memory does not grow with the number of edges."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ik_e3nn.blocks.embedding import Edges

Messages = Callable[[Tensor, Tensor, Tensor, Tensor, Edges], Tensor]
"""Function that computes messages (M_out, R, C) from sent features (M, S, C), contributions of senders (S, H) and
receivers (R, H) to the kernel, scales (L, R, C), and edges."""


class Tile(NamedTuple):
    """A range of receivers with their edges, whose senders are numbered within the tile."""

    receivers: slice
    blocks: slice
    senders: Tensor
    edges: Edges


def tiles(edges: Edges, max_edges: int, num_nodes: int) -> Iterator[Tile]:
    """Split the edges into tiles of at most max_edges; a tile has at least one receiver, with all its edges."""
    ends = torch.bincount(edges.owners, minlength=num_nodes).cumsum(0).cpu()
    blocks = max(max_edges // edges.senders.shape[1], 1)
    node = first = 0
    while node < num_nodes:
        stop = max(int(torch.searchsorted(ends, first + blocks, right=True)), node + 1)
        last = int(ends[stop - 1])
        part = slice(first, last)
        senders, local = edges.senders[part].unique(return_inverse=True)
        bonds = None if edges.bonds is None else edges.bonds[part]
        yield Tile(
            slice(node, stop), part, senders, Edges(local, edges.owners[part] - node, edges.vectors[part], bonds)
        )
        node, first = stop, last


class _Tiled(torch.autograd.Function):
    """Stores the inputs only; the backward pass computes every tile again."""

    @staticmethod
    def forward(ctx: Any, function: Messages, edges: Edges, max_edges: int, *inputs: Tensor) -> Tensor:
        ctx.function, ctx.edges, ctx.max_edges = function, edges, max_edges
        ctx.save_for_backward(*inputs)
        x, senders, receivers, scale, vectors = inputs
        result = x.new_empty(0)
        for tile in tiles(edges._replace(vectors=vectors), max_edges, receivers.shape[0]):
            rows, s = tile.receivers, tile.senders
            messages = function(x[:, s], senders[s], receivers[rows], scale[:, rows], tile.edges)
            if rows.start == 0:  # one large tensor: many small results would fragment the memory
                result = messages.new_empty(messages.shape[0], receivers.shape[0], messages.shape[2])
            result[:, rows] = messages
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, senders, receivers, scale, vectors = ctx.saved_tensors
        totals = [torch.zeros_like(value) for value in (x, senders, receivers, scale, vectors)]
        for tile in tiles(ctx.edges._replace(vectors=vectors), ctx.max_edges, receivers.shape[0]):
            rows, s = tile.receivers, tile.senders
            values = [x[:, s], senders[s], receivers[rows], scale[:, rows], tile.edges.vectors]
            with torch.enable_grad():
                values = [value.detach().requires_grad_() for value in values]
                messages = ctx.function(*values[:4], tile.edges._replace(vectors=values[4]))
            parts = torch.autograd.grad(messages, values, gradients[0][:, rows], materialize_grads=True)
            totals[0].index_add_(1, s, parts[0])
            totals[1].index_add_(0, s, parts[1])
            totals[2][rows], totals[3][:, rows], totals[4][tile.blocks] = parts[2:]
        return None, None, None, *totals


def by_tiles(
    function: Messages, x: Tensor, senders: Tensor, receivers: Tensor, scale: Tensor, edges: Edges, max_edges: int
) -> Tensor:
    """Compute ``function(x, senders, receivers, scale, edges)`` with at most max_edges edges at a time.

    For inference: the result can be differentiated once, and not with respect to parameters of the function.
    """
    result: Tensor = _Tiled.apply(function, edges, max_edges, x, senders, receivers, scale, edges.vectors)
    return result
