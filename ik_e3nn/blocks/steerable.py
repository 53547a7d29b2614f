"""The network of the paper up to its pooling: residual steerable convolutions with implicit kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import BesselBasis, BondBasis, RadialHarmonicBasis, spherical_irreps
from ik_e3nn.basis.edge import EdgeBasis, PolynomialBasis
from ik_e3nn.constants import ExactModule
from ik_e3nn.conv import PointConv, ReceiverBlocks
from ik_e3nn.conv.point import Mode
from ik_e3nn.conv.receivers import WIDTH
from ik_e3nn.errors import ConfigError
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
from ik_e3nn.nn.mlp import Activation, nonlinearity

NUM_RADIAL = 8  # Bessel functions, if there is a cutoff
RADIAL_HIDDEN = 64  # size of the hidden layers of a radial kernel
BOND_WIDTH = 4  # edges per block: few atoms have more bonds
CONDITIONS = ("bonds", "species", "features")
Norm = Literal["none", "batch", "node"]
NORMS: dict[str, Callable[[o3.Irreps], nn.Module]] = {
    "none": lambda _: nn.Identity(), "batch": EquivariantBatchNorm, "node": EquivariantLayerNorm,
}  # fmt: skip


@dataclass(frozen=True)
class SteerableSettings:
    """Sizes of the network, and inputs of its kernels.

    Args:
        channels: Number of fields of every degree.
        num_layers: Number of steerable convolutions.
        l_max: Largest degree of features.
        kernel_depth: Number of hidden layers of the kernel's MLP. 0 is the standard steerable kernel: harmonics times a
            window.
        kernel_fields: Number of fields of every degree in that MLP; in mode "depthwise" it is ``channels``.
        conditions: Inputs of kernels beside the relative position: "bonds" (bond types), "species" (of both atoms),
            "features" (of both atoms; only their scalars enter a radial kernel).
        mode: "full" mixes every channel with every field of the kernel, as in the paper; "depthwise" pairs them.
        batch_norm: Normalize the harmonics of relative positions over the batch, as in the paper.
        activation: Nonlinearity in kernels and between convolutions. With "gate" and "product" the network is exactly
            equivariant; with "sphere", used in the paper, only as far as the grids allow: see ``grid_degree``.
        grid_degree: Degree of the grids of the sphere activation; by default 8 l_max + 3, in kernels 8 l_filter + 3. For
            new networks with l_max = 2, the error of dipoles under rotations is 19 % of their length with degree 7,
            4.8 % with 11, 1.6 % with 15, 0.8 % with the default, 19, and 0.5 % with 23 (medians). Inference takes 15 %
            more time with 15 than with 7, 35 % more with 19, and 65 % more with 23.
        l_filter: Largest degree of filters; by default ``l_max``. Filters up to 2 l_max couple features in all ways.
        windows: Number of Gaussians of the distance, on the scale of bonds; see ``BondBasis``. Kernels are radial then:
            harmonics times an MLP of the windows and of the conditions. With a cutoff it is the number of Bessel
            functions. 0 is for the kernels of the paper.
        shell: Initial width (A) of the Gaussian window of the paper's kernels, for graphs of bonds only.
        norm: Normalization after every convolution: "batch" as in the paper, "node" (of the features of an atom), or
            "none".
    """

    channels: int = 24
    num_layers: int = 4
    l_max: int = 2
    kernel_depth: int = 2
    kernel_fields: int = 16
    conditions: tuple[str, ...] = ("bonds", "species")
    mode: Mode = "full"
    batch_norm: bool = True
    activation: Activation = "gate"
    grid_degree: int | None = None
    l_filter: int | None = None
    windows: int = 0
    shell: float = 2.0
    norm: Norm = "none"

    def __post_init__(self) -> None:
        for name, least in (
            ("channels", 1),
            ("num_layers", 1),
            ("l_max", 0),
            ("kernel_depth", 0),
            ("kernel_fields", 1),
            ("windows", 0),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if self.windows == 1:
            raise ConfigError("windows must be 0, for kernels of the paper, or at least 2; got 1")
        if not self.shell > 0:
            raise ConfigError(f"shell must be positive; got {self.shell}")
        if self.norm not in get_args(Norm):
            raise ConfigError(f"norm must be one of {', '.join(get_args(Norm))}; got {self.norm!r}")
        if self.l_filter is not None and self.l_filter < 0:
            raise ConfigError(f"l_filter must be at least 0; got {self.l_filter}")
        if self.activation not in get_args(Activation):
            raise ConfigError(f"activation must be one of {', '.join(get_args(Activation))}; got {self.activation!r}")
        if self.grid_degree is not None and self.activation != "sphere":
            raise ConfigError(
                f"grid_degree sets the grid of the sphere activation and has no effect on {self.activation!r}: leave "
                "it out, or set activation: sphere"
            )
        largest = max(self.l_max, self.filter_degree)
        if self.grid_degree is not None and self.grid_degree < 2 * largest:
            name = "l_max" if largest == self.l_max else "l_filter"
            raise ConfigError(f"grid_degree must be at least 2 {name} = {2 * largest}; got {self.grid_degree}")
        unknown = sorted(set(self.conditions) - set(CONDITIONS))
        if unknown:
            raise ConfigError(f"conditions must be some of {', '.join(CONDITIONS)}; got {', '.join(unknown)}")
        if self.conditions and not self.kernel_depth:
            raise ConfigError(
                "a standard steerable kernel (kernel_depth 0) is linear and depends on the relative position only; got "
                f"conditions {list(self.conditions)}: set kernel_depth to 1 or more, or give no conditions"
            )

    @property
    def filter_degree(self) -> int:
        """Largest degree of filters."""
        return self.l_max if self.l_filter is None else self.l_filter

    def grid(self, l_max: int) -> int | None:
        """Degree of the grid for fields up to l_max; None without the sphere activation.

        At the default, 8 l_max + 3, the error of one activation is below 0.1 %, and that of dipoles below 1 %.
        """
        if self.activation != "sphere":
            return None
        return 8 * l_max + 3 if self.grid_degree is None else self.grid_degree


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
            of bonds, kernels are those of the paper, polynomials times a Gaussian window.

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
        kernels = [_kernel(attributes, s, r_max) for _ in range(s.num_layers)]
        layers = [SteerableLayer(self.irreps_out if n else scalars, kernel, s) for n, kernel in enumerate(kernels)]
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
            kernel = cast(Kernel, cast(SteerableLayer, layer).kernel)
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
