"""Bodies of property models: the network of the paper, or the blocks of a potential."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.blocks.steerable import SteerableNetwork
from ik_e3nn.blocks.steerable_settings import SteerableSettings
from ik_e3nn.graph import Connectivity, edge_vectors, fields
from ik_e3nn.models.networks.potential import InteratomicPotential


class Body(nn.Module, ABC):
    """A module that computes steerable features of every atom from a graph.

    Attributes:
        irreps_out: Type of the features.
        inputs: Optional inputs of the body, like "bond_types".
        potential: The potential that the body consists of, or None.
    """

    irreps_out: o3.Irreps
    inputs: frozenset[str]
    potential: InteratomicPotential | None

    @abstractmethod
    def forward(self, graph: Mapping[str, Tensor], species: Tensor) -> Tensor:
        """Features (N, irreps_out.dim) from a graph and species indices (N,)."""

    @abstractmethod
    def set_average_neighbors(self, number: float) -> None:
        """Set the mean number of neighbors of the training set."""


class SteerableBody(Body):
    """Residual steerable convolutions with implicit kernels, as in the paper; see ``SteerableNetwork``.

    Args:
        species: Atomic numbers.
        settings: Sizes of the network, and inputs of its kernels.
        edges: Kind of the graph; for bonds only, kernels have a Gaussian window instead of a cutoff.
        r_max: Cutoff in A.
    """

    def __init__(
        self, species: Sequence[int], settings: SteerableSettings, *, edges: Connectivity, r_max: float
    ) -> None:
        super().__init__()
        self.potential = None
        self.network = SteerableNetwork(len(species), settings, None if edges == "bonds" else r_max)
        self.irreps_out = self.network.irreps_out
        self.inputs = frozenset([fields.BOND_TYPES] if "bonds" in settings.conditions else [])

    def forward(self, graph: Mapping[str, Tensor], species: Tensor) -> Tensor:
        """See the base class."""
        edge_index = graph[fields.EDGE_INDEX]
        vectors = edge_vectors(
            graph[fields.POSITIONS], edge_index, graph[fields.EDGE_SHIFTS], graph[fields.CELL], graph[fields.BATCH]
        )
        bonds = graph[fields.BOND_TYPES] if fields.BOND_TYPES in self.inputs else None
        features: Tensor = self.network(species, edge_index, vectors.to(self.network.types.dtype), bonds)
        return features

    def set_average_neighbors(self, number: float) -> None:
        """See the base class."""
        self.network.set_average_neighbors(number)


class PotentialBody(Body):
    """The blocks of an ``InteratomicPotential``, from its embedding to the features after each interaction.

    The output is the features of all interactions side by side. The weights have the same names as in the potential, so
    that weights of a trained potential can be copied: see ``take_weights``.

    Args:
        species: Atomic numbers.
        options: Arguments of ``InteratomicPotential``.
        r_max: Cutoff in A.
        energies: Whether the body keeps the readouts of the potential, so that energies are predicted too.
    """

    def __init__(
        self, species: Sequence[int], options: Mapping[str, Any], *, r_max: float, energies: bool = False
    ) -> None:
        super().__init__()
        self.potential: InteratomicPotential = InteratomicPotential(species, r_max, **options)
        self.energies = energies
        if not energies:
            self.potential.readouts = nn.ModuleList()  # energies are not predicted
            self.potential.field = None
        self.irreps_out = sum(self.potential.irreps_features, o3.Irreps())
        self.inputs = self.potential.inputs

    def forward(self, graph: Mapping[str, Tensor], species: Tensor) -> Tensor:
        """See the base class."""
        return torch.cat(list(self.potential.node_features(self.potential.prepare(graph))), 1)

    def set_average_neighbors(self, number: float) -> None:
        """See the base class."""
        self.potential.set_average_neighbors(number)

    def take_weights(self, potential: InteratomicPotential) -> None:
        """Copy the weights and constants of a trained potential with the same configuration.

        Raises:
            ValueError: The configuration differs.
        """
        if potential.config != self.potential.config:
            differing = [name for name, value in potential.config.items() if self.potential.config.get(name) != value]
            raise ValueError(f"the potential differs from this model in {', '.join(differing)}; make the model from it")
        left = () if self.energies else ("readouts.", "field.")
        weights = {name: t for name, t in potential.state_dict().items() if not name.startswith(left)}
        self.potential.load_state_dict(weights)
        self.potential.energy_reference_provenance = potential.energy_reference_provenance
