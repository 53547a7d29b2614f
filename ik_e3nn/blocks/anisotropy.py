r"""Potentials of every group on layers of O(3), which see tensors that the group leaves invariant.

A closed subgroup G is the stabilizer of some tensors t. A G-equivariant map f(x) is then F(x, t) with an
O(3)-equivariant F, so that layers of O(3) serve every group if they see t. They see it as scalars of edges,

.. math:: s_{ij} = \langle t, Y_l(r_{ij}/|r_{ij}|) \rangle \, (g_i + g_j), \qquad t \in \mathrm{Inv}_G(l, (-1)^l)

which are further inputs of the radial kernel, and through features of atoms. The factors g of atoms depend on their
positions in surroundings and vanish far away from them, where the potential is isotropic.

Groups that distinguish the sense of rotation about an axis but no direction across it ("SO2", "Cinfh") have no such
scalars of natural parity, (-1)^l. There, the convolved features are twisted, see :class:`Twist`. Some groups of
rotations ("D6", "O", "I") are determined sooner by tensors among rotations, and have layers of SO(3).
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import Harmonics, distances
from ik_e3nn.blocks.surroundings import PlaceEmbedding, Surroundings
from ik_e3nn.constants import ExactModule
from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.stabilizer import is_determined_by
from ik_e3nn.symmetry.wigner import rotation_generators

O3, SO3 = SymmetryGroup("O3"), SymmetryGroup("SO3")
AXIAL = (1, 1)  # degree and parity of the vector that a sense of rotation defines
USUAL_DEGREE, LARGEST_DEGREE = 6, 9


class Tensors(NamedTuple):
    """How layers see a group.

    Attributes:
        layers: The group of the layers, O(3) or SO(3).
        degree: Largest degree of the invariant tensors that are scalars of edges; 0 for none.
        twist: Whether convolved features are twisted.
    """

    layers: SymmetryGroup
    degree: int = 0
    twist: bool = False


@functools.cache
def tensors_of(group: SymmetryGroup) -> Tensors:
    """The invariant tensors by which layers see a group: the lowest degrees whose joint stabilizer is the group.

    Args:
        group: The group.

    Raises:
        ValueError: No tensors up to degree 9 determine it.

    Example:
        >>> tensors_of(SymmetryGroup("C4v")).degree, tensors_of(SymmetryGroup("SO2")).twist
        (4, True)
    """
    if group.is_isotropic:
        return Tensors(group)
    for tensors in _choices(group):
        irreps = tuple((l, (-1) ** l) for l in range(1, tensors.degree + 1))
        if tensors.twist:
            irreps += (AXIAL,)
        if is_determined_by(group, irreps, proper=tensors.layers == SO3):
            return tensors
    raise ValueError(
        f"the group {group.name} is not determined by its invariant tensors up to degree {LARGEST_DEGREE}; for a "
        "potential choose a group with axes of order at most 9"
    )


def _choices(group: SymmetryGroup) -> Iterator[Tensors]:
    """Tensors to try, from the cheapest ones."""
    degrees = [l for l in range(1, LARGEST_DEGREE + 1) if len(group.invariants(l, (-1) ** l))]
    usual = [l for l in degrees if l <= USUAL_DEGREE]
    yield from (Tensors(O3, l) for l in usual)
    if len(group.invariants(*AXIAL)):
        yield from (Tensors(O3, l, twist=True) for l in [0, *usual])
    if all(torch.linalg.det(g) > 0 for g in group.generators):
        yield from (Tensors(SO3, l) for l in degrees)
    yield from (Tensors(O3, l) for l in degrees if l > USUAL_DEGREE)


class EdgeInvariants(ExactModule):
    r"""Scalars :math:`\langle t, Y_l(r/|r|) \rangle` of edges, for all invariant tensors of natural parity.

    Args:
        group: The group G.
        degree: Largest degree.

    Attributes:
        number: Number of the scalars n; their mean square over all directions is 1.

    Example:
        A mirror across y leaves x and z unchanged:

        >>> EdgeInvariants(SymmetryGroup("C1v"), 1)(torch.tensor([[3.0, 4.0, 0.0]]))
        tensor([[1.0392, 0.0000]])
    """

    tensors: Tensor

    def __init__(self, group: SymmetryGroup, degree: int) -> None:
        super().__init__()
        self.harmonics = Harmonics(degree)
        parts = [group.invariants(l, (-1) ** l).T for l in range(1, degree + 1)]
        tensors = torch.block_diag(torch.zeros(1, 0, dtype=torch.float64), *parts)
        self.number = tensors.shape[1]
        self.register_exact("tensors", tensors)

    def forward(self, vectors: Tensor) -> Tensor:
        """Scalars (E, n) of edge vectors (E, 3)."""
        lengths = distances(vectors)
        return self.harmonics(vectors / torch.where(lengths == 0, 1.0, lengths)) @ self.tensors


class Twist(ExactModule):
    r"""Add features that are turned about an axis, which breaks the mirrors that contain the axis.

    .. math:: A_i' = A_i + \gamma_i \, L \frac{X}{\sqrt{l(l+1)/3}} A_i

    X is the generator of turns about the axis, which is an axial vector, and L a linear map of channels.

    Args:
        irreps: Type of A: the same number of channels of every harmonic up to some degree.
        group: A group that leaves one axial vector unchanged.

    Example:
        Vectors are turned by 90 degrees about z and mixed; factors of zero leave them unchanged:

        >>> twist = Twist(o3.Irreps("1x0e + 1x1o"), SymmetryGroup("SO2"))
        >>> A = torch.tensor([0.5, 1.0, 0.0, 2.0]).view(4, 1, 1)  # a scalar and a vector (x, y, z)
        >>> turned = twist(A, torch.ones(1, 1)) - A
        >>> bool(turned[0] == 0), bool(turned[1].abs() < 1e-6), bool(turned[3] == 0)
        (True, True, True)
        >>> torch.equal(twist(A, torch.zeros(1, 1)), A)
        True
    """

    turn: Tensor

    def __init__(self, irreps: o3.Irreps, group: SymmetryGroup) -> None:
        super().__init__()
        axis = group.invariants(*AXIAL)[0]
        parts = [torch.zeros(1, 1, dtype=torch.float64)]
        for l in range(1, irreps.lmax + 1):
            parts.append(torch.einsum("k,kij->ij", axis, rotation_generators(l)) * (l * (l + 1) / 3) ** -0.5)
        self.register_exact("turn", torch.block_diag(*parts))
        self.linear = EquivariantLinear(irreps, irreps, O3)

    def forward(self, A: Tensor, factors: Tensor) -> Tensor:
        """New features from A, components first, (M, N, C), and factors (N, C)."""
        turned = (self.turn @ A.flatten(1)).view(A.shape)
        mixed: Tensor = self.linear.on_components(turned)
        return A + mixed * factors


class Factors(NamedTuple):
    """Factors of atoms.

    Attributes:
        edges: g for every scalar of edges, (N, n).
        twist: Factors of every channel of twisted features, (N, channels); None without them.
    """

    edges: Tensor
    twist: Tensor | None

    def of(self, atoms: Tensor | slice) -> "Factors":
        """Those of some atoms."""
        return Factors(self.edges[atoms], None if self.twist is None else self.twist[atoms])


class AtomFactors(nn.Module):
    """Factors of the scalars of edges and of twisted features, for every atom.

    In surroundings they depend on the position, are zero at first, and vanish far away. Otherwise they depend on the
    species alone.

    Args:
        num_species: Number of species.
        number: Number of the scalars of edges.
        channels: Channels of twisted features; 0 without them.
        reach: Distance in A from the surroundings at which the factors vanish.
        surroundings: The surroundings; None without them.
        degree: Largest degree of functions of positions beside a site or a wire.

    Example:
        >>> factors = AtomFactors(2, 3, 0, reach=5.0, surroundings=None, degree=1)
        >>> factors(torch.tensor([0, 1, 1]), None).edges.shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        num_species: int,
        number: int,
        channels: int,
        *,
        reach: float,
        surroundings: Surroundings | None,
        degree: int,
    ) -> None:
        super().__init__()
        self.number, self.channels = number, channels
        irreps = o3.Irreps([(number + channels, "0e")])
        self.places, self.species = None, None
        if surroundings is None:
            self.species = nn.Parameter(torch.randn(num_species, irreps.dim) * 0.5**0.5)
        else:
            self.places = PlaceEmbedding(num_species, irreps, reach=reach, surroundings=surroundings, degree=degree)

    def forward(self, species: Tensor, places: Tensor | None) -> Factors:
        """Factors of atoms with species indices (N,), at positions (N, 3) in the surroundings."""
        if self.species is not None:
            rows = self.species.index_select(0, species)
        else:
            rows = self.places(places, species)  # type: ignore[misc]
        edges, twist = rows.split([self.number, self.channels], 1)
        return Factors(edges, twist if self.channels else None)
