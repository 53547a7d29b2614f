"""Potentials that say how sure they are: what all of them have in common, and committees."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.uncertainty.ensemble import Ensemble

MOST = 1e9  # largest factor of standard deviations


def check_factor(name: str, value: float) -> None:
    """Raise unless a number can be the factor of a standard deviation.

    Args:
        name: What the standard deviation is of.
        value: The factor.

    Raises:
        ValueError: It is not positive, or so large or small that the standard deviations mean nothing.

    >>> check_factor("energy", 1e30)
    Traceback (most recent call last):
    ...
    ValueError: the factor of the standard deviation of energy must be between 1e-09 and 1e+09; got 1e+30
    """
    if not 1 / MOST <= value <= MOST:
        raise ValueError(
            f"the factor of the standard deviation of {name} must be between {1 / MOST:g} and {MOST:g}; got {value:g}"
        )


class UncertainPotential(Ensemble[InteratomicPotential]):
    r"""A potential whose energies and forces come with standard deviations.

    Its outputs are those of an :class:`InteratomicPotential`, and ``energy_std`` (B,) in eV and ``forces_std`` (N, 3)
    in eV/A: the standard deviation of every component. Both are raw numbers times calibrated factors:

    .. math:: \sigma_E = a_E \, s_E, \qquad \sigma_F = a_F \, s_F, \qquad
              a^2 = \big\langle (\Delta / s)^2 \big\rangle_{validation}

    Args:
        members: Models that know the same inputs.

    Raises:
        DataError: No models, or models that differ in their inputs.
    """

    FACTORS = ("energy_factor", "forces_factor")
    energy_factor: Tensor
    forces_factor: Tensor

    def __init__(self, members: Sequence[InteratomicPotential]) -> None:
        if not members:
            raise DataError("an uncertain potential needs at least one model, got none")
        different = [sorted(model.inputs) for model in members if model.inputs != members[0].inputs]
        if different:
            raise DataError(
                f"models of a committee must have the same inputs, got {sorted(members[0].inputs)} and {different[0]}"
            )
        super().__init__(members)
        self.inputs = members[0].inputs
        self.outputs = (*members[0].outputs, *fields.STDS)
        self.r_max = max(model.r_max for model in members)  # edges beyond a model's own cutoff add exact zeros
        for name in self.FACTORS:
            self.register_buffer(name, torch.ones((), dtype=torch.float64))

    @abstractmethod
    def forward(
        self,
        graph: Mapping[str, Tensor],
        *,
        forces: bool = True,
        stress: bool = False,
        atomic_stress: bool = False,
        std: bool = True,
    ) -> dict[str, Tensor]:
        """Predict; see :class:`InteratomicPotential`. ``std``: standard deviations of energies and forces too."""

    def calibrate(self, energy: float, forces: float) -> None:
        """Set the factors of the standard deviations.

        Raises:
            ValueError: A factor is none.
        """
        for name, value in (("energy", energy), ("forces", forces)):
            check_factor(name, value)
            getattr(self, f"{name}_factor").fill_(value)

    @property
    def surroundings(self) -> nn.Module | None:
        """What the models know of something outside."""
        return self.first.surroundings

    @property
    def max_edges(self) -> int | None:
        """Edges that a model treats at once."""
        return self.first.max_edges

    @max_edges.setter
    def max_edges(self, value: int | None) -> None:
        for model in self.members:
            model.max_edges = value  # type: ignore[assignment]


class Committee(UncertainPotential):
    r"""Several models, trained with different seeds or on different data, and how far they differ.

    .. math:: \bar y = \frac 1 M \sum_m y_m, \qquad s^2 = \frac{1}{M-1} \sum_m (y_m - \bar y)^2

    for the energy of a structure and for every component of the forces.

    Args:
        members: At least two models.

    Raises:
        DataError: Fewer models, or models that differ in their inputs.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_graph
        >>> committee = Committee([InteratomicPotential(["H", "O"], num_channels=4).eval() for _ in range(3)])
        >>> committee(build_graph(molecule("H2O"), committee.r_max))["forces_std"].shape
        torch.Size([3, 3])
    """

    def __init__(self, members: Sequence[InteratomicPotential]) -> None:
        super().__init__(members)
        if len(members) < 2:
            raise DataError(f"a committee needs at least two models, got {len(members)}")

    def forward(
        self,
        graph: Mapping[str, Tensor],
        *,
        forces: bool = True,
        stress: bool = False,
        atomic_stress: bool = False,
        std: bool = True,
    ) -> dict[str, Tensor]:
        """Predict; the standard deviations cost nothing."""
        outputs = [model(graph, forces=forces, stress=stress, atomic_stress=atomic_stress) for model in self.members]
        stacked = {name: torch.stack([output[name] for output in outputs]) for name in outputs[0]}
        result = {name: values.mean(0) for name, values in stacked.items()}
        if std:
            result[fields.ENERGY_STD] = self.energy_factor * stacked[fields.ENERGY].std(0)
            if forces:
                result[fields.FORCES_STD] = self.forces_factor * stacked[fields.FORCES].double().std(0)
        return result
