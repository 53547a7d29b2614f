"""Where the blocks of flat features are, as plain numbers.

``torch.compile`` cannot guard e3nn's irreps (their ``Irrep`` is a tuple without a length), so what ``forward`` needs of
them is written down once, when a module is made.
"""

from typing import NamedTuple

from e3nn import o3


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
        """Its columns in flat features."""
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
