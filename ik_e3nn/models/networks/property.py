"""Properties of molecules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from math import isnan
from typing import Any, Self, cast, get_args

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ik_e3nn.blocks.feature_scale import FeatureScale
from ik_e3nn.blocks.steerable_settings import SteerableSettings
from ik_e3nn.conv import segment_sum
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import Connectivity, edge_vectors, fields
from ik_e3nn.models.networks.bodies import Body, PotentialBody, SteerableBody
from ik_e3nn.models.networks.hyperparameters import parse_cutoff, parse_species
from ik_e3nn.models.networks.modes import with_gradients
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.reading import species_indices
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.targets import Target, mechanics_of, target_from_config
from ik_e3nn.targets.head import Atomwise, Invariants, Molecules
from ik_e3nn.targets.places import Places, local_places
from ik_e3nn.targets.scale import PropertyScale
from ik_e3nn.targets.target import check_names, head_of


class MolecularPropertyModel(StoredModel):
    r"""Predict several properties of a molecule from steerable features of its atoms.

    .. math:: P_t = \mathrm{reference}_t + s_t \, \mathrm{head}_t\big(\mathrm{body}(\text{graph})\big)

    The body is the network of the paper, residual steerable convolutions with implicit kernels, or the blocks of an
    interatomic potential. Both are exactly equivariant, to rounding, unless the activation of the paper is chosen: see
    ``activation`` of ``SteerableSettings``. There is a head for each kind of property: a sum over atoms, an intensive
    number, a dipole vector, its norm, a polarizability tensor, and an electronic spatial extent. Energy, forces and
    stress can be among the targets if the body is a potential; it is the attribute ``potential`` then.
    ``model.trained_on.outside(atoms)`` lists in which respects a molecule is outside of the domain of the model.

    Args:
        species: Atomic numbers or symbols that the model knows.
        targets: The targets.
        edges: Graph of covalent bonds, of neighbors within a radius, or of both; see ``build_molecular_graph``.
        r_max: Cutoff in A, for all graphs but those of bonds only.
        steerable: Settings of the network of the paper. It is the body if ``potential`` is not given.
        potential: Arguments of ``InteratomicPotential`` without species and r_max, which are those of this model; its
            blocks are the body then.
        hidden: Number of invariants of every atom for the heads.
        places: What positions in dipoles and polarizabilities are relative to: "local" for a center of the atom's
            surroundings, with which those of far fragments add up, or "center" for the center of nuclear charge of the
            whole molecule, which is the form of older models and that for large ions; see ``Dipole``.

    Raises:
        ValueError: Species or sizes are out of range.
        ConfigError: Two bodies or no targets are given, or the kind of graph or of places is unknown.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 5.4 and appendix B.2.

    Example:
        >>> from ik_e3nn.targets import Dipole, Intensive
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_molecular_graph
        >>> targets = [Intensive("gap", "eV"), Dipole("mu", "D")]
        >>> model = MolecularPropertyModel(["H", "O"], targets, edges="radius", steerable={"channels": 4}).eval()
        >>> out = model(build_molecular_graph(molecule("H2O"), "radius", model.r_max))
        >>> out["gap"].shape, out["mu"].shape
        (torch.Size([1]), torch.Size([1, 3]))
    """

    commands = "ik-e3nn eval, predict, and finetune with data.targets"
    reference_entry = "references"
    species_table: Tensor
    nuclear_charges: Tensor

    def __init__(
        self,
        species: Iterable[int | str],
        targets: Sequence[Target | Mapping[str, Any]],
        *,
        edges: Connectivity = "bonds",
        r_max: float = 5.0,
        steerable: SteerableSettings | dict[str, Any] | None = None,
        potential: dict[str, Any] | None = None,
        hidden: int = 64,
        places: Places = "local",
    ) -> None:
        super().__init__()
        self.species, self.r_max, self.edges = parse_species(species), parse_cutoff(r_max), edges
        self.places = places
        self.targets = tuple(target_from_config(target) for target in targets)
        check_names(self.targets)
        self.mechanics = mechanics_of(self.targets)
        self.properties = tuple(target for target in self.targets if target.name not in self.mechanics)
        if not self.targets:
            raise ConfigError("a model of properties needs at least one target; got none")
        if edges not in get_args(Connectivity):
            raise ConfigError(f"edges must be one of {', '.join(get_args(Connectivity))}; got {edges!r}")
        if places not in get_args(Places):
            raise ConfigError(f"places must be {' or '.join(get_args(Places))}; got {places!r}")
        if hidden < 1:
            raise ConfigError(f"hidden must be at least 1; got {hidden}")
        if self.mechanics and potential is None:
            raise ConfigError(f"{', '.join(self.mechanics)} come from a potential: give its arguments as `potential`")
        self.body, own = _make_body(
            self.species, edges, self.r_max, steerable, potential, energies=bool(self.mechanics)
        )
        self.inputs = self.body.inputs.union(*(target.needs for target in self.targets))
        self.config: dict[str, Any] = {
            "species": list(self.species), "targets": [target.config() for target in self.targets],
            "edges": edges, "r_max": self.r_max, **own, "hidden": hidden, "places": places,
        }  # fmt: skip
        self.feature_scale = FeatureScale(self.body.irreps_out)
        self.invariants = Invariants(self.body.irreps_out, hidden)
        self.names: dict[str, list[str]] = {}
        for target in self.properties:
            self.names.setdefault(target.kind, []).append(target.name)
        self.heads = nn.ModuleDict(
            {kind: head_of(kind)(self.body.irreps_out, hidden, len(names)) for kind, names in self.names.items()}
        )
        self.scales = PropertyScale(self.properties, len(self.species))
        table = torch.full((len(chemical_symbols),), -1)
        table[list(self.species)] = torch.arange(len(self.species))
        self.register_buffer("species_table", table, persistent=False)

    @with_gradients
    def forward(
        self, graph: Mapping[str, Tensor], *, forces: bool | None = None, stress: bool = False
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            graph: Tensors by the names of ``ik_e3nn.graph.fields``, with edges of the kind ``edges``; not changed.
            forces: Compute forces, if the model predicts energies; by default if forces are among its targets.
            stress: Compute the stress, if the model predicts energies.

        Returns:
            Predictions by name of the target, (B, *shape), or (N, *shape) if every atom has a value, in the units of
            the targets, float64; see :class:`InteratomicPotential` for energy, forces and stress.

        Raises:
            UnknownSpeciesError: The graph has an element for which the model was not made.
            MissingInputError: The graph lacks an input of the model.
            DataError: A tensor of the graph has a wrong shape, dtype or index.
        """
        molecules = self.molecules(graph)
        out: dict[str, Tensor] = {}
        if self.potential is None:
            features = self.body(graph, molecules.species)
        else:
            with nullcontext() if self.training else torch.no_grad():
                features, out = self._mechanics(graph, "forces" in self.mechanics if forces is None else forces, stress)
        atoms = self._atomwise(features)
        readouts: dict[str, Tensor] = {}
        for kind, names in self.names.items():
            readouts.update(zip(names, self.heads[kind](atoms, molecules).unbind(1), strict=True))
        return out | self.scales(readouts, molecules)

    def _mechanics(self, graph: Mapping[str, Tensor], forces: bool, stress: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Features of all atoms (N, dim), and the predictions of the potential."""
        potential = cast(InteratomicPotential, self.potential)
        edges = potential.prepare(graph)
        energies, gradients, features = potential.with_features(
            edges, gradients=forces or stress, create_graph=self.training
        )
        return features, potential.assembled(graph, edges, energies, gradients, forces=forces, stress=stress)

    def atomwise(self, graph: Mapping[str, Tensor], molecules: Molecules) -> Atomwise:
        """Features and invariants of every atom: the input of the heads."""
        return self._atomwise(self.body(graph, molecules.species))

    def _atomwise(self, features: Tensor) -> Atomwise:
        scaled: Tensor = self.feature_scale(features)
        return Atomwise(scaled, self.invariants(scaled))

    def molecules(self, graph: Mapping[str, Tensor]) -> Molecules:
        """Data of the atoms of a graph for the heads; see ``forward`` for errors."""
        species = species_indices(graph, self.species_table, self.species, self.inputs)
        numbers, batch, positions = graph[fields.ATOMIC_NUMBERS], graph[fields.BATCH], graph[fields.POSITIONS]
        count = graph[fields.CELL].shape[0]
        sizes = torch.zeros(count, dtype=torch.long, device=batch.device).index_add(0, batch, torch.ones_like(batch))
        charges = numbers[:, None].to(positions.dtype)
        total = segment_sum(charges, batch, count)
        centers = segment_sum(charges * positions, batch, count) / torch.where(total > 0, total, 1.0)
        places = (positions - centers.index_select(0, batch)).to(self.dtype)
        stated = graph[fields.TOTAL_CHARGE] if fields.TOTAL_CHARGE in self.inputs else None
        local = places if self.places == "center" else self._local_places(graph)
        return Molecules(species, batch, sizes, places, local, stated)

    def _local_places(self, graph: Mapping[str, Tensor]) -> Tensor:
        """Positions relative to centers of the surroundings, (N, 3), in the model's dtype."""
        positions, edges = graph[fields.POSITIONS], graph[fields.EDGE_INDEX]
        vectors = edge_vectors(positions, edges, graph[fields.EDGE_SHIFTS], graph[fields.CELL], graph[fields.BATCH])
        r_max = None if self.edges == "bonds" else self.r_max
        return local_places(vectors.to(self.dtype), edges[0], edges[1], len(positions), r_max)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        return self.invariants.linear.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.invariants.linear.weight.device

    @property
    def units(self) -> dict[str, str]:
        """The unit of lengths, and the unit of every target by its name."""
        return {"length": "A", **{target.name: target.unit for target in self.targets}}

    def reference(self) -> dict[str, Any]:
        """References by name of the target: ``shift``, and the number of every element; None if it is unknown."""
        symbols = [chemical_symbols[z] for z in self.species]
        rows = zip(self.properties, self.scales.per_atom.tolist(), self.scales.shift.tolist(), strict=True)
        found = {
            t.name: {"shift": b, **{s: None if isnan(value) else value for s, value in zip(symbols, a, strict=True)}}
            for t, a, b in rows
        }
        return found if self.potential is None else found | {"energy": self.potential.reference()}

    def take_reference(self, reference: Mapping[str, Any]) -> None:
        """Restore the provenance of the energies of isolated atoms."""
        if self.potential is not None:
            self.potential.take_reference(reference["energy"])

    @property
    def potential(self) -> InteratomicPotential | None:
        """The potential that predicts energy, forces and stress, if these are among the targets."""
        return self.body.potential if self.mechanics else None

    def set_average_neighbors(self, number: float) -> None:
        """Set the mean number of neighbors of the training set."""
        self.body.set_average_neighbors(number)

    @classmethod
    def from_potential(
        cls,
        potential: InteratomicPotential,
        targets: Sequence[Target],
        *,
        edges: Connectivity | None = None,
        hidden: int = 64,
        places: Places = "local",
    ) -> Self:
        """A model whose body has the blocks and weights of a trained potential, with new heads.

        Args:
            potential: The potential; it is not changed, and shares no tensors with the model.
            targets: The targets.
            edges: Kind of the graph; by default ``natural_edges(potential)``.
            hidden: Number of invariants of every atom for the heads.
            places: What positions in dipoles and polarizabilities are relative to.
        """
        options = {name: value for name, value in potential.config.items() if name not in ("species", "r_max")}
        model = cls(
            potential.species,
            targets,
            edges=edges or natural_edges(potential),
            r_max=potential.r_max,
            potential=options,
            hidden=hidden,
            places=places,
        )
        model = model.to(device=potential.device, dtype=potential.dtype)
        cast(PotentialBody, model.body).take_weights(potential)
        return model


def natural_edges(potential: InteratomicPotential) -> Connectivity:
    """The kind of graph for a potential: "both" if it uses bonds, "radius" otherwise.

    >>> natural_edges(InteratomicPotential(["H"], num_channels=4))
    'radius'
    """
    return "both" if fields.BOND_TYPES in potential.inputs else "radius"


def _make_body(
    species: Sequence[int],
    edges: Connectivity,
    r_max: float,
    steerable: SteerableSettings | Mapping[str, Any] | None,
    potential: Mapping[str, Any] | None,
    *,
    energies: bool,
) -> tuple[Body, dict[str, Any]]:
    """The body, and its part of the configuration."""
    if potential is not None:
        if steerable is not None:
            raise ConfigError("a model of properties has one body: give `steerable` or `potential`, not both")
        if edges == "bonds":
            raise ConfigError('the blocks of a potential need neighbors: use edges="radius" or edges="both"')
        body = PotentialBody(species, potential, r_max=r_max, energies=energies)
        kept = {name: value for name, value in body.potential.config.items() if name not in ("species", "r_max")}
        return body, {"potential": kept}
    settings = steerable if isinstance(steerable, SteerableSettings) else SteerableSettings(**_tuples(steerable or {}))
    as_dict = dataclasses.asdict(settings) | {"conditions": list(settings.conditions)}
    return SteerableBody(species, settings, edges=edges, r_max=r_max), {"steerable": as_dict}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
