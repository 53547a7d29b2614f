"""Polarizabilities."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from torch import Tensor

from ik_e3nn.nn import EquivariantLinear, ScalarMLP
from ik_e3nn.targets.head import FAINT, TYPICAL_ATOMS, Atomwise, Head, Molecules, quiet
from ik_e3nn.targets.target import FloatArray, Target


class PolarizabilityHead(Head):
    r"""A symmetric tensor: :math:`y = \sum_i \big( s_i 1 + g_i \, T(L_{2e} x_i) + v_i \vee d_i \big)`.

    with :math:`v \vee d = v d^T + d v^T`, and T the traceless symmetric matrix of five numbers. The position
    :math:`d_i = r_i - c_i` is relative to a center of the atom's surroundings (see ``local_places``), so that
    polarizabilities of far fragments add up; in models with ``places="center"`` it is relative to the center of nuclear
    charge, as in the reference.

    Reference:
        Schütt et al., PaiNN, ICML 2021, eq. 15; the term of degree 2 is added if the features have that degree.
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
        outer = moments * vectors[:, :, :, None] * molecules.local[:, None, None, :]
        identity = torch.eye(3, dtype=outer.dtype, device=outer.device)
        tensors = isotropic * identity + gates * torch.einsum("nct,tij->ncij", fields, self.basis) + outer + outer.mT
        return molecules.sum(tensors) * TYPICAL_ATOMS**-0.5


class Polarizability(Target):
    """A symmetric tensor; its trace is a sum over atoms.

    Polarizabilities of far fragments add up, unless the model has ``places="center"``.
    """

    kind = "polarizability"
    quantity = "a polarizability"
    shape = (3, 3)
    reference = frozenset({"per_atom"})
    head = PolarizabilityHead

    @staticmethod
    def isotropic(values: FloatArray) -> FloatArray:
        """A third of the traces (M,) of tensors (M, 3, 3)."""
        return np.asarray(np.trace(values, axis1=1, axis2=2) / 3)

    @staticmethod
    def from_isotropic(numbers: Tensor) -> Tensor:
        """Multiples (M, 3, 3) of the unit matrix."""
        return numbers[:, None, None] * torch.eye(3, dtype=numbers.dtype, device=numbers.device)

    def fault(self, value: FloatArray, atoms: Atoms) -> str:
        """See the base class."""
        if np.abs(value - value.T).max() > 1e-3 * np.abs(value).max():
            return "is a polarizability and must be symmetric (the order is xx xy xz yx yy yz zx zy zz)"
        return ""
