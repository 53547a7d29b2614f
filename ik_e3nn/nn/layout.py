"""Layouts of steerable features.

*Flat* is the layout of e3nn: (N, irreps.dim), block after block, channels before components. *Components first* is
(M, N, C), for types whose irreps all have the same number of channels C, with M the sum of all 2l+1. In this layout,
maps of the components (couplings, harmonics) and of the channels of one irrep are matrix products without copies.

``torch.compile`` cannot guard e3nn's irreps (their ``Irrep`` is a tuple without a length). Modules therefore store the
sizes that their ``forward`` needs as plain numbers when they are constructed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from e3nn import o3
from torch import Tensor, nn


class Block(NamedTuple):
    """``mul`` copies of one irrep of dimension ``dim``, from ``start`` to ``stop``.

    Example:
        >>> layout("2x0e + 1o")[1].place
        slice(2, 5, None)
    """

    mul: int
    dim: int
    start: int
    stop: int

    @property
    def place(self) -> slice:
        """Columns of the block in flat features."""
        return slice(self.start, self.stop)


def layout(irreps: o3.Irreps | str) -> tuple[Block, ...]:
    """The blocks of irreps in e3nn's flat order.

    Example:
        >>> layout("2x0e + 1o")
        (Block(mul=2, dim=1, start=0, stop=2), Block(mul=1, dim=3, start=2, stop=5))
    """
    irreps = o3.Irreps(irreps)
    blocks = zip(irreps, irreps.slices(), strict=True)
    return tuple(Block(mul, ir.dim, s.start, s.stop) for (mul, ir), s in blocks)


BlockMap = Callable[[list[Tensor]], list[Tensor]]
"""A function of blocks with components first, one (2l+1, N, mul) for each irrep; types may have any multiplicities."""


def to_blocks(x: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """Views of flat features (N, irreps.dim) with components first, one (2l+1, N, mul) for each irrep.

    Example:
        >>> [part.shape for part in to_blocks(torch.zeros(5, 5), layout("2x0e + 1x1o"))]
        [torch.Size([1, 5, 2]), torch.Size([3, 5, 1])]
    """
    return [x[:, b.place].unflatten(1, (b.mul, b.dim)).permute(2, 0, 1) for b in blocks]


def to_components(x: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Convert flat (N, irreps.dim) to components first (sum of 2l+1, N, channels), for blocks of one multiplicity.

    Example:
        >>> to_components(torch.zeros(5, 8), layout("2x0e + 2x1o")).shape
        torch.Size([4, 5, 2])
    """
    return torch.cat(to_blocks(x, blocks))


def from_components(x: Tensor | Sequence[Tensor], blocks: Sequence[Block] = ()) -> Tensor:
    """Convert components first, as one tensor or as one (2l+1, N, mul) per irrep, to flat (N, irreps.dim).

    The ``blocks`` are needed for one tensor only.

    Example:
        >>> from_components(torch.zeros(4, 5, 2), layout("2x0e + 2x1o")).shape
        torch.Size([5, 8])
    """
    parts = x.split([b.dim for b in blocks]) if isinstance(x, Tensor) else x
    return torch.cat([part.permute(1, 2, 0).flatten(1) for part in parts], 1)


def fold(module: nn.Module) -> BlockMap:
    """A module, or a sequence of modules, as a function of blocks with components first.

    The modules have a method ``fold`` that computes what does not depend on the input, like matrices of weights, once.
    """
    if not isinstance(module, nn.Sequential):
        function: BlockMap = cast(Any, module).fold()
        return function
    functions = [fold(part) for part in module]

    def apply(blocks: list[Tensor]) -> list[Tensor]:
        for function in functions:
            blocks = function(blocks)
        return blocks

    return apply
