"""Interfaces of potentials for property tests, calculators and engines: three protocols, each based on the last.

A class need not inherit from them, but only have their members. All tensors have the names, shapes and units of
``ik_e3nn.graph.fields``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ik_e3nn.errors import DataError

Core = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
"""A function that can replace ``energies_and_gradients``; see ``ik_e3nn.models.compiled.potential``."""

Exchange = Callable[[Tensor], Tensor]
"""A function from the features of owned atoms (R, dim) to those of owned atoms and their ghosts (N, dim).

It is called before every interaction but the first, and must be differentiable: the gradients with respect to features
of ghosts are added to those with respect to the features they are copies of, on other processes too."""


class Receivers(NamedTuple):
    """The atoms that each interaction computes if a process does not own all its atoms; see ``owned``.

    Attributes:
        counts: Number of atoms that each interaction computes, which come first; not increasing. The last one is the
            number of owned atoms.
        exchange: The exchange of features between processes, if there is one.
    """

    counts: tuple[int, ...]
    exchange: Exchange | None = None


class PotentialFunction(Protocol):
    """A potential for property tests: it can be called with a graph."""

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
            **options: Further options of the potential, such as ``std`` if it predicts standard deviations.

        Returns:
            Energies, and the requested outputs, by the names of ``fields.OUTPUTS``.
        """


@runtime_checkable
class Potential(PotentialFunction, Protocol):
    """A potential for calculators, with its inputs, outputs, dtype and device.

    Example:
        >>> from ik_e3nn.models import InteratomicPotential
        >>> isinstance(InteratomicPotential(["H", "O"], num_channels=2), Potential)
        True
    """

    @property
    def species(self) -> Sequence[int]:
        """Atomic numbers of the elements that it knows."""

    @property
    def r_max(self) -> float:
        """Cutoff of the edges of graphs in A."""

    @property
    def inputs(self) -> Collection[str]:
        """Inputs besides positions, elements and cell, such as ``total_charge`` or ``bond_types``."""

    @property
    def outputs(self) -> Collection[str]:
        """Names of its possible outputs, out of ``fields.OUTPUTS``."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the computation."""

    @property
    def device(self) -> torch.device:
        """Device of the computation."""


@runtime_checkable
class EdgePotential(Potential, Protocol):
    """A potential for engines with their own edges: it returns derivatives with respect to edge vectors."""

    def prepare(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the network from a graph, by the names of ``fields.PREPARED``."""

    def energies_and_gradients(
        self, edges: Mapping[str, Tensor], *, create_graph: bool, receivers: Receivers | None = None
    ) -> tuple[Tensor, ...]:
        """Site energies, and the derivatives of their sum with respect to the present tensors of ``fields.MOVING``.

        Args:
            edges: The tensors that ``prepare`` or an engine makes.
            create_graph: Whether the results can be differentiated, for example with respect to weights.
            receivers: The atoms that each interaction computes; None for all.

        Returns:
            Energies (N,), or of the owned atoms (R,), in eV; derivatives with respect to edge vectors, (K, w, 3), in
            eV/A; and, with surroundings, with respect to displacements from them, (N, 3), in eV/A.
        """


_MEMBERS = ("species", "r_max", "inputs", "outputs", "dtype", "device")


def as_potential(model: object) -> Potential:
    """The model, if it is a potential.

    Raises:
        DataError: It lacks a member, which the message names.

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
