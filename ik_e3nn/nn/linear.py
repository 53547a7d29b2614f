"""The G-equivariant linear layer."""

from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.nn.layout import BlockMap, layout
from ik_e3nn.nn.mixing import ChannelMixing, DenseMixing, InvariantBias
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.intertwiners import irrep_intertwiners


class EquivariantLinear(nn.Module):
    r"""The most general linear map that commutes with a group G.

    .. math:: y_k = S_k^{-1/2} \sum_i \sum_p (w_{ikp} \otimes B_{ikp}) \, x_i + b_k,
              \qquad B_{ikp} \in \mathrm{Hom}_G(i, k), \; S_k = \sum_{ip} \mathrm{mul}_i \, B_{ikp} B_{ikp}^T

    The weights are initialized with standard normal numbers. :math:`S_k` is the covariance of the output for inputs of
    unit variance; it commutes with G, so that dividing by its root gives *every component* unit variance and keeps
    equivariance. (Scaling whole blocks is not enough: components that G leaves invariant would grow from layer to
    layer.) For G = O(3) the layer is equivalent to ``o3.Linear``.

    Blocks of x and y that G connects are multiplied in one GEMM; if the only maps are multiples of the identity
    (always for O(3) and SO(3)), the GEMM runs over channels alone.

    Args:
        irreps_in: Type of the input x.
        irreps_out: Type of the output y. A block to which no input block maps is zero.
        group: The group G, or its name.
        bias: Add a learnable G-invariant vector b (irreps_out.dim,), zero at first.

    Attributes:
        weight: All weights w one after the other, (number of weights,): see ``weight_shapes``.

    Example:
        >>> linear = EquivariantLinear("4x0e + 4x1o", "2x0e + 2x1o", "SO2")
        >>> linear(torch.randn(5, 16)).shape
        torch.Size([5, 8])
        >>> linear.weight.numel()  # of (4 + 4) x 2 scalars and 4 x 2 + 4 x 2 x 3 vectors
        48
    """

    permutation: Tensor

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        group: SymmetryGroup | str = "O3",
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        self.dim_in = self.irreps_in.dim
        self.group = SymmetryGroup.from_config(group)
        components: list[ChannelMixing | DenseMixing] = [
            ChannelMixing(self.irreps_in, self.irreps_out, rows, columns)
            if _only_identities(self.irreps_in, self.irreps_out, rows, columns, self.group)
            else DenseMixing(self.irreps_in, self.irreps_out, rows, columns, self.group)
            for columns, rows in _connected_components(self.irreps_in, self.irreps_out, self.group)
        ]
        self.components = nn.ModuleList(components)
        self.weight = nn.Parameter(torch.randn(sum(c.num_weights for c in components)))
        self.bias = InvariantBias(self.irreps_out, self.group) if bias else None
        self.blocks_in, self.blocks_out = layout(self.irreps_in), layout(self.irreps_out)
        order = [s for c in components for k in c.rows for s in _span(self.irreps_out, k)]
        present = set(order)
        missing = [s for s in range(self.irreps_out.dim) if s not in present]
        self.num_missing = len(missing)
        permutation = torch.tensor(order + missing, dtype=torch.long).argsort()
        self.in_order = bool((permutation == torch.arange(len(permutation))).all())
        self.register_buffer("permutation", permutation, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: Flat features (..., irreps_in.dim).

        Returns:
            Flat features (..., irreps_out.dim).

        Raises:
            ValueError: The last dimension of x is not irreps_in.dim.
        """
        if x.shape[-1] != self.dim_in:
            raise ValueError(f"expected features of {self.irreps_in}, dimension {self.dim_in}; got {tuple(x.shape)}")
        weights = self.weight.split([c.num_weights for c in self.components])
        pieces = [c(x, w) for c, w in zip(self.components, weights, strict=True)]
        if self.num_missing:
            pieces.append(x.new_zeros(*x.shape[:-1], self.num_missing))
        y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)
        if not self.in_order:
            y = y[..., self.permutation]
        return y if self.bias is None else y + self.bias()

    def fold(self) -> BlockMap:
        """The layer as a function of blocks with components first; its matrices are computed here, once.

        Example:
            >>> linear = EquivariantLinear("4x0e + 2x1o", "3x0e + 5x1o", "SO2")
            >>> [block.shape for block in linear.fold()([torch.randn(1, 7, 4), torch.randn(3, 7, 2)])]
            [torch.Size([1, 7, 3]), torch.Size([3, 7, 5])]
        """
        components = cast(list[ChannelMixing | DenseMixing], list(self.components))
        weights = self.weight.split([c.num_weights for c in components])
        maps = [(c.columns, c.rows, c.fold(w)) for c, w in zip(components, weights, strict=True)]
        bias = [None] * len(self.blocks_out) if self.bias is None else self.bias.fold()

        def apply(blocks: list[Tensor]) -> list[Tensor]:
            found: dict[int, Tensor] = {}
            for columns, rows, function in maps:
                found.update(zip(rows, function([blocks[i] for i in columns]), strict=True))
            results = []
            for k, (block, shift) in enumerate(zip(self.blocks_out, bias, strict=True)):
                y = found.get(k)
                if y is None:
                    y = self.weight.new_zeros(block.dim, blocks[0].shape[1], block.mul)
                results.append(y if shift is None else y + shift)
            return results

        return apply

    def on_components(self, x: Tensor) -> Tensor:
        """Apply the layer to features with components first, for types of one multiplicity.

        Args:
            x: (M_in, N, C_in), with M_in the sum of 2l+1 over the irreps of irreps_in and C_in their multiplicity.

        Returns:
            (M_out, N, C_out), with M_out and C_out likewise for irreps_out.
        """
        results = self.fold()(list(x.split([b.dim for b in self.blocks_in])))
        return results[0] if len(results) == 1 else torch.cat(results)

    def weight_matrices(self) -> list[tuple[list[int], int]]:
        """The matrices (channels in, channels out) that ``weight`` holds one after the other.

        The layer is equivariant for all values of the matrices.

        Returns:
            For each matrix, the input blocks whose channels are its rows, and the number of its columns.

        Example:
            >>> EquivariantLinear("4x0e + 4x1o", "2x0e + 2x1o").weight_matrices()
            [([0], 2), ([1], 2)]
        """
        components = cast(list[ChannelMixing | DenseMixing], list(self.components))
        return [matrix for c in components for matrix in c.matrices]

    def weight_shapes(self) -> list[tuple[int, int]]:
        """Shapes (channels in, channels out) of the matrices of ``weight_matrices``.

        Example:
            >>> EquivariantLinear("4x0e + 4x1o", "2x0e + 2x1o").weight_shapes()
            [(4, 2), (4, 2)]
        """
        return [(sum(self.irreps_in[i].mul for i in blocks), size) for blocks, size in self.weight_matrices()]

    def extra_repr(self) -> str:
        """One line that ``print`` shows for this layer."""
        return f"{self.irreps_in} -> {self.irreps_out}, {self.group.name}, {self.weight.numel()} weights"


def _span(irreps: o3.Irreps, block: int) -> range:
    """Columns of a block in flat features."""
    s = irreps.slices()[block]
    return range(s.start, s.stop)


def _connected_components(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup
) -> list[tuple[list[int], list[int]]]:
    """Partition the blocks into sets between which G allows linear maps.

    Returns:
        Indices (of input blocks, of output blocks) of each set, in the order of the output blocks.
    """
    components: list[tuple[list[int], list[int]]] = []
    for k, (mul_out, ir_out) in enumerate(irreps_out):
        inputs = {
            i
            for i, (mul_in, ir_in) in enumerate(irreps_in)
            if mul_in * mul_out and len(irrep_intertwiners(ir_in, ir_out, group))
        }
        if not inputs:
            continue
        touching = [c for c in components if inputs & set(c[0])]
        components = [c for c in components if c not in touching]
        columns = sorted(inputs.union(*[c[0] for c in touching]))
        components.append((columns, sorted([k, *[row for c in touching for row in c[1]]])))
    return sorted(components, key=lambda c: c[1][0])


def _only_identities(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, rows: list[int], columns: list[int], group: SymmetryGroup
) -> bool:
    """Whether all maps from input blocks ``columns`` to output blocks ``rows`` are multiples of the identity."""
    irreps = {irreps_in[i].ir for i in columns} | {irreps_out[k].ir for k in rows}
    if len({ir.l for ir in irreps}) > 1:
        return False
    maps = [irrep_intertwiners(a, b, group) for a in irreps for b in irreps]
    identity = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    return all(len(m) == 1 and bool((m[0] / m[0, 0, 0] - identity).abs().max() < 1e-10) for m in maps)
