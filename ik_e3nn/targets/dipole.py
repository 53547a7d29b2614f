"""Dipoles and their norms."""

from __future__ import annotations

from ase import Atoms
from e3nn import o3
from torch import Tensor

from ik_e3nn.nn import EquivariantLinear, ScalarMLP
from ik_e3nn.targets.head import FAINT, TYPICAL_ATOMS, Atomwise, Head, Molecules, quiet
from ik_e3nn.targets.numbers import not_negative
from ik_e3nn.targets.target import FloatArray, Target


class DipoleHead(Head):
    r"""A vector: :math:`y = N_0^{-1/2} \sum_i \big( g_i \, L_{1o} x_i + q_i \, (r_i - R) \big)`.

    The first term is the dipole of an atom, the second the dipole of its charge; R is the center of nuclear charge.

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


class Dipole(Target):
    """A dipole vector about the center of nuclear charge."""

    kind = "dipole"
    shape = (3,)
    head = DipoleHead


class DipoleNormHead(DipoleHead):
    """The norm of a vector that is computed like the dipole of :class:`DipoleHead`."""

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        vector = super().forward(atoms, molecules)
        return (vector.square().sum(2) + 1e-12).sqrt()  # single atoms have a zero vector: its norm has a NaN gradient


class DipoleNorm(Target):
    """The norm of a dipole."""

    kind = "dipole_norm"
    head = DipoleNormHead

    def fault(self, value: FloatArray, atoms: Atoms) -> str:
        """See the base class."""
        return not_negative(self, value)
