"""Full mixing: products of every input channel with every filter field."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv.receivers import (
    ReceiverBlocks,
    gather,
    pad_row,
    segment_sum,
    tiles_without_gaps,
    transposed_product,
)
from ik_e3nn.kernels import Filter, SeparableFilter, TiledFilter
from ik_e3nn.nn.layout import Block, layout, to_blocks
from ik_e3nn.nn.tensor_product import CouplingPaths
from ik_e3nn.symmetry import SymmetryGroup


class Term(NamedTuple):
    """The products of one input block with all filter fields of one multiplicity, that are of one output irrep.

    Attributes:
        block: Index of the input block in irreps_in.
        mul: Index of the multiplicity H in ``FullMixing.muls``.
        fields: Index of the filter fields in ``FullMixing.filter_blocks``.
        name: Name of the output irrep, like "1o".
        dim: Its dimension 2l+1.
        paths: Number of coupling paths that lead to it.
    """

    block: int
    mul: int
    fields: int
    name: str
    dim: int
    paths: int

    @property
    def weight_name(self) -> str:
        """Name of the weights (paths * H * C, multiplicity of the irrep in irreps_out)."""
        return f"weight_{self.block}_{self.mul}_{self.name}"

    @property
    def coupling_name(self) -> str:
        """Name of the buffer with the couplings (m_in * m_out * paths, sum of m_h)."""
        return f"coupling_{self.block}_{self.mul}_{self.name}"


class FullMixing(ExactModule):
    r"""Compute the sum over neighbors of :math:`L(x \otimes h)` by three GEMMs.

    For an input irrep with C channels, H filter fields of each filter irrep, a block of n edges e, and the coupling
    paths :math:`T_p`; the indices m run over the components 2l+1 of an irrep:

    1. :math:`G_e[m_{in}, (m_{out}, p), H] = \sum_{m_h} T_p[m_{in}, m_h, m_{out}] \, h_e[m_h, H]`
    2. :math:`Z[(m_{out}, p, H), C] = \sum_{(e, m_{in})} G_e[m_{in}, (m_{out}, p, H)] \, x_e[m_{in}, C]`
    3. :math:`y[m_{out}, C'] = \sum_{(p, H, C)} Z[m_{out}, (p, H, C)] \, W[(p, H, C), C']`

    No tensor of size (filter dimension) x (input dimension) is stored, and step 3 runs once for each block of edges
    instead of once for each edge.

    Args:
        irreps_in: Type of the features x.
        irreps_filter: Type of the filter fields h.
        irreps_out: Type of the result y.
        group: The group G.

    Attributes:
        muls: The multiplicities H of the filter fields.
        filter_blocks: Sets of blocks of the filter that are multiplied together, as their indices: of one multiplicity,
            and connected by terms. Under O(3) blocks of even and odd parity are never in one term.
        terms: The products: one term for each input block, multiplicity of the filter, and output irrep.
        weights: The matrices W of every term; see :class:`Term` for their names and shapes.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_filter: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_filter, self.irreps_out = irreps_in, irreps_filter, irreps_out
        self.blocks_in, self.blocks_out, self.layout_filter = (
            layout(irreps_in),
            layout(irreps_out),
            layout(irreps_filter),
        )
        self.names_out = [str(ir) for _, ir in irreps_out]
        self.mul_out = {name: irreps_out.count(name) for name in self.names_out}
        self.muls = sorted({mul for mul, _ in irreps_filter})
        self.terms: list[Term] = []
        paths = CouplingPaths(irreps_in, irreps_filter, irreps_out, group)
        used: dict[tuple[int, int, o3.Irrep], list[tuple[int, Tensor]]] = {}
        for a, b, out, T in paths.paths:
            used.setdefault((a, self.muls.index(irreps_filter[b].mul), out), []).append((b, T))
        self.filter_blocks = _connected([{f for f, _ in found} for found in used.values()])
        for i in range(len(irreps_in)):
            for g in range(len(self.muls)):
                for ir in dict.fromkeys(ir for _, ir in irreps_out):
                    if (i, g, ir) in used:
                        self._add_term(i, g, ir, used[i, g, ir])
        fan = {name: sum(self._rows(t) for t in self.terms if t.name == name) for name in self.mul_out}
        self.scale = {name: n**-0.5 for name, n in fan.items() if n}
        self.weights = nn.ParameterDict(
            {t.weight_name: nn.Parameter(torch.randn(self._rows(t), self.mul_out[t.name])) for t in self.terms}
        )

    def _add_term(self, i: int, g: int, ir: o3.Irrep, found: list[tuple[int, Tensor]]) -> None:
        """Add the term of an input block, the multiplicity with index g, and an output irrep.

        Its couplings are stacked in a buffer of shape (m_in * m_out * paths, sum of m_h).

        Args:
            i: Index of the input block.
            g: Index of the multiplicity of the filter fields.
            ir: The output irrep.
            found: The block of the filter and the coupling T (m_in, m_h, m_out) of every path.
        """
        fields = next(k for k, blocks in enumerate(self.filter_blocks) if found[0][0] in blocks)
        blocks = self.filter_blocks[fields]
        slices = o3.Irreps([(1, self.irreps_filter[f].ir) for f in blocks]).slices()
        stack = torch.zeros(self.irreps_in[i].ir.dim, ir.dim, len(found), slices[-1].stop, dtype=torch.float64)
        for p, (f, T) in enumerate(found):
            stack[:, :, p, slices[blocks.index(f)]] = T.transpose(1, 2)
        self.terms.append(Term(i, g, fields, str(ir), ir.dim, len(found)))
        self.register_exact(self.terms[-1].coupling_name, stack.flatten(0, 2))

    def _rows(self, term: Term) -> int:
        """Rows of the weights of a term: paths * H * C."""
        return term.paths * self.muls[term.mul] * self.blocks_in[term.block].mul

    def forward(
        self, features: Tensor, senders: Tensor, filter_fields: Filter, blocks: ReceiverBlocks, num_nodes: int
    ) -> Tensor:
        """Sum K(h) x over the edges of every receiver.

        Args:
            features: x, (N, irreps_in.dim).
            senders: Sender of every edge, (E,).
            filter_fields: h of E edges.
            blocks: The E edges grouped by receiver.
            num_nodes: Number of receivers.

        Returns:
            y, (num_nodes, irreps_out.dim).
        """
        h = self._tiled(filter_fields)
        tiles, receivers = tiles_without_gaps(blocks, senders.shape[0])
        edges = torch.cat([slots.flatten() for slots in tiles])
        places, sizes = pad_row(senders)[edges], [slots.numel() for slots in tiles]
        x = [features[:, b.place].unflatten(1, (b.mul, b.dim)).transpose(1, 2).flatten(1) for b in self.blocks_in]
        # each row is gathered once here, because the gradient of a gather in each tile would be as large as its input
        x_tiles = zip(*[gather(rows, places).split(sizes) for rows in x], strict=True)
        h_tiles = zip(*[gather(pad_row(rows), edges).split(sizes) for rows in h.rows], strict=True)
        weights = [self.weights[t.weight_name] * self.scale[t.name] for t in self.terms]
        sums = [
            self._sums(h.function(*h_rows), x_rows, weights, slots.shape)
            for slots, h_rows, x_rows in zip(tiles, h_tiles, x_tiles, strict=True)
        ]
        result = {
            name: segment_sum(torch.cat([s[name] for s in sums]), receivers, num_nodes)
            for name in dict.fromkeys(t.name for t in self.terms)
        }
        return self._collect(result, num_nodes, features)

    def _sums(
        self, fields: list[Tensor], features: Sequence[Tensor], weights: list[Tensor], shape: Sequence[int]
    ) -> dict[str, Tensor]:
        """Sum K(h) x over the edges of every block of a tile.

        Args:
            fields: h of every place, one (2l+1, B * w, multiplicity) for each irrep of irreps_filter.
            features: x of the sender of every place, one (B * w, m_in * C) for each block of irreps_in.
            weights: Scaled weights W of every term.
            shape: Number of blocks B, and of edges in each, w.

        Returns:
            For each output irrep by name, (B, m_out, multiplicity of the irrep in irreps_out).
        """
        count, width = shape
        result: dict[str, Tensor] = {}
        h = [torch.cat([fields[f] for f in blocks]).transpose(0, 1) for blocks in self.filter_blocks]  # (B w, m_h, H)
        for term, weight in zip(self.terms, weights, strict=True):
            b, mul = self.blocks_in[term.block], self.muls[term.mul]
            x = features[term.block].view(count, width * b.dim, b.mul)  # (B, (edge, m_in), C)
            coupling = getattr(self, term.coupling_name).expand(count * width, -1, -1)
            # (B, (edge, m_in), (m_out, p, H))
            G = torch.bmm(coupling, h[term.fields]).view(count, width * b.dim, term.dim * term.paths * mul)
            Z = transposed_product(G, x)  # (B, (m_out, p, H), C)
            y = (Z.view(count * term.dim, weight.shape[0]) @ weight).view(count, term.dim, weight.shape[1])
            result[term.name] = result[term.name] + y if term.name in result else y
        return result

    def _tiled(self, filter_fields: Filter) -> TiledFilter:
        """Filter fields as a function of rows of edges."""
        if isinstance(filter_fields, Tensor):
            return TiledFilter(
                lambda rows: to_blocks(rows, self.layout_filter), (filter_fields,), filter_fields.shape[1]
            )
        return filter_fields.tiled() if isinstance(filter_fields, SeparableFilter) else filter_fields

    def _collect(self, result: dict[str, Tensor], count: int, like: Tensor) -> Tensor:
        """Arrange the results of all output irreps as flat features.

        Args:
            result: For each output irrep by name, (N, m_out, multiplicity of the irrep in irreps_out).
            count: Number of receivers N.
            like: A tensor with the dtype and device for zeros.

        Returns:
            (N, irreps_out.dim); irreps without a path are zero.
        """
        blocks, used = [], dict.fromkeys(self.mul_out, 0)
        for name, b in zip(self.names_out, self.blocks_out, strict=True):
            if name not in result:
                blocks.append(like.new_zeros(count, b.mul * b.dim))
                continue
            y = result[name][:, :, used[name] : used[name] + b.mul]
            used[name] += b.mul
            blocks.append(y.transpose(1, 2).flatten(1))
        return torch.cat(blocks, 1)

    def matrix(self, filter_fields: Filter) -> Tensor:
        """The kernel matrix of every edge, computed by its definition.

        Args:
            filter_fields: h of E edges.

        Returns:
            (E, irreps_out.dim, irreps_in.dim).
        """
        tiled = self._tiled(filter_fields)
        fields = tiled.function(*tiled.rows)
        parts: dict[tuple[str, int], Tensor] = {}
        for term in self.terms:
            b, mul = self.blocks_in[term.block], self.muls[term.mul]
            h = torch.cat([fields[f] for f in self.filter_blocks[term.fields]])
            T = getattr(self, term.coupling_name).view(b.dim, term.dim, term.paths, -1)
            weight = (self.weights[term.weight_name] * self.scale[term.name]).view(term.paths, mul, b.mul, -1)
            block = torch.einsum("ampeH,pHuv->evmua", torch.einsum("amph,heH->ampeH", T, h), weight)
            key = (term.name, term.block)
            parts[key] = parts[key] + block if key in parts else block
        return assemble(parts, self.blocks_in, zip(self.names_out, self.blocks_out, strict=True), tiled.rows[0])


def _connected(sets: list[set[int]]) -> list[list[int]]:
    """Merge sets that share an element, and sort them.

    Example:
        >>> _connected([{0, 2}, {1}, {4, 2}, {3, 1}])
        [[0, 2, 4], [1, 3]]
    """
    merged: list[set[int]] = []
    for one in sets:
        touching = [other for other in merged if other & one]
        merged = [other for other in merged if not other & one]
        merged.append(one.union(*touching))
    return sorted(sorted(one) for one in merged)


def assemble(
    parts: dict[tuple[str, int], Tensor],
    blocks_in: Sequence[Block],
    blocks_out: Iterable[tuple[str, Block]],
    filter_fields: Tensor,
) -> Tensor:
    """Assemble the kernel matrix of every edge from its blocks.

    Args:
        parts: Kernel blocks by (name of the output irrep, index of the input block), (E, v, m_out, u, m_in) with v
            channels out and u channels in; absent blocks are zero.
        blocks_in: Layout of the features.
        blocks_out: Names of the output irreps, and layout of the result.
        filter_fields: Filter fields (E, ...), for the number of edges, the dtype and the device.

    Returns:
        (E, dimension of the result, dimension of the features).
    """
    edges, rows = filter_fields.shape[0], []
    used: dict[str, int] = {}
    for name, b in blocks_out:
        row, first = [], used.get(name, 0)
        used[name] = first + b.mul
        for i, a in enumerate(blocks_in):
            shape = edges, b.mul * b.dim, a.mul * a.dim
            block = parts.get((name, i))
            row.append(
                filter_fields.new_zeros(shape) if block is None else block[:, first : first + b.mul].reshape(shape)
            )
        rows.append(torch.cat(row, 2))
    return torch.cat(rows, 1)
