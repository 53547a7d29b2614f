"""The gated nonlinearity."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.nn.layout import BlockMap, layout
from ik_e3nn.nn.scalar import normalized_sigmoid, normalized_silu


class Gate(nn.Module):
    r"""Apply SiLU to scalars, and multiply every other field by the sigmoid of its own scalar. Exactly equivariant.

    .. math:: (s, g, x) \mapsto (c_1 \mathrm{silu}(s),\; c_2 \,\mathrm{sigmoid}(g)\, x)

    It works for every group G: a G-linear layer before it makes the scalars s and g, of type 0e.

    Args:
        irreps_out: Type of the output. SiLU acts on its 0e; all other fields are gated.

    Attributes:
        irreps_in: Type of the input: the 0e of the output, one 0e for every gated field, then the gated fields.

    Reference:
        Weiler et al., 3D Steerable CNNs, NeurIPS 2018, section 4.3.

    Example:
        >>> gate = Gate("4x0e + 2x1o")
        >>> gate.irreps_in, gate(torch.randn(5, 12)).shape
        (4x0e+2x0e+2x1o, torch.Size([5, 10]))
    """

    def __init__(self, irreps_out: o3.Irreps | str) -> None:
        super().__init__()
        irreps = o3.Irreps(irreps_out)
        scalars = [(mul, ir) for mul, ir in irreps if ir == o3.Irrep("0e")]
        self.gated = o3.Irreps([(mul, ir) for mul, ir in irreps if ir != o3.Irrep("0e")])
        self.num_scalars = sum(mul for mul, _ in scalars)
        self.scalar_blocks = len(scalars)
        self.irreps_out = o3.Irreps(scalars) + self.gated
        self.irreps_in = o3.Irreps(scalars) + o3.Irreps([(mul, "0e") for mul, _ in self.gated]) + self.gated
        self.blocks = layout(self.gated)
        self.sizes = [self.num_scalars, self.gated.num_irreps, self.gated.dim]
        if self.irreps_out != irreps:
            raise ValueError(
                f"scalars (0e) must come first in the output of a gate; got {irreps}: use {self.irreps_out}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., irreps_in.dim) to (..., irreps_out.dim)."""
        if not self.blocks:
            return normalized_silu(x)
        scalars, gates, fields = x.split(self.sizes, -1)
        gates = normalized_sigmoid(gates)
        pieces = [normalized_silu(scalars)]
        for block, g in zip(self.blocks, gates.split([b.mul for b in self.blocks], -1), strict=True):
            pieces.append((fields[..., block.place].unflatten(-1, (block.mul, block.dim)) * g[..., None]).flatten(-2))
        return torch.cat(pieces, -1)

    def fold(self) -> BlockMap:
        """The gate as a function of blocks with components first; see ``EquivariantLinear.fold``."""

        def apply(blocks: list[Tensor]) -> list[Tensor]:
            scalars, others = blocks[: self.scalar_blocks], blocks[self.scalar_blocks :]
            pairs = zip(others[: len(self.blocks)], others[len(self.blocks) :], strict=True)
            return [normalized_silu(s) for s in scalars] + [fields * normalized_sigmoid(g) for g, fields in pairs]

        return apply
