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
    r"""A vector: :math:`y = N_0^{-1/2} \sum_i \big( g_i \, L_{1o} x_i + q_i \, d_i \big)`.

    The first term is the dipole of an atom, the second the dipole of its charge. The position :math:`d_i = r_i - c_i`
    is relative to a center of the atom's surroundings (see ``local_places``), so that dipoles of far fragments add up.
    In models with ``places="center"`` it is relative to the center of nuclear charge, as in the reference. The charges
    of a fragment need not sum to zero there, so that predictions grow with the distance between fragments.

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
        return molecules.sum(gates * vectors + charges * molecules.local[:, None]) * TYPICAL_ATOMS**-0.5


class Dipole(Target):
    """A dipole vector.

    Dipoles of far fragments add up, unless the model has ``places="center"``.

    The dipole of an ion depends on the origin by definition. Predictions never do: labels of ions must all be taken
    about a center that moves with the ion, like that of nuclear charge, and a prediction is about the same center. With
    ``places="local"`` every atom adds what its surroundings determine. That is enough for ions that are not much larger
    than these surroundings. The label of a large ion has a part that grows with the distance between its charge and its
    center, which only ``places="center"`` can describe.
    """

    kind = "dipole"
    quantity = "a dipole moment"
    shape = (3,)
    head = DipoleHead


class DipoleNormHead(DipoleHead):
    """The norm of a vector that is computed like the dipole of :class:`DipoleHead`."""

    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """See the base class."""
        vector = super().forward(atoms, molecules)
        return (vector.square().sum(2) + 1e-12).sqrt()  # single atoms have a zero vector: its norm has a NaN gradient


class DipoleNorm(Target):
    """The norm of a dipole; see :class:`Dipole` for ions."""

    kind = "dipole_norm"
    quantity = "a dipole moment"
    head = DipoleNormHead

    def fault(self, value: FloatArray, atoms: Atoms) -> str:
        """See the base class."""
        return not_negative(self, value)
