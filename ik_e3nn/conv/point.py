"""The steerable point convolution."""

from typing import Literal

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.conv.depthwise import DepthwiseMixing
from ik_e3nn.conv.full import FullMixing
from ik_e3nn.conv.receivers import ReceiverBlocks
from ik_e3nn.kernels import Filter, Kernel, SeparableFilter, TiledFilter

Mode = Literal["full", "depthwise"]


class PointConv(nn.Module):
    r"""Send features along edges, multiplied by a kernel, and sum them at the receivers.

    .. math:: y_i = \frac{1}{\sqrt{\bar d}} \sum_{j} K(h_{ij}) \, x_j
                  = \frac{1}{\sqrt{\bar d}} \, L\Big( \sum_{j} x_j \otimes h_{ij} \Big)

    The kernel matrix is never built: L is one linear map over Clebsch-Gordan products, applied after the sum.

    * *full*: every channel of x is multiplied with every filter field, as in the paper.
    * *depthwise*: channel c of x is multiplied with field c; L then mixes the channels. All irreps of x and h need the
      same multiplicity.

    Args:
        irreps_in: Type of the node features x.
        irreps_out: Type of the result.
        kernel: The kernel, for the type of its filter fields and its group; it is not called here, so that several
            convolutions can share the fields.
        mode: "full" or "depthwise".
        num_neighbors: Mean number of neighbors d, for unit variance of the sum; values below 1 count as 1.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 3.4, eq. 5; for L behind the sum see ``matrix``.

    Example:
        >>> from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis
        >>> from ik_e3nn.kernels import ImplicitKernel
        >>> kernel = ImplicitKernel("", "16x0e + 16x1o", basis=RadialHarmonicBasis(BesselBasis(5.0), 1))
        >>> conv = PointConv("8x0e + 8x1o", "4x0e + 4x1o", kernel)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 0]])  # senders, receivers
        >>> conv(torch.randn(3, 32), edge_index, kernel.tiled(torch.randn(3, 3))).shape
        torch.Size([3, 16])
    """

    normalization: Tensor

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        kernel: Kernel,
        mode: Mode = "full",
        *,
        num_neighbors: float = 1.0,
    ) -> None:
        super().__init__()
        modes: dict[str, type[FullMixing] | type[DepthwiseMixing]] = {"full": FullMixing, "depthwise": DepthwiseMixing}
        if mode not in modes:
            raise ValueError(f"mode must be 'full' or 'depthwise'; got {mode!r}")
        if not 0 < num_neighbors < float("inf"):
            raise ValueError(f"num_neighbors must be positive and finite; got {num_neighbors}")
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        self.irreps_filter, self.group = kernel.irreps_filter, kernel.group
        self.mode = mode
        self.dim_in, self.dim_filter = self.irreps_in.dim, self.irreps_filter.dim
        self.mixing = modes[mode](self.irreps_in, self.irreps_filter, self.irreps_out, self.group)
        self.register_buffer("normalization", torch.tensor(max(float(num_neighbors), 1.0) ** -0.5))

    def forward(
        self,
        features: Tensor,
        edge_index: Tensor,
        filter_fields: Filter,
        *,
        num_nodes: int | None = None,
        blocks: ReceiverBlocks | None = None,
    ) -> Tensor:
        """Convolve.

        Args:
            features: x, (N, irreps_in.dim).
            edge_index: Sender and receiver of every edge, (2, E), in any order.
            filter_fields: h, (E, irreps_filter.dim), in factors, or as the kernel's ``tiled`` returns them: this is the
                fastest, unless several convolutions share the fields.
            num_nodes: Number of receiving nodes, by default N.
            blocks: Edges of edge_index grouped by receiver, if already computed.

        Returns:
            y, (num_nodes, irreps_out.dim); zero for nodes without edges.

        Raises:
            ValueError: Features or filter fields are not of the declared types.
        """
        self._check(features, edge_index, filter_fields)
        num_nodes = features.shape[0] if num_nodes is None else num_nodes
        if blocks is None:
            blocks = ReceiverBlocks.from_receivers(edge_index[1], num_nodes)
        return self.mixing(features, edge_index[0], filter_fields, blocks, num_nodes) * self.normalization

    def matrix(self, filter_fields: Filter) -> Tensor:
        """The kernel K of every edge as a matrix, (E, irreps_out.dim, irreps_in.dim), without the factor of the sum.

        It is computed by its definition, which is slow: for tests and for inspecting kernels.
        """
        return self.mixing.matrix(filter_fields)

    def _check(self, features: Tensor, edge_index: Tensor, filter_fields: Filter) -> None:
        if features.ndim != 2 or features.shape[1] != self.dim_in:
            raise ValueError(
                f"features must have shape (N, {self.dim_in}) for {self.irreps_in}; got {tuple(features.shape)}"
            )
        if edge_index.ndim != 2 or edge_index.shape[0] != 2:
            raise ValueError(f"edge_index must have shape (2, E); got {tuple(edge_index.shape)}")
        h = filter_fields.tiled() if isinstance(filter_fields, SeparableFilter) else filter_fields
        dim = h.dim if isinstance(h, TiledFilter) else h.shape[-1]
        for rows in h.rows if isinstance(h, TiledFilter) else (h,):
            if rows.ndim < 2 or rows.shape[0] != edge_index.shape[1] or dim != self.dim_filter:
                raise ValueError(
                    f"filter fields must have shape ({edge_index.shape[1]}, {self.dim_filter}): one row per edge, of "
                    f"{self.irreps_filter}; got {(*rows.shape[:-1], dim) if rows is h else (rows.shape[0], dim)}"
                )
