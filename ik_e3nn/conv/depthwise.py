"""Depthwise mixing: products of channel c of the features with field c of the filter, then a linear map of channels."""

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv.full import assemble
from ik_e3nn.conv.outer_sums import outer_sums
from ik_e3nn.conv.receivers import ReceiverBlocks, gather, pad_row, segment_sum
from ik_e3nn.kernels import Filter, SeparableFilter, TiledFilter
from ik_e3nn.nn.layout import from_components, layout, to_components
from ik_e3nn.nn.tensor_product import CouplingPaths, PathLinear, channels
from ik_e3nn.symmetry import SymmetryGroup


class DepthwiseMixing(ExactModule):
    r"""Sum :math:`L(\bigoplus_p T_p(x^c, h^c))` over neighbors, computed as :math:`L(\bigoplus_p T_p(\sum x^c h^c))`.

    The couplings T are constants and L is linear, so both are applied after the sum, once for each node; the sum runs
    over outer products of components. For separable filters, :math:`h^c_{lm} = R_{lc} Y_{lm}`, it is

    .. math:: Z_i[m_h, m_{in}, c] = \sum_{e \in i} Y_e[m_h] \, R_e[l, c] \, x_e[m_{in}, c],

    see :mod:`ik_e3nn.conv.outer_sums`.

    In the shapes below, M and H are the sums of 2l+1 over the irreps of irreps_in and of irreps_filter, C is their
    common multiplicity, and P is the dimension of the outputs of all paths.

    Args:
        irreps_in: Type of the features x.
        irreps_filter: Type of the filter fields h.
        irreps_out: Type of the result.
        group: The group G.

    Attributes:
        coupling: The tensors T of all paths, (P, H * M).

    Raises:
        ValueError: The irreps of features and filter do not all have one multiplicity.
    """

    coupling: Tensor

    def __init__(
        self, irreps_in: o3.Irreps, irreps_filter: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_filter, self.irreps_out = irreps_in, irreps_filter, irreps_out
        self.blocks_in, self.blocks_filter = layout(irreps_in), layout(irreps_filter)
        self.names_out = [str(ir) for _, ir in irreps_out]
        self.rows_in = o3.Irreps([(1, ir) for _, ir in irreps_in]).slices()
        self.mul = channels(irreps_in, "irreps_in of a depthwise convolution")
        if channels(irreps_filter, "filter fields of a depthwise convolution") != self.mul:
            raise ValueError(
                f"a depthwise convolution pairs channel c with filter field c: features {irreps_in} and filter "
                f"{irreps_filter} need one multiplicity; change one of them or use mode='full'"
            )
        paths = CouplingPaths(irreps_in, irreps_filter, irreps_out, group)
        self.dims = paths.irreps_in1.dim, paths.irreps_in2.dim
        matrix = paths.matrix().view(*self.dims, -1)
        self.register_exact("coupling", matrix.permute(2, 1, 0).flatten(1))
        self.filter_dims = [ir.dim for _, ir in paths.irreps_in2]
        self.linear = PathLinear(paths.irreps_mid, self.mul, irreps_out)

    def forward(
        self,
        features: Tensor,
        senders: Tensor,
        filter_fields: Filter,
        blocks: ReceiverBlocks,
        num_nodes: int,
    ) -> Tensor:
        """Sum K(h) x over the edges of every receiver.

        Args:
            features: x, (N, irreps_in.dim).
            senders: Sender of every edge, (E,).
            filter_fields: h of E edges.
            blocks: The E edges grouped by receiver, B blocks of width w.
            num_nodes: Number of receivers.

        Returns:
            (num_nodes, irreps_out.dim).
        """
        slots = blocks.slots.flatten()
        if isinstance(filter_fields, SeparableFilter):
            filter_fields = SeparableFilter(*(gather(pad_row(part), slots) for part in filter_fields))
        else:
            filter_fields = filter_fields.fields() if isinstance(filter_fields, TiledFilter) else filter_fields
            filter_fields = gather(pad_row(filter_fields), slots)
        x = to_components(features, self.blocks_in)
        parts = self.on_components(x, pad_row(senders)[blocks.slots], filter_fields, blocks.receivers, num_nodes)
        return from_components(parts, self.linear.blocks)

    def on_components(
        self,
        x: Tensor,
        senders: Tensor,
        filter_fields: Tensor | SeparableFilter,
        owners: Tensor,
        num_nodes: int,
    ) -> list[Tensor]:
        """Sum K(h) x for features with components first and for edges in the order of the blocks.

        Args:
            x: Features, (M, N, C).
            senders: Sender of the edge in every place of the blocks, (B, w).
            filter_fields: h of these edges, (B * w, irreps_filter.dim), or the factors (B * w, l_max+1, C) and
                (B * w, H); zero for empty places.
            owners: Receiver of every block, (B,).
            num_nodes: Number of receivers.

        Returns:
            One tensor (2l+1, num_nodes, multiplicity) for each irrep of irreps_out.
        """
        (M, _, C), (count, width), H = x.shape, senders.shape, self.dims[1]
        if isinstance(filter_fields, SeparableFilter):
            Z = outer_sums(filter_fields.harmonics, filter_fields.radial, x, senders, owners, num_nodes)
        else:
            rows = gather(x.transpose(0, 1), senders.flatten()).flatten(1)  # (B w, M C)
            h = torch.cat([filter_fields[:, b.place].unflatten(1, (C, b.dim)).mT for b in self.blocks_filter], 1)
            Z = (h[:, :, None] * rows.view(-1, 1, M, C)).view(count, width, H, M * C).sum(1)
            Z = segment_sum(Z.unflatten(2, (M, C)), owners, num_nodes).permute(1, 2, 0, 3)
        Z = Z.flatten(2).flatten(0, 1)  # (H M, num_nodes C)
        return self.linear((self.coupling @ Z).view(len(self.coupling), num_nodes, C))

    def matrix(self, filter_fields: Filter) -> Tensor:
        """The kernel matrix of every edge, computed by its definition.

        Args:
            filter_fields: h of E edges.

        Returns:
            (E, irreps_out.dim, irreps_in.dim).
        """
        filter_fields = filter_fields if isinstance(filter_fields, Tensor) else filter_fields.fields()
        h = to_components(filter_fields, self.blocks_filter)  # (components, E, channels)
        coupling = self.coupling.view(len(self.coupling), *self.dims[::-1])
        parts: dict[tuple[str, int], Tensor] = {}
        outputs = list(zip(self.names_out, self.linear.blocks, strict=True))
        for (name, out), weight, (start, paths) in zip(outputs, self.linear.weights, self.linear.spans, strict=True):
            for i, s in enumerate(self.rows_in if paths else []):
                T = coupling[start : start + paths * out.dim, :, s].unflatten(0, (paths, out.dim))
                w = weight.view(paths, self.mul, -1) * (paths * self.mul) ** -0.5
                block = torch.einsum("pmha,heu,puv->evmua", T, h, w)
                key = (name, i)
                parts[key] = torch.cat([parts[key], block], 1) if key in parts else block
        return assemble(parts, self.blocks_in, outputs, filter_fields)
