"""Energy, forces and stress: predicted by a potential and by its derivatives, not by heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.graph import fields
from ik_e3nn.targets.target import Axis, FloatArray, Target


class Energy(Target):
    """The total energy in eV; its errors are given per atom."""

    kind = "energy"
    reference = frozenset({"per_atom"})
    huber_delta = 0.01
    field, fixed_unit = fields.ENERGY, "eV"
    shown_unit, shown_factor = "meV_per_atom", 1000.0
    centered = True
    axis = Axis("energy less the mean", "eV/atom", 1000.0, "meV/atom")

    def reduced(self, error: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Errors of energies (B,) divided by the numbers of atoms."""
        return error / torch.bincount(batch[fields.BATCH], minlength=len(error))

    def drawn(self, values: FloatArray, num_atoms: NDArray[np.int64]) -> FloatArray:
        """Energies per atom."""
        return values / num_atoms


class Forces(Target):
    """The force on every atom in eV/A."""

    kind = "forces"
    shape = (3,)
    per_atom = True
    huber_delta = 0.01
    field, fixed_unit = fields.FORCES, "eV/A"
    shown_name, shown_unit, shown_factor = "force", "meV_per_A", 1000.0
    axis = Axis("force component", "eV/A", 1000.0, "meV/A")


class Stress(Target):
    """The stress in eV/A^3, tension positive; it is undefined if the cell has no volume."""

    kind = "stress"
    shape = (3, 3)
    huber_delta = 0.01
    field, fixed_unit = fields.STRESS, "eV/A^3"
    shown_unit, shown_factor = "meV_per_A3", 1000.0
    axis = Axis("stress component", "eV/A$^3$", 1000.0, "meV/A$^3$")

    def is_defined(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Whether the cell has a volume, (B, 1, 1)."""
        return (torch.linalg.det(batch[fields.CELL]) != 0)[:, None, None]


MECHANICS: tuple[Target, ...] = (Energy("energy", "eV"), Forces("forces", "eV/A"), Stress("stress", "eV/A^3"))
"""The targets of a potential, under their names in files, graphs and predictions."""


def mechanics_of(targets: Any) -> dict[str, Target]:
    """The targets, by name, that a potential and its derivatives predict."""
    return {target.name: target for target in targets if target.field is not None}
