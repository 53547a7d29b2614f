"""Readouts of properties of whole molecules, dimensionless: one class a kind of property, for several at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.blocks.property_scale import Molecules
from ik_e3nn.constants import ExactModule
from ik_e3nn.nn import EquivariantLinear, ScalarMLP, normalized_silu

POOLED = 128  # hidden size of the MLP behind the pooling, as in the paper
TYPICAL_ATOMS = 18.0  # sums over atoms are divided by its root
TYPICAL_SQUARE = 6.0  # |r - R|^2 in A^2
FAINT = 0.1  # last weights of vectors at the start: the length of a zero vector has no gradient


class Atomwise(NamedTuple):
    """What a body says of every atom.

    Attributes:
        features: Steerable features, (N, irreps.dim).
        scalars: Invariants made of them, (N, hidden).
    """

    features: Tensor
    scalars: Tensor


class Head(ExactModule, ABC):
    """Readouts of ``count`` properties of one kind.

    Args:
        irreps_in: Type of the node features.
        hidden: Number of invariants of every atom.
        count: Number of properties.
    """

    mlp: ScalarMLP

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__()
        self.irreps_in, self.hidden, self.count = irreps_in, hidden, count

    @abstractmethod
    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """Values of unit order, (B, count, *shape)."""

    def take(self, other: Head, sources: Mapping[int, int]) -> None:
        """Copy the hidden layers of another head, which its properties share, and what reads some of the properties.

        Args:
            other: A head of the same class and sizes, for any number of properties.
            sources: Places of properties in this head, and of the same ones in the other.

        Example:
            >>> one, two = Sum(o3.Irreps("4x0e"), 4, 2), Sum(o3.Irreps("4x0e"), 4, 1)
            >>> two.take(one, {0: 1})
            >>> bool((two.mlp.weights[1][:, 0] == one.mlp.weights[1][:, 1]).all())
            True
        """
        given = dict(other.named_parameters())
        shared = {f"mlp.weights.{number}" for number in range(len(self.mlp.weights) - 1)}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name in shared:
                    parameter.copy_(given[name])
                    continue
                # what reads properties has them innermost: matrices (..., count)
                mine, theirs = parameter.view(-1, self.count), given[name].view(-1, other.count)
                for here, there in sources.items():
                    mine[:, here] = theirs[:, there]


class Sum(Head):
    r"""Extensive: :math:`y = N_0^{-1/2} \sum_i \mathrm{MLP}(s_i)`."""

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, hidden, count]))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        return molecules.sum(self.mlp(atoms.scalars)) * TYPICAL_ATOMS**-0.5


class Pooled(Head):
    r"""Intensive: :math:`y = \mathrm{MLP}\big(\langle s_i \rangle_i\big)`, with the mean over atoms.

    Reference:
        Zhdanov et al., NeurIPS 2023, appendix B.2 (global mean pooling, then an MLP with two hidden layers).
    """

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, POOLED, POOLED, count]))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        return self.mlp(molecules.mean(atoms.scalars))


class Dipole(Head):
    r"""A vector: :math:`y = N_0^{-1/2} \sum_i \big( g_i \, L_{1o} x_i + q_i \, (r_i - R) \big)`.

    The first term is the dipole of an atom, the second that of its charge; R is the center of nuclear charge.

    Reference:
        Schütt et al., PaiNN, ICML 2021, eq. 14.
    """

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, hidden, 2 * count]), FAINT)
        self.vectors = EquivariantLinear(irreps_in, o3.Irreps([(count, "1o")]))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        gates, charges = self.mlp(atoms.scalars).unflatten(1, (2, self.count, 1)).unbind(1)
        vectors = self.vectors(atoms.features).unflatten(1, (self.count, 3))
        return molecules.sum(gates * vectors + charges * molecules.places[:, None]) * TYPICAL_ATOMS**-0.5


class DipoleNorm(Dipole):
    """The length of a vector like that of :class:`Dipole`."""

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        vector = super().forward(atoms, molecules)
        return (vector.square().sum(2) + 1e-12).sqrt()  # the gradient of a plain norm is NaN for atoms, with zero


class Polarizability(Head):
    r"""A symmetric tensor: :math:`y = \sum_i \big( s_i 1 + g_i \, T(L_{2e} x_i) + v_i \vee (r_i - R) \big)`.

    with :math:`v \vee r = v r^T + r v^T`, and T the traceless symmetric matrix of five numbers.

    Reference:
        Schütt et al., PaiNN, ICML 2021, eq. 15; the term of degree 2 is added where the features have that degree.
    """

    basis: Tensor

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, hidden, 3 * count]), FAINT)
        self.vectors = EquivariantLinear(irreps_in, o3.Irreps([(count, "1o")]))
        self.tensors = EquivariantLinear(irreps_in, o3.Irreps([(count, "2e")]))
        self.register_exact("basis", o3.wigner_3j(2, 1, 1, dtype=torch.float64))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        isotropic, gates, moments = self.mlp(atoms.scalars).unflatten(1, (3, self.count, 1, 1)).unbind(1)
        vectors = self.vectors(atoms.features).unflatten(1, (self.count, 3))
        fields = self.tensors(atoms.features).unflatten(1, (self.count, 5))
        outer = moments * vectors[:, :, :, None] * molecules.places[:, None, None, :]
        identity = torch.eye(3, dtype=outer.dtype, device=outer.device)
        tensors = isotropic * identity + gates * torch.einsum("nct,tij->ncij", fields, self.basis) + outer + outer.mT
        return molecules.sum(tensors) * TYPICAL_ATOMS**-0.5


class SpatialExtent(Head):
    r"""The second moment of charges: :math:`y = N_0^{-1/2} \sum_i \big( e_i + q_i |r_i - R|^2 \big)`.

    Reference:
        Schütt et al., PaiNN, ICML 2021, section 4.
    """

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, hidden, 2 * count]))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        own, charges = self.mlp(atoms.scalars).chunk(2, 1)
        squares = molecules.places.square().sum(1, keepdim=True) / TYPICAL_SQUARE
        return molecules.sum(own + charges * squares) * TYPICAL_ATOMS**-0.5


HEADS: dict[str, type[Head]] = {
    "extensive": Sum,
    "intensive": Pooled,
    "dipole": Dipole,
    "dipole_norm": DipoleNorm,
    "polarizability": Polarizability,
    "spatial_extent": SpatialExtent,
}


class Invariants(nn.Module):
    """Invariants of every atom from its steerable features.

    Args:
        irreps_in: Type of the node features.
        hidden: Number of invariants.

    Example:
        >>> Invariants(o3.Irreps("8x0e + 8x1o"), 16)(torch.randn(5, 32)).shape
        torch.Size([5, 16])
    """

    def __init__(self, irreps_in: o3.Irreps, hidden: int) -> None:
        super().__init__()
        self.linear = EquivariantLinear(irreps_in, o3.Irreps([(hidden, "0e")]), bias=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N, hidden)."""
        return normalized_silu(self.linear(features))


def quiet(mlp: ScalarMLP, factor: float = 0.0) -> ScalarMLP:
    """The MLP with its last weights scaled down: a model's first guess is then the reference, which is a good one."""
    with torch.no_grad():
        mlp.weights[-1].mul_(factor)
    return mlp
