"""Full mixing: products of every input channel with every filter field."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv.receivers import ReceiverBlocks, gather, pad_row, segment_sum
from ik_e3nn.kernels import SeparableFilter
from ik_e3nn.nn.layout import Block, layout
from ik_e3nn.nn.tensor_product import CouplingPaths
from ik_e3nn.symmetry import SymmetryGroup

TILE = 128  # blocks of edges that are treated at once


class Output(NamedTuple):
    """An output irrep of a term.

    Attributes:
        name: Name of the irrep, like "1o".
        dim: Its dimension 2l+1.
        paths: Number of coupling paths that lead to it.
    """

    name: str
    dim: int
    paths: int


class Term(NamedTuple):
    """The products of one input block with all filter fields of one multiplicity.

    Attributes:
        block: Index of the input block in irreps_in.
        fields: Index of the filter fields in ``FullMixing.filter_types``.
        outputs: Output irreps of the products.
    """

    block: int
    fields: int
    outputs: list[Output]

    def weight_name(self, output: str) -> str:
        """Name of the weights (paths * H * C, multiplicity of the irrep in irreps_out) that lead to an output irrep."""
        return f"weight_{self.block}_{self.fields}_{output}"

    @property
    def coupling_name(self) -> str:
        """Name of the buffer with the couplings (sum of m_h, m_in, sum of m_out * paths over the outputs)."""
        return f"coupling_{self.block}_{self.fields}"


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
        filter_types: The irreps of the filter fields, grouped by their multiplicity H.
        terms: The products, one term for each input block and each of the ``filter_types``.
        weights: The matrices W of every term and output irrep; see :class:`Term` for their names and shapes.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_filter: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_filter, self.irreps_out = irreps_in, irreps_filter, irreps_out
        self.blocks_in, self.blocks_out = layout(irreps_in), layout(irreps_out)
        self.names_out = [str(ir) for _, ir in irreps_out]
        self.mul_out = {name: irreps_out.count(name) for name in self.names_out}
        muls = sorted({mul for mul, _ in irreps_filter})
        self.filter_types = [o3.Irreps([(m, ir) for m, ir in irreps_filter if m == mul]) for mul in muls]
        self.filter_blocks = [layout(t) for t in self.filter_types]
        self.filter_slices = [
            [s for (m, _), s in zip(irreps_filter, irreps_filter.slices(), strict=True) if m == mul] for mul in muls
        ]
        self.terms: list[Term] = []
        paths = CouplingPaths(irreps_in, irreps_filter, irreps_out, group)
        for i in range(len(irreps_in)):
            for g, mul in enumerate(muls):
                self._add_term(i, g, [f for f, (m, _) in enumerate(irreps_filter) if m == mul], paths)
        fan = {name: sum(self._rows(t, name) for t in self.terms) for name in self.mul_out}
        self.scale = {name: n**-0.5 for name, n in fan.items() if n}
        self.weights = nn.ParameterDict(
            {
                t.weight_name(out.name): nn.Parameter(torch.randn(self._rows(t, out.name), self.mul_out[out.name]))
                for t in self.terms
                for out in t.outputs
            }
        )

    def _add_term(self, i: int, g: int, filters: list[int], paths: CouplingPaths) -> None:
        """Add the term of an input block and the filter fields of one multiplicity.

        Its couplings T are stacked in a buffer of shape (sum of m_h over the filter blocks, m_in, sum of m_out * paths
        over the output irreps).

        Args:
            i: Index of the input block.
            g: Index of the multiplicity in filter_types.
            filters: Indices, in irreps_filter, of the filter blocks with this multiplicity.
            paths: All coupling paths.
        """
        slices = o3.Irreps([(1, self.irreps_filter[f].ir) for f in filters]).slices()
        columns, outputs = [], []
        for ir in dict.fromkeys(ir for _, ir in self.irreps_out):
            found = [(filters.index(b), T) for a, b, out, T in paths.paths if a == i and b in filters and out == ir]
            if not found:
                continue
            stack = torch.zeros(slices[-1].stop, self.irreps_in[i].ir.dim, ir.dim, len(found), dtype=torch.float64)
            for p, (f, T) in enumerate(found):
                stack[slices[f], :, :, p] = T.transpose(0, 1)
            columns.append(stack.flatten(2))
            outputs.append(Output(str(ir), ir.dim, len(found)))
        if outputs:
            self.terms.append(Term(i, g, outputs))
            self.register_exact(self.terms[-1].coupling_name, torch.cat(columns, 2))

    def _rows(self, term: Term, name: str) -> int:
        """Rows of the weights of a term for an output irrep: paths * H * C."""
        paths = sum(out.paths for out in term.outputs if out.name == name)
        return paths * self.filter_blocks[term.fields][0].mul * self.blocks_in[term.block].mul

    def forward(
        self,
        features: Tensor,
        senders: Tensor,
        filter_fields: Tensor | SeparableFilter,
        blocks: ReceiverBlocks,
        num_nodes: int,
    ) -> Tensor:
        """Sum K(h) x over the edges of every receiver.

        Args:
            features: x, (N, irreps_in.dim).
            senders: Sender of every edge, (E,).
            filter_fields: h, (E, irreps_filter.dim), or in factors with E rows.
            blocks: The E edges grouped by receiver, B blocks of width w.
            num_nodes: Number of receivers.

        Returns:
            y, (num_nodes, irreps_out.dim).
        """
        if isinstance(filter_fields, SeparableFilter):
            filter_fields = filter_fields.fields()
        filters = [pad_row(h) for h in self._filter_components(filter_fields)]
        senders = pad_row(senders)
        # by tiles, so that the result of each step is still in the cache when the next step reads it
        tiles = (blocks.slots,) if torch.compiler.is_compiling() else blocks.slots.split(TILE)
        sums = [self._sums(features, senders, filters, slots) for slots in tiles]
        return segment_sum(torch.cat(sums), blocks.receivers, num_nodes)

    def _sums(self, features: Tensor, senders: Tensor, filters: list[Tensor], slots: Tensor) -> Tensor:
        """Sum K(h) x over the edges of every block.

        Args:
            features: x, (N, irreps_in.dim).
            senders: Sender of every edge, (E + 1,); the last row stands for empty places.
            filters: h by multiplicity H, (E + 1, sum of 2l+1, H) each; the last row is zero.
            slots: Edge in every place of the blocks, (B, w); E if a place is empty.

        Returns:
            (B, irreps_out.dim).
        """
        (count, width), slots = slots.shape, slots.flatten()
        places = senders[slots]
        fields = [gather(h, slots) for h in filters]
        result: dict[str, Tensor] = {}
        for term in self.terms:
            b = self.blocks_in[term.block]
            x = features[:, b.place].unflatten(1, (b.mul, b.dim)).transpose(1, 2)
            x = gather(x, places).view(count, width * b.dim, b.mul)  # (B, (edge, m_in), C)
            coupling, h = getattr(self, term.coupling_name), fields[term.fields]
            # (B, (edge, m_in), (output, m_out, p, H))
            G = torch.matmul(coupling.flatten(1).T, h).view(count, width * b.dim, coupling.shape[2] * h.shape[2])
            parts = G.split([out.dim * out.paths * h.shape[2] for out in term.outputs], 2)
            for (name, dim, _), g in zip(term.outputs, parts, strict=True):
                Z = torch.bmm(g.transpose(1, 2), x)  # (B, (m_out, p, H), C)
                weight = self.weights[term.weight_name(name)] * self.scale[name]
                y = Z.view(count * dim, weight.shape[0]) @ weight  # ((B, m_out), channels out)
                result[name] = result[name] + y if name in result else y
        return self._collect(result, count, features)

    def _filter_components(self, fields: Tensor) -> list[Tensor]:
        """Filter fields (E, irreps_filter.dim) as one tensor (E, sum of 2l+1, H) for each multiplicity H."""
        parts = []
        for filter_blocks, slices in zip(self.filter_blocks, self.filter_slices, strict=True):
            flat = fields if len(self.filter_blocks) == 1 else torch.cat([fields[:, s] for s in slices], 1)
            parts.append(torch.cat([flat[:, b.place].unflatten(1, (b.mul, b.dim)).mT for b in filter_blocks], 1))
        return parts

    def _collect(self, result: dict[str, Tensor], count: int, like: Tensor) -> Tensor:
        """Arrange the results of all output irreps as flat features.

        Args:
            result: For each output irrep by name, (B * m_out, multiplicity of the irrep in irreps_out).
            count: Number of blocks B.
            like: A tensor with the dtype and device for zeros.

        Returns:
            (B, irreps_out.dim); irreps without a path are zero.
        """
        blocks, used = [], dict.fromkeys(self.mul_out, 0)
        for name, b in zip(self.names_out, self.blocks_out, strict=True):
            if name not in result:
                blocks.append(like.new_zeros(count, b.mul * b.dim))
                continue
            y = result[name].view(count, b.dim, self.mul_out[name])[:, :, used[name] : used[name] + b.mul]
            used[name] += b.mul
            blocks.append(y.transpose(1, 2).reshape(count, b.mul * b.dim))
        return torch.cat(blocks, 1)

    def matrix(self, filter_fields: Tensor) -> Tensor:
        """The kernel matrix of every edge, computed by its definition.

        Args:
            filter_fields: h, (E, irreps_filter.dim).

        Returns:
            (E, irreps_out.dim, irreps_in.dim).
        """
        parts: dict[tuple[str, int], Tensor] = {}
        for term in self.terms:
            mul_in = self.blocks_in[term.block].mul
            h = self._filter_components(filter_fields)[term.fields]
            G = torch.einsum("hac,ehH->eacH", getattr(self, term.coupling_name), h)
            parts_of_G = G.split([out.dim * out.paths for out in term.outputs], 2)
            for (name, dim, paths), g in zip(term.outputs, parts_of_G, strict=True):
                weight = self.weights[term.weight_name(name)] * self.scale[name]
                weight = weight.view(paths, h.shape[2], mul_in, -1)
                block = torch.einsum("eampH,pHuv->evmua", g.unflatten(2, (dim, paths)), weight)
                key = (name, term.block)
                parts[key] = parts[key] + block if key in parts else block
        return assemble(parts, self.blocks_in, zip(self.names_out, self.blocks_out, strict=True), filter_fields)


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
