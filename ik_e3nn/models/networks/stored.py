"""What every model that has a file consists of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from ik_e3nn.graph import Connectivity
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.targets import Target

if TYPE_CHECKING:
    from ik_e3nn.models.networks.potential import InteratomicPotential


class StoredModel(nn.Module, ABC):
    """A model that a file can hold: its configuration and its weights make it again.

    Attributes:
        commands: The commands that take its file, for messages.
        reference_entry: Name of the entry of the file that holds ``reference``.
        config: Arguments of the constructor, as JSON can hold them.
        species: Atomic numbers that it knows.
        r_max: Cutoff in A.
        targets: What it predicts.
        names: Names of the targets that heads predict, by kind.
        inputs: Optional inputs that it reads, like "bond_types".
        edges: The kind of its graphs, see ``StructureDataset``; None for those of a potential.
        potential: The potential that predicts energy, forces and stress, where there is one.
        trained_on: What it was trained on, where it was and that is known.
    """

    commands: ClassVar[str]
    reference_entry: ClassVar[str]
    config: dict[str, Any]
    species: tuple[int, ...]
    r_max: float
    targets: tuple[Target, ...]
    names: Mapping[str, Sequence[str]] = MappingProxyType({})
    inputs: frozenset[str]
    edges: Connectivity | None = None
    trained_on: Domain | None = None

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""

    @property
    @abstractmethod
    def potential(self) -> InteratomicPotential | None:
        """The potential that predicts energy, forces and stress, or None."""

    @abstractmethod
    def set_average_neighbors(self, number: float) -> None:
        """Set the mean number of neighbors of the training set."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the parameters."""

    @property
    @abstractmethod
    def units(self) -> dict[str, str]:
        """The units of lengths and of everything that it predicts."""

    @abstractmethod
    def reference(self) -> dict[str, Any]:
        """What is added to the output of the network, for those who read the file; the weights contain it as well."""

    def take_reference(self, reference: Mapping[str, Any]) -> None:
        """Take over what ``reference`` has beside the weights.

        Raises:
            LookupError: It is not there.
        """
