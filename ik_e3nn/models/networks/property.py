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
from ik_e3nn.blocks.steerable import SteerableSettings
from ik_e3nn.conv import segment_sum
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import Connectivity, fields
from ik_e3nn.models.networks.bodies import Body, PotentialBody, SteerableBody
from ik_e3nn.models.networks.hyperparameters import parse_cutoff, parse_species
from ik_e3nn.models.networks.modes import with_gradients
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.reading import species_indices
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.targets import Target, mechanics_of, target_from_config
from ik_e3nn.targets.head import Atomwise, Invariants, Molecules
from ik_e3nn.targets.scale import PropertyScale
from ik_e3nn.targets.target import check_names, head_of


class MolecularPropertyModel(StoredModel):
    r"""Several properties of a molecule at once, from steerable features of its atoms.

    .. math:: P_t = \mathrm{reference}_t + s_t \, \mathrm{head}_t\big(\mathrm{body}(\text{graph})\big)

    The body is the paper's network of residual steerable convolutions with implicit kernels, or the blocks of an
    interatomic potential. Both turn with the molecule exactly, to rounding, unless the paper's activation is asked for:
    see ``activation`` of ``SteerableSettings``. Heads are made for what a property is: a sum over atoms, a number of
    the whole, a dipole as a true vector, its length, a polarizability as a tensor, or an electronic spatial extent.
    Energy, forces and stress may be among the targets where the body is that of a potential, which is ``potential``
    then. ``model.trained_on.outside(atoms)`` says what of a molecule is beyond what a model was trained on.

    Args:
        species: Atomic numbers or symbols that the model knows.
        targets: The properties.
        edges: Graph of covalent bonds, of neighbors within a radius, or of both; see ``build_molecular_graph``.
        r_max: Cutoff in A, for all but bonds alone.
        steerable: Settings of the paper's network. It is the body if ``potential`` is not given.
        potential: Arguments of ``InteratomicPotential`` (its species and r_max are those of this model): its blocks are
            the body then.
        hidden: Invariants of every atom that the heads read.

    Raises:
        ValueError: Species or sizes are out of range.
        ConfigError: Two bodies, no targets, or an unknown kind of graph.

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
    ) -> None:
        super().__init__()
        self.species, self.r_max, self.edges = parse_species(species), parse_cutoff(r_max), edges
        self.targets = tuple(target_from_config(target) for target in targets)
        check_names(self.targets)
        self.mechanics = mechanics_of(self.targets)
        self.properties = tuple(target for target in self.targets if target.name not in self.mechanics)
        if not self.targets:
            raise ConfigError("a model of properties needs at least one target, got none")
        if edges not in get_args(Connectivity):
            raise ConfigError(f"edges must be one of {', '.join(get_args(Connectivity))}; got {edges!r}")
        if hidden < 1:
            raise ConfigError(f"hidden must be at least 1; got {hidden}")
        if self.mechanics and potential is None:
            raise ConfigError(f"{', '.join(self.mechanics)} come from a potential: give `potential`, its arguments")
        self.body, own = _make_body(
            self.species, edges, self.r_max, steerable, potential, energies=bool(self.mechanics)
        )
        self.inputs = self.body.inputs.union(*(target.needs for target in self.targets))
        self.config: dict[str, Any] = {
            "species": list(self.species), "targets": [target.config() for target in self.targets],
            "edges": edges, "r_max": self.r_max, **own, "hidden": hidden,
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
            graph: Tensors by the names of ``ik_e3nn.graph.fields``, with edges of the model's kind; not changed.
            forces: Compute forces, if the model has energies; None for whether they are among its targets.
            stress: Compute the stress, if the model has energies.

        Returns:
            By the targets' names, (B, *shape), or (N, *shape) where every atom has a value, in the targets' units,
            float64; see :class:`InteratomicPotential` for energy, forces and stress.

        Raises:
            UnknownSpeciesError: An element the model was not made for.
            MissingInputError: Something that it needs is not in the graph.
            DataError: Something in the graph has a wrong shape, dtype or index.
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
        """Features of all atoms, and what the potential predicts with them."""
        potential = cast(InteratomicPotential, self.potential)
        edges = potential.prepare(graph)
        energies, gradients, features = potential.with_features(
            edges, gradients=forces or stress, create_graph=self.training
        )
        return features, potential.assembled(graph, edges, energies, gradients, forces=forces, stress=stress)

    def atomwise(self, graph: Mapping[str, Tensor], molecules: Molecules) -> Atomwise:
        """What the body says of every atom: the input of the heads."""
        return self._atomwise(self.body(graph, molecules.species))

    def _atomwise(self, features: Tensor) -> Atomwise:
        scaled: Tensor = self.feature_scale(features)
        return Atomwise(scaled, self.invariants(scaled))

    def molecules(self, graph: Mapping[str, Tensor]) -> Molecules:
        """Species, sizes and places of the atoms of a graph; see ``forward`` for errors."""
        species = species_indices(graph, self.species_table, self.species, self.inputs)
        numbers, batch, positions = graph[fields.ATOMIC_NUMBERS], graph[fields.BATCH], graph[fields.POSITIONS]
        count = graph[fields.CELL].shape[0]
        sizes = torch.zeros(count, dtype=torch.long, device=batch.device).index_add(0, batch, torch.ones_like(batch))
        charges = numbers[:, None].to(positions.dtype)
        total = segment_sum(charges, batch, count)
        centers = segment_sum(charges * positions, batch, count) / torch.where(total > 0, total, 1.0)
        places = (positions - centers.index_select(0, batch)).to(self.dtype)
        stated = graph[fields.TOTAL_CHARGE] if fields.TOTAL_CHARGE in self.inputs else None
        return Molecules(species, batch, sizes, places, stated)

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
        """The unit of lengths, and that of every target by its name."""
        return {"length": "A", **{target.name: target.unit for target in self.targets}}

    def reference(self) -> dict[str, Any]:
        """By the targets' names: ``shift``, and what every element adds; None where that is unknown."""
        symbols = [chemical_symbols[z] for z in self.species]
        rows = zip(self.properties, self.scales.per_atom.tolist(), self.scales.shift.tolist(), strict=True)
        found = {
            t.name: {"shift": b, **{s: None if isnan(value) else value for s, value in zip(symbols, a, strict=True)}}
            for t, a, b in rows
        }
        return found if self.potential is None else found | {"energy": self.potential.reference()}

    def take_reference(self, reference: Mapping[str, Any]) -> None:
        """Take over where the energies of isolated atoms come from."""
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
    ) -> Self:
        """A model with a trained potential's blocks and weights as its body; heads are new.

        Args:
            potential: The potential; it is not changed, and shares nothing with the model.
            targets: The properties.
            edges: Kind of the graph; that of ``natural_edges`` if absent.
            hidden: Invariants of every atom that the heads read.
        """
        options = {name: value for name, value in potential.config.items() if name not in ("species", "r_max")}
        model = cls(
            potential.species,
            targets,
            edges=edges or natural_edges(potential),
            r_max=potential.r_max,
            potential=options,
            hidden=hidden,
        )
        model = model.to(device=potential.device, dtype=potential.dtype)
        cast(PotentialBody, model.body).take_weights(potential)
        return model


def natural_edges(potential: InteratomicPotential) -> Connectivity:
    """The kind of graph that a potential was made for: "both" if it knows bonds, "radius" if not.

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
