"""One round of message passing with an implicit kernel."""

from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis, spherical_irreps
from ik_e3nn.blocks.embedding import EdgeContext
from ik_e3nn.conv import PointConv, gather
from ik_e3nn.kernels import ImplicitKernel, Kernel, RadialKernel, SeparableFilter
from ik_e3nn.nn import EquivariantLinear, Gate, SelfTensorProduct, TensorProduct
from ik_e3nn.symmetry import SymmetryGroup

NUM_RADIAL = 8  # Bessel functions
KERNEL_WIDTH = 64  # hidden layer of the kernel's MLP
SCALARS_PER_NODE = 16  # scalars of either atom that a kernel sees


class Conditioning(NamedTuple):
    """What kernels and products are conditioned on, the same in every interaction.

    Attributes:
        num_species: Number of species.
        num_bond_types: 5, or 0 if kernels do not see bonds.
        r_max: Cutoff (A).
        l_max: Largest degree of filters and features.
        group: The symmetry group.
    """

    num_species: int
    num_bond_types: int
    r_max: float
    l_max: int
    group: SymmetryGroup


class Interaction(nn.Module):
    r"""Implicit kernel, steerable convolution, products for body order, gate, residual.

    .. math:: A_i &= \frac{1}{\bar d} \sum_j K\big(r_{ij}; Z_i, Z_j, b_{ij}, s_i, s_j\big) \, L x_j \\
              B_i &= A_i \oplus (A_i \otimes A_i) \oplus \dots \\
              x_i' &= L_{Z_i} x_i + \mathrm{gate}(L B_i)

    The kernel sees the distance, the species of both atoms, the bond type b and scalars s made from both atoms'
    features. For O(3) and SO(3) it is a :class:`RadialKernel`, which is exact there; for smaller groups an
    :class:`ImplicitKernel` with gates.

    Args:
        irreps_in: Type of the node features; one multiplicity for all irreps.
        irreps_out: Type of the new node features.
        conditioning: What the kernel sees.
        correlation: Number of factors of A in B, 1 to 3.

    Raises:
        ValueError: The correlation is not 1, 2 or 3.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, *, conditioning: Conditioning, correlation: int
    ) -> None:
        super().__init__()
        if correlation not in (1, 2, 3):
            raise ValueError(f"correlation must be 1, 2 or 3; got {correlation}")
        c, group = conditioning, conditioning.group
        channels = irreps_in[0].mul
        hidden = spherical_irreps(c.l_max, channels)
        scalars = o3.Irreps([(SCALARS_PER_NODE, "0e")])
        self.sender_scalars = EquivariantLinear(irreps_in, scalars, group)
        self.receiver_scalars = EquivariantLinear(irreps_in, scalars, group)
        self.sender_species = nn.Parameter(torch.randn(c.num_species, SCALARS_PER_NODE))
        self.receiver_species = nn.Parameter(torch.randn(c.num_species, SCALARS_PER_NODE))
        self.kernel = make_kernel(2 * SCALARS_PER_NODE + c.num_bond_types, channels, c)
        self.up = EquivariantLinear(irreps_in, irreps_in, group)
        self.conv = PointConv(irreps_in, hidden, self.kernel, "depthwise")
        self.species_scale = nn.Parameter(1 + 0.1 * torch.randn(c.num_species, (c.l_max + 1) * channels))
        self.gate = Gate(irreps_out)
        self.linear = EquivariantLinear(hidden, self.gate.irreps_in, group)
        self.square = SelfTensorProduct(hidden, hidden, group) if correlation >= 2 else None
        self.linear_square = EquivariantLinear(hidden, self.gate.irreps_in, group) if correlation >= 2 else None
        self.cube = TensorProduct(hidden, hidden, self.gate.irreps_in, group) if correlation >= 3 else None
        self.skip = EquivariantLinear(irreps_in, irreps_out, group)
        self.norm = correlation**-0.5
        self.degrees = [(2 * l + 1, channels) for l in range(c.l_max + 1)]

    def forward(self, features: Tensor, species: Tensor, edges: EdgeContext) -> Tensor:
        """New node features (N, irreps_out.dim) from (N, irreps_in.dim)."""
        filters = self.filter_fields(features, species, edges)
        A = self.conv(self.up(features), edges.edge_index, filters, blocks=edges.blocks)
        A = self.scaled_by_species(A, species)
        message = self.linear(A)
        if self.square is not None and self.linear_square is not None:
            AA = self.square(A)
            message = message + self.linear_square(AA)
            if self.cube is not None:
                message = message + self.cube(AA, A)
        return self.skip(features) + self.gate(message * self.norm)

    def filter_fields(self, features: Tensor, species: Tensor, edges: EdgeContext) -> Tensor | SeparableFilter:
        """Filter fields of all edges: the kernel of geometry, species, bonds and node scalars."""
        s = self.sender_scalars(features) + self.sender_species.index_select(0, species)
        r = self.receiver_scalars(features) + self.receiver_species.index_select(0, species)
        attributes = torch.cat([gather(s, edges.edge_index[0]), gather(r, edges.edge_index[1]), edges.bonds], 1)
        if isinstance(self.kernel, RadialKernel):
            return self.kernel.from_lengths(edges.lengths, edges.harmonics, attributes)
        fields: Tensor = self.kernel(edges.vectors, attributes)
        return fields

    def scaled_by_species(self, A: Tensor, species: Tensor) -> Tensor:
        """Multiply every channel of every degree by a number of the receiver's species."""
        scale = self.species_scale.index_select(0, species)
        scale = torch.cat(
            [
                s.repeat_interleave(d, 1)
                for s, (d, _) in zip(scale.split([c for _, c in self.degrees], 1), self.degrees, strict=True)
            ],
            1,
        )
        return A * scale


def make_kernel(attributes: int, channels: int, conditioning: Conditioning) -> Kernel:
    """The kernel of an interaction: radial where that is exact, implicit for smaller groups."""
    radial = BesselBasis(conditioning.r_max, NUM_RADIAL)
    l_max, group = conditioning.l_max, conditioning.group
    if group.is_isotropic:
        return RadialKernel(attributes, channels, radial=radial, l_max=l_max, hidden=(KERNEL_WIDTH,), group=group)
    return ImplicitKernel(
        o3.Irreps([(attributes, "0e")]),
        spherical_irreps(l_max, channels),
        group,
        basis=RadialHarmonicBasis(radial, l_max),
        depth=2,
        activation="gate",
    )
