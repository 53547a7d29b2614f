"""The base class of models that can be saved to a file."""

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
    """A model that can be saved to a file and restored from its configuration and weights.

    Attributes:
        commands: The commands that take its file, for messages.
        reference_entry: Name of the entry of the file that holds ``reference``.
        config: Arguments of the constructor, in a form that JSON can store.
        species: Atomic numbers of the elements that it knows.
        r_max: Cutoff in A.
        targets: Its targets.
        names: Names of the targets that heads predict, by kind.
        inputs: Optional inputs of the model, like "bond_types".
        edges: Kind of its graphs, see ``StructureDataset``; None for potentials.
        potential: The potential that predicts energy, forces and stress, or None.
        trained_on: Its domain; None if it is unknown or the model is not trained.
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
        """The units of lengths and of all targets."""

    @abstractmethod
    def reference(self) -> dict[str, Any]:
        """References that are added to the output of the network, for readers of the file; the weights include them."""

    def take_reference(self, reference: Mapping[str, Any]) -> None:
        """Restore the entries of ``reference`` that the weights do not include.

        Raises:
            LookupError: An entry is missing.
        """
