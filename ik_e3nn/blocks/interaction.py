"""One round of message passing with an implicit kernel."""

from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import BesselBasis, spherical_irreps
from ik_e3nn.blocks.anisotropy import EdgeInvariants, Factors, Twist
from ik_e3nn.blocks.embedding import Edges, TypeEmbedding
from ik_e3nn.conv import gather
from ik_e3nn.conv.depthwise import DepthwiseMixing
from ik_e3nn.kernels import RadialKernel, SeparableFilter
from ik_e3nn.nn import EquivariantLinear, SphereProduct, TensorPowers, normalized_sigmoid, normalized_silu
from ik_e3nn.nn.layout import from_components, layout, to_components
from ik_e3nn.symmetry import SymmetryGroup

NUM_RADIAL = 8  # Bessel functions
KERNEL_WIDTH = 64  # largest size of the hidden layer of the kernel's MLP; otherwise it is twice the channels


class Conditioning(NamedTuple):
    """Settings of kernels and products that all interactions share.

    Attributes:
        num_species: Number of species.
        num_bond_types: 5, or 0 if kernels do not depend on bonds.
        r_max: Cutoff (A).
        l_max: Largest degree of filters and of the features that are multiplied.
        group: The group of the layers, O(3) or SO(3).
        invariants: Scalars of edges by which kernels see a smaller group; None without them.
        twist: The smaller group, if convolved features are twisted.
    """

    num_species: int
    num_bond_types: int
    r_max: float
    l_max: int
    group: SymmetryGroup
    invariants: EdgeInvariants | None = None
    twist: SymmetryGroup | None = None


class Interaction(nn.Module):
    r"""One round of message passing: implicit kernel, steerable convolution, products for body order, gate, residual.

    .. math:: A_i &= \frac{1}{\bar d} \, c_{Z_i} \sum_j K(r_{ij}; Z_i, Z_j, b_{ij}, y_i, y_j, s_{ij}) \, L x_j \\
              B_i &= \textstyle\sum_{k=1}^{n} L_k A_i^{\otimes k} \\
              x_i' &= L x_i + \mathrm{gate}(B_i)

    The kernel is a :class:`RadialKernel`: it depends on the distance, the species of both atoms, the bond type b, the
    scalars of features y of both atoms, and, for groups other than O(3) and SO(3), scalars of the edge; see
    :mod:`ik_e3nn.blocks.anisotropy`. The products are taken on the sphere for O(3), and with all bilinear maps for
    SO(3).

    Args:
        irreps_in: Type of the node features x: the same number of channels of every harmonic up to some degree.
        irreps_out: Type of the new node features, of the same form.
        irreps_seen: Type of the features y that the kernel sees.
        conditioning: Settings of the kernel and the products.
        correlation: Number of factors n.
    """

    normalization: Tensor

    def __init__(
        self,
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        irreps_seen: o3.Irreps,
        *,
        conditioning: Conditioning,
        correlation: int,
    ) -> None:
        super().__init__()
        c, group = conditioning, conditioning.group
        channels = irreps_in[0].mul
        hidden = spherical_irreps(c.l_max, channels)
        self.kernel = make_kernel(channels, c)
        self.sender = EquivariantLinear(irreps_seen, self.kernel.irreps_hidden, group)
        self.receiver = EquivariantLinear(irreps_seen, self.kernel.irreps_hidden, group)
        self.sender_species = TypeEmbedding(c.num_species, self.kernel.irreps_hidden, group)
        self.receiver_species = TypeEmbedding(c.num_species, self.kernel.irreps_hidden, group)
        self.bonds = TypeEmbedding(c.num_bond_types, self.kernel.irreps_hidden, group) if c.num_bond_types else None
        self.up = EquivariantLinear(irreps_in, irreps_in, group)
        self.invariants = c.invariants
        self.twist = None if c.twist is None else Twist(hidden, c.twist)
        self.conv = DepthwiseMixing(irreps_in, self.kernel.irreps_filter, hidden, group)
        self.register_buffer("normalization", torch.tensor(1.0))
        self.species_scale = nn.Parameter(1 + 0.1 * torch.randn(c.l_max + 1, c.num_species, channels))
        self.product = make_product(hidden, irreps_out, group, correlation)
        self.gates = nn.Parameter(torch.randn(channels, irreps_out.lmax * channels)) if irreps_out.lmax else None
        self.skip = EquivariantLinear(irreps_in, irreps_out, group)
        self.blocks_in, self.blocks_out = layout(irreps_in), layout(irreps_out)

    def forward(
        self,
        features: Tensor,
        seen: Tensor,
        species: Tensor,
        edges: Edges,
        num_receivers: int | None = None,
        factors: Factors | None = None,
    ) -> Tensor:
        """New node features.

        Args:
            features: Node features x, (N, irreps_in.dim).
            seen: Features y that the kernel sees, (N, irreps_seen.dim).
            species: Species indices, (N,).
            edges: All edges.
            num_receivers: R, if only the first R atoms receive and the others only send; by default R = N.
            factors: Factors of atoms, for groups other than O(3) and SO(3).

        Returns:
            (R, irreps_out.dim).
        """
        x = to_components(features, self.blocks_in)
        senders, receivers = self.ends(seen, species, num_receivers, factors)
        up, scale = self.up.on_components(x), self.species_scale.index_select(1, first(species, num_receivers))
        if self.twist is not None and factors is not None and factors.twist is not None:
            scale = torch.cat([scale, first(factors.twist, num_receivers)[None]])
        message = self.messages(up, senders, receivers, scale, edges)
        kept = x if num_receivers is None else x[:, :num_receivers]
        return from_components(self.skip.on_components(kept) + self.gated(message), self.blocks_out)

    def messages(self, x: Tensor, senders: Tensor, receivers: Tensor, scale: Tensor, edges: Edges) -> Tensor:
        """Products B of some receivers from all senders.

        Args:
            x: Features to send, components first, (M, N, C).
            senders: Contributions of senders to the kernel, (N, hidden), see ``ends``.
            receivers: Contributions of receivers, (R, hidden).
            scale: Factor of every degree and channel of A, (l_max+1, R, C); and in another row that of its twist.
            edges: Edges of these receivers.

        Returns:
            B, components first, (M_out, R, C).
        """
        filter_fields = self.filter_fields(senders, receivers, edges)
        A = self.conv.on_components(x, edges.senders, filter_fields, edges.owners, receivers.shape[0])
        scales = (scale[: len(A)] * self.normalization).unbind()
        message = torch.cat([a * s for a, s in zip(A, scales, strict=True)])
        if self.twist is not None:
            message = self.twist(message, scale[-1])
        return self.product.on_components(message)

    def ends(
        self, seen: Tensor, species: Tensor, num_receivers: int | None = None, factors: Factors | None = None
    ) -> tuple[Tensor, Tensor]:
        """Contributions to the kernel, of senders (N, hidden) and of receivers (R, hidden).

        They are contributions to its hidden layer and, side by side with them, factors of the scalars of edges.
        """
        senders = self.sender(seen) + self.sender_species().index_select(0, species)
        seen, species = first(seen, num_receivers), first(species, num_receivers)
        receivers = self.receiver(seen) + self.receiver_species().index_select(0, species)
        if self.invariants is not None and factors is not None:
            senders = torch.cat([senders, factors.edges], 1)
            receivers = torch.cat([receivers, first(factors.edges, num_receivers)], 1)
        return senders, receivers

    def geometry(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """What kernels need of edge vectors (E, 3): the geometry of the kernel, and the scalars of edges, if any."""
        invariants = () if self.invariants is None else (self.invariants(vectors),)
        return *self.kernel.geometry(vectors), *invariants

    def filter_fields(self, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor | SeparableFilter:
        """Filter fields of all edges from the contributions of senders (N, hidden) and receivers (R, hidden)."""
        s = gather(senders, edges.senders.flatten()).view(*edges.senders.shape, senders.shape[1])
        both = (s + gather(receivers, edges.owners)[:, None]).flatten(0, 1)
        geometry = self.geometry(edges.vectors.flatten(0, 1)) if edges.geometry is None else edges.geometry
        attributes = None
        if self.invariants is not None:
            geometry, invariants = geometry[:-1], geometry[-1]
            both, factors = both.split([both.shape[1] - invariants.shape[1], invariants.shape[1]], 1)
            attributes = factors * invariants
        hidden = both * 0.5  # four terms of unit variance
        if self.bonds is not None and edges.bonds is not None:
            hidden = (hidden + self.bonds().index_select(0, edges.bonds.flatten())) * 0.5**0.5
        return self.kernel.from_geometry(geometry, attributes, hidden=hidden)

    def gated(self, message: Tensor) -> Tensor:
        """Apply SiLU to scalars and multiply other degrees by sigmoids of mixed scalars, (M, N, C) to the same."""
        scalars, *others = message.split([b.dim for b in self.blocks_out])
        parts = [normalized_silu(scalars)]
        if self.gates is not None:
            gates = normalized_sigmoid(scalars @ (self.gates * self.gates.shape[0] ** -0.5))
            parts += [m * g for m, g in zip(others, gates.split(message.shape[2], 2), strict=True)]
        return torch.cat(parts)


def first(rows: Tensor, number: int | None) -> Tensor:
    """The first rows of a tensor; all of them, without another operation, if the number is None."""
    return rows if number is None else rows[:number]


def make_product(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup, correlation: int
) -> SphereProduct | TensorPowers:
    """The sum of powers: on the sphere for O(3), which has no other couplings; with all couplings for SO(3)."""
    if group == SymmetryGroup("O3"):
        return SphereProduct(irreps_in, irreps_out, correlation=correlation)
    return TensorPowers(irreps_in, irreps_out, group, correlation=correlation)


def make_kernel(channels: int, conditioning: Conditioning) -> RadialKernel:
    """The kernel of an interaction, with the scalars of edges as attributes."""
    invariants = conditioning.invariants
    return RadialKernel(
        o3.Irreps([(0 if invariants is None else invariants.number, "0e")]),
        channels,
        radial=BesselBasis(conditioning.r_max, NUM_RADIAL),
        l_max=conditioning.l_max,
        hidden=(min(KERNEL_WIDTH, 2 * channels),),
        group=conditioning.group,
    )
