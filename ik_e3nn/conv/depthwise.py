"""Depthwise mixing: channel c of the features with field c of the filter, then a linear map over channels."""

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv.full import assemble
from ik_e3nn.conv.receivers import ReceiverBlocks, gather, pad_row, segment_sum
from ik_e3nn.kernels import SeparableFilter
from ik_e3nn.nn.layout import layout
from ik_e3nn.nn.tensor_product import CouplingPaths, PathLinear, channels, to_components
from ik_e3nn.symmetry import SymmetryGroup


class DepthwiseMixing(ExactModule):
    r"""The sum over neighbours of :math:`L(\bigoplus_p T_p(x^c, h^c))`.

    The couplings T are constants, so they too are applied after the sum where the filter is a plain tensor. Where it is
    separable, :math:`h^c_{lm} = R_{lc} Y_{lm}`, T is contracted with Y first, and a batched GEMM over (edge of a block,
    m_in) sums the neighbours:

    .. math:: Z_l[(p, m_{out}), c] = \sum_{(e, m_{in})} \big( T_p Y_e \big)[m_{in}, (p, m_{out})] \;
              x_e[m_{in}, c] \, R_e[l, c]
    """

    coupling: Tensor
    order: Tensor

    def __init__(
        self, irreps_in: o3.Irreps, irreps_filter: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_filter, self.irreps_out = irreps_in, irreps_filter, irreps_out
        self.blocks_in, self.blocks_filter = layout(irreps_in), layout(irreps_filter)
        self.mul = channels(irreps_in, "irreps_in of a depthwise convolution")
        if channels(irreps_filter, "filter fields of a depthwise convolution") != self.mul:
            raise ValueError(
                f"a depthwise convolution pairs channel c with filter field c: features {irreps_in} and filter "
                f"{irreps_filter} need one multiplicity; change one of them or use mode='full'"
            )
        paths = CouplingPaths(irreps_in, irreps_filter, irreps_out, group)
        self.irreps_mid = paths.irreps_mid
        self.register_exact("coupling", paths.matrix().view(paths.irreps_1.dim, paths.irreps_2.dim, -1))
        # paths grouped by the filter block they use, for the separable form
        self.columns = [
            [
                c
                for (_, b, _, _), s in zip(paths.paths, paths.irreps_mid.slices(), strict=True)
                if b == f
                for c in range(s.start, s.stop)
            ]
            for f in range(len(irreps_filter))
        ]
        order = torch.tensor([c for columns in self.columns for c in columns], dtype=torch.long)
        self.register_buffer("order", order.argsort(), persistent=False)
        for f, (columns, s) in enumerate(zip(self.columns, paths.irreps_2.slices(), strict=True)):
            self.register_exact(f"coupling_{f}", self._exact["coupling"][:, s][:, :, columns].transpose(0, 1))
        self.filter_slices = paths.irreps_2.slices()
        self.linear = PathLinear(paths.irreps_mid, self.mul, irreps_out)

    def forward(
        self,
        features: Tensor,
        senders: Tensor,
        filter_fields: Tensor | SeparableFilter,
        blocks: ReceiverBlocks,
        num_nodes: int,
    ) -> Tensor:
        """Sum of K(h) x over the neighbours, (num_nodes, irreps_out.dim)."""
        count, width = blocks.slots.shape
        slots = blocks.slots.flatten()
        x = gather(to_components(features, self.blocks_in), pad_row(senders)[slots])  # (slots, m_in, C)
        if isinstance(filter_fields, SeparableFilter):
            mid = self._separable(x, filter_fields, slots, count, width)
        else:
            h = gather(pad_row(to_components(filter_fields, self.blocks_filter)), slots)
            products = (x[:, :, None] * h[:, None]).view(count, width, x.shape[1] * h.shape[1], self.mul).sum(1)
            mid = torch.matmul(self.coupling.flatten(0, 1).T, products)
        return self.linear(segment_sum(mid, blocks.receivers, num_nodes))

    def _separable(self, x: Tensor, filter: SeparableFilter, slots: Tensor, count: int, width: int) -> Tensor:  # noqa: A002
        Y, R = gather(pad_row(filter.harmonics), slots), gather(pad_row(filter.radial), slots)
        parts = []
        for f, s in enumerate(self.filter_slices):
            coupling = getattr(self, f"coupling_{f}")  # (m_h, m_in, (p, m_out))
            A = (Y[:, s] @ coupling.flatten(1)).view(count, width * coupling.shape[1], coupling.shape[2])
            B = (x * R[:, f, None]).view(count, width * coupling.shape[1], self.mul)
            parts.append(torch.bmm(A.transpose(1, 2), B))
        return torch.cat(parts, 1)[:, self.order]

    def matrix(self, filter_fields: Tensor) -> Tensor:
        """The kernel matrix of every edge, by the definition: (E, irreps_out.dim, irreps_in.dim)."""
        h = to_components(filter_fields, self.blocks_filter)
        parts: dict[tuple[str, int], Tensor] = {}
        rows = o3.Irreps([(1, ir) for _, ir in self.irreps_in]).slices()
        for (_, ir), weight, (start, paths) in zip(
            self.irreps_out, self.linear.weights, self.linear.spans, strict=True
        ):
            for i, s in enumerate(rows if paths else []):
                T = self.coupling[s, :, start : start + paths * ir.dim].unflatten(2, (paths, ir.dim))
                w = weight.view(paths, self.mul, -1) * (paths * self.mul) ** -0.5
                block = torch.einsum("ahpm,ehu,puv->evmua", T, h, w)
                key = (str(ir), i)
                parts[key] = torch.cat([parts[key], block], 1) if key in parts else block
        return assemble(parts, self.irreps_in, self.irreps_out, h.shape[0], filter_fields)
