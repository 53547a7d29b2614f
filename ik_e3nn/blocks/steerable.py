"""The network of the paper up to its pooling: residual steerable convolutions with implicit kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import BesselBasis, BondBasis, RadialHarmonicBasis, spherical_irreps
from ik_e3nn.basis.edge import EdgeBasis, PolynomialBasis
from ik_e3nn.blocks.steerable_settings import Norm, SteerableSettings
from ik_e3nn.constants import ExactModule
from ik_e3nn.conv import PointConv, ReceiverBlocks
from ik_e3nn.conv.receivers import WIDTH
from ik_e3nn.graph import BOND_NAMES
from ik_e3nn.graph.neighbors.coordination import checked_number
from ik_e3nn.kernels import ImplicitKernel, Kernel, RadialKernel
from ik_e3nn.nn import (
    EquivariantBatchNorm,
    EquivariantLayerNorm,
    EquivariantLinear,
    SelfTensorProduct,
    SphereActivation,
)
from ik_e3nn.nn.mlp import nonlinearity

NUM_RADIAL = 8  # Bessel functions, if there is a cutoff
RADIAL_HIDDEN = 64  # size of the hidden layers of a radial kernel
BOND_WIDTH = 4  # edges per block: few atoms have more bonds
NORMS: dict[Norm, Callable[[o3.Irreps], nn.Module]] = {
    "none": lambda _: nn.Identity(), "batch": EquivariantBatchNorm, "node": EquivariantLayerNorm,
}  # fmt: skip


class SteerableLayer(nn.Module):
    r"""A residual steerable convolution.

    .. math:: x_i' = \tfrac{1}{\sqrt 2} \Big( x_i + \sigma\big( \nu \big( \tfrac{1}{\sqrt 2} ( L x_i
              + \sum_j K(r_{ij}, a_{ij}) \, x_j ) \big) \big) \Big)

    with a nonlinearity :math:`\sigma`, a normalization :math:`\nu` and an implicit kernel K, whose attributes a may
    include the features of both atoms.

    Args:
        irreps_in: Type of the features.
        kernel: The kernel K.
        settings: Sizes of the network.
    """

    def __init__(self, irreps_in: o3.Irreps, kernel: Kernel, settings: SteerableSettings) -> None:
        super().__init__()
        irreps_out = spherical_irreps(settings.l_max, settings.channels)
        self.kernel = kernel
        self.activation, wanted = nonlinearity(
            irreps_out, kernel.group, settings.activation, settings.grid(settings.l_max)
        )
        self.conv = PointConv(irreps_in, wanted, kernel, settings.mode)
        self.skip = EquivariantLinear(irreps_in, wanted, bias=True)
        self.norm = NORMS[settings.norm](wanted)
        ends = [
            EquivariantLinear(irreps_in, kernel.irreps_hidden) for _ in range(2 * ("features" in settings.conditions))
        ]
        self.ends = nn.ModuleList(ends)  # contributions of senders and receivers to the kernel
        self.missing = irreps_out.dim - irreps_in.dim  # features begin as scalars

    def forward(
        self,
        x: Tensor,
        geometry: tuple[Tensor, ...],
        attributes: Tensor | None,
        edge_index: Tensor,
        blocks: ReceiverBlocks,
    ) -> Tensor:
        """New features (N, irreps_out.dim).

        Args:
            x: Features, (N, irreps_in.dim).
            geometry: The result of the kernel's ``geometry`` for the edge vectors.
            attributes: Attributes of edges, (E, irreps_attributes.dim of the kernel).
            edge_index: Senders and receivers, (2, E).
            blocks: The edges grouped by receiver.
        """
        parts = [end(x).index_select(0, index) for end, index in zip(self.ends, edge_index, strict=False)]
        hidden = sum(parts) * 0.5**0.5 if parts else None
        message = self.conv(x, edge_index, self.kernel.from_geometry(geometry, attributes, hidden), blocks=blocks)
        y = self.activation(self.norm((self.skip(x) + message) * 0.5**0.5))
        return (nn.functional.pad(x, (0, self.missing)) + y) * 0.5**0.5


class SteerableNetwork(ExactModule):
    """An embedding and residual steerable convolutions.

    The embedding is a linear layer on the one-hot species, a learnable product of the result with itself, and the
    nonlinearity. It has scalars only, because products of scalars are scalars; the first convolution adds the higher
    degrees.

    Args:
        num_species: Number of species.
        settings: Sizes of the network, and inputs of its kernels.
        r_max: Cutoff in A: kernels are Bessel functions times harmonics and end smoothly there. With None, for graphs
            of bonds, kernels are those of the paper, polynomials times a Gaussian window, or have the windows of the
            settings.

    Reference:
        Zhdanov et al., NeurIPS 2023, appendix B.

    Example:
        >>> network = SteerableNetwork(5, SteerableSettings(channels=4, num_layers=2), None)
        >>> edges = torch.tensor([[0, 1], [1, 0]])
        >>> network(torch.tensor([0, 2]), edges, torch.randn(2, 3), torch.tensor([1, 1])).shape
        torch.Size([2, 36])
    """

    types: Tensor
    bond_types: Tensor

    def __init__(self, num_species: int, settings: SteerableSettings, r_max: float | None) -> None:
        super().__init__()
        s = self.settings = settings
        scalars = o3.Irreps([(s.channels, "0e")])
        self.width = BOND_WIDTH if r_max is None else WIDTH
        self.irreps_out = spherical_irreps(s.l_max, s.channels)
        self.register_exact("types", num_species**0.5 * torch.eye(num_species, dtype=torch.float64))
        self.register_exact("bond_types", len(BOND_NAMES) ** 0.5 * torch.eye(len(BOND_NAMES), dtype=torch.float64))
        self.embedding = nn.Sequential(
            EquivariantLinear(o3.Irreps([(num_species, "0e")]), scalars, bias=True),
            SelfTensorProduct(scalars, scalars),
            SphereActivation(s.channels, 0),  # exact for constants
        )
        sizes = {"bonds": len(BOND_NAMES), "species": 2 * num_species, "features": 0}
        attributes = o3.Irreps([(sum(sizes[name] for name in s.conditions), "0e")] if s.conditions else [])
        types = [scalars] + [self.irreps_out] * (s.num_layers - 1)
        layers = [SteerableLayer(irreps, _kernel(attributes, s, r_max), s) for irreps in types]
        self.layers = nn.ModuleList(layers)

    def forward(self, species: Tensor, edge_index: Tensor, vectors: Tensor, bonds: Tensor | None = None) -> Tensor:
        """Features (N, irreps_out.dim).

        Args:
            species: Species indices, (N,).
            edge_index: Senders and receivers, (2, E).
            vectors: Edge vectors, (E, 3), in A.
            bonds: Bond types, (E,), if kernels depend on them.
        """
        types = self.types.index_select(0, species)
        blocks = ReceiverBlocks.from_receivers(edge_index[1], species.shape[0], self.width)
        parts = []
        if "bonds" in self.settings.conditions and bonds is not None:
            parts.append(self.bond_types.index_select(0, bonds))
        if "species" in self.settings.conditions:
            parts += [types.index_select(0, edge_index[0]), types.index_select(0, edge_index[1])]
        attributes = torch.cat(parts, 1) if parts else None
        x: Tensor = self.embedding(types)
        shared: tuple[Tensor, ...] | None = None
        for layer in self.layers:
            kernel = cast(SteerableLayer, layer).kernel
            if shared is None or not self.settings.windows:  # windows of the paper are learned, by each layer its own
                shared = kernel.geometry(vectors)
            x = layer(x, shared, attributes, edge_index, blocks)
        return x

    def set_average_neighbors(self, number: float) -> None:
        """Set the mean number of neighbors; sums over neighbors are divided by its root. Values below 1 count as 1.

        Raises:
            ValueError: The number is not positive and finite.
        """
        divisor = checked_number(number)
        for layer in self.layers:
            cast(SteerableLayer, layer).conv.normalization.fill_(divisor**-0.5)


def _kernel(attributes: o3.Irreps, s: SteerableSettings, r_max: float | None) -> Kernel:
    l_max = s.filter_degree
    fields = s.channels if s.mode == "depthwise" else s.kernel_fields
    if s.windows:
        radial = BondBasis(s.windows) if r_max is None else BesselBasis(r_max, s.windows)
        hidden = [RADIAL_HIDDEN] * s.kernel_depth
        return RadialKernel(attributes, fields, radial=radial, l_max=l_max, hidden=hidden)
    basis: EdgeBasis = PolynomialBasis(l_max, sigma=s.shell)
    if r_max is not None:
        basis = RadialHarmonicBasis(BesselBasis(r_max, NUM_RADIAL), l_max)
    return ImplicitKernel(
        attributes,
        spherical_irreps(l_max, fields),
        basis=basis,
        depth=s.kernel_depth,
        activation=s.activation,
        grid_degree=s.grid(l_max),
        batch_norm=s.batch_norm and s.kernel_depth > 0,  # it would remove the scalar part of a linear kernel
    )
