"""Convert dimensionless readouts to values in their units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ik_e3nn.constants import Float64Module
from ik_e3nn.targets.head import Molecules
from ik_e3nn.targets.target import Target


class PropertyScale(Float64Module):
    r"""Compute properties as a reference from composition and size plus a scaled readout, in float64.

    .. math:: P_t = b_t + \sum_i \big( a_{t Z_i} + c_{t Z_i} |r_i - R|^2 \big) + s_t \, y_t

    with R the center of nuclear charge. The numbers a are for extensive properties (and the isotropic part of tensors),
    c for the electronic spatial extent, and b for intensive properties. If every atom has a value, there is no sum. All
    numbers are fitted by least squares to the training set and are not trained. Total energies are large: in float32
    they would be wrong by several meV.

    Args:
        targets: The properties.
        num_species: Number of species.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> scale = PropertyScale([Intensive("gap", "eV")], 2)
        >>> scale.shift.dtype
        torch.float64
    """

    per_atom: Tensor
    per_square: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, targets: Sequence[Target], num_species: int) -> None:
        super().__init__()
        self.targets = tuple(targets)
        count = len(self.targets)
        self.register_buffer("per_atom", torch.zeros(count, num_species, dtype=torch.float64))
        self.register_buffer("per_square", torch.zeros(count, num_species, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(count, dtype=torch.float64))

    def references(self, molecules: Molecules) -> Tensor:
        """References of structures, b plus the sums of a and c, (B, T), float64."""
        atoms = self.per_atom.T.index_select(0, molecules.species)
        squares = molecules.places.double().square().sum(1, keepdim=True)
        whole = molecules.sum(atoms + squares * self.per_square.T.index_select(0, molecules.species))
        return self.shift + whole

    def forward(self, readouts: dict[str, Tensor], molecules: Molecules) -> dict[str, Tensor]:
        """Properties in their units, (B, *shape) float64 each, from dimensionless readouts of the same shapes."""
        references = self.references(molecules)
        out = {}
        for column, target in enumerate(self.targets):
            value = readouts[target.name].double() * self.scale[column]
            if target.per_atom and target.reference:
                of_atoms = self.shift[column] + self.per_atom[column].index_select(0, molecules.species)
                value = value + target.from_isotropic(of_atoms)
            elif target.reference:
                value = value + target.from_isotropic(references[:, column])
            out[target.name] = target.constrained(value, molecules)
        return out
