"""Scalar targets of a structure: extensive and intensive numbers, and second moments."""

from __future__ import annotations

from ase import Atoms
from e3nn import o3
from torch import Tensor

from ik_e3nn.nn import ScalarMLP
from ik_e3nn.targets.head import TYPICAL_ATOMS, Atomwise, Head, Molecules, quiet
from ik_e3nn.targets.target import FloatArray, Target

POOLED = 128  # hidden size of the MLP after the pooling, as in the paper
TYPICAL_SQUARE = 6.0  # |r - R|^2 in A^2


class SumHead(Head):
    r"""Extensive: :math:`y = N_0^{-1/2} \sum_i \mathrm{MLP}(s_i)`."""

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__(irreps_in, hidden, count)
        self.mlp = quiet(ScalarMLP([hidden, hidden, count]))

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        return molecules.sum(self.mlp(atoms.scalars)) * TYPICAL_ATOMS**-0.5


class Extensive(Target):
    """A sum over atoms, like an energy or an isotropic polarizability."""

    kind = "extensive"
    reference = frozenset({"per_atom"})
    head = SumHead


class PooledHead(Head):
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


class Intensive(Target):
    """A number that does not grow with the size of the structure, like the energy of an orbital."""

    kind = "intensive"
    reference = frozenset({"shift"})
    head = PooledHead


class SpatialExtentHead(Head):
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


class SpatialExtent(Target):
    """The electronic <r^2> about the center of nuclear charge."""

    kind = "spatial_extent"
    quantity = "a squared length"
    reference = frozenset({"per_atom", "per_square"})
    head = SpatialExtentHead

    def fault(self, value: FloatArray, atoms: Atoms) -> str:
        """See the base class."""
        return not_negative(self, value)


def not_negative(target: Target, value: FloatArray) -> str:
    """The fault of a negative value; empty for others."""
    return f"is a {target.kind} and cannot be negative" if value < 0 else ""
