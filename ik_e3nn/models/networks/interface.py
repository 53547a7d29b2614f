"""What the property tests, calculators and simulation engines need of a potential: three protocols, each on the last.

A class need not inherit from them: whatever has their members can be used. All tensors have the names, shapes and units
of ``ik_e3nn.graph.fields``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ik_e3nn.errors import DataError

Core = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
"""What can stand in for ``energies_and_gradients``; see ``ik_e3nn.models.compiled.potential``."""


class PotentialFunction(Protocol):
    """What the property tests need: a call with a graph."""

    def __call__(
        self,
        graph: Mapping[str, Tensor],
        /,
        *,
        forces: bool = True,
        stress: bool = False,
        atomic_stress: bool = False,
        **options: bool,
    ) -> Mapping[str, Tensor]:
        """Predict.

        Args:
            graph: Tensors by the names of ``fields.FIELDS``; not changed.
            forces: Also compute forces.
            stress: Also compute the stress.
            atomic_stress: Also compute atomic virials.
            **options: What the potential knows besides, such as ``std`` where it has standard deviations.

        Returns:
            Energies, and what was asked for, by the names of ``fields.OUTPUTS``.
        """


@runtime_checkable
class Potential(PotentialFunction, Protocol):
    """What a calculator needs besides: what the potential reads and gives, and where it is computed.

    Example:
        >>> from ik_e3nn.models import InteratomicPotential
        >>> isinstance(InteratomicPotential(["H", "O"], num_channels=2), Potential)
        True
    """

    @property
    def species(self) -> Sequence[int]:
        """Atomic numbers that it knows."""

    @property
    def r_max(self) -> float:
        """Cutoff of the graph's edges in A."""

    @property
    def inputs(self) -> Collection[str]:
        """What it reads besides positions, elements and cell, such as ``total_charge`` or ``bond_types``."""

    @property
    def outputs(self) -> Collection[str]:
        """Names of what it can give, out of ``fields.OUTPUTS``."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating type in which it computes."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""


@runtime_checkable
class EdgePotential(Potential, Protocol):
    """What an engine needs that has edges of its own: derivatives by edge vectors, of which it makes forces."""

    def prepare(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the potential reads of a graph, by the names of ``fields.PREPARED``."""

    def energies_and_gradients(self, edges: Mapping[str, Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
        """Site energies and the derivatives of their sum by those of ``fields.MOVING`` that are there.

        Args:
            edges: What ``prepare`` gives, or an engine in its place.
            create_graph: Whether the results shall be differentiated, by the weights for example.

        Returns:
            Energies (N,), eV; derivatives by the edge vectors, (K, w, 3), eV/A; beside surroundings also by the
            displacements from them, (N, 3), eV/A.
        """


_MEMBERS = ("species", "r_max", "inputs", "outputs", "dtype", "device")


def as_potential(model: object) -> Potential:
    """The model, if it is a potential.

    Raises:
        DataError: It lacks a member, which is named.

    Example:
        >>> as_potential(torch.nn.Linear(1, 1))
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: Linear is not an interatomic potential: it has no 'species'; expected species, ...
    """
    missing = [name for name in _MEMBERS if not hasattr(model, name)]
    if missing or not callable(model):
        raise DataError(
            f"{type(model).__name__} is not an interatomic potential: it "
            f"{f'has no {missing[0]!r}' if missing else 'cannot be called'}; expected {', '.join(_MEMBERS)} and a call "
            "with a graph, as in ik_e3nn.models.Potential"
        )
    return cast(Potential, model)
