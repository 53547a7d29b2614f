"""The interatomic potential."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self, cast

import torch
from ase.data import chemical_symbols
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import spherical_irreps
from ik_e3nn.blocks import AtomicEnergy, Edges, Interaction, NodeEmbedding, Readout, derivatives
from ik_e3nn.blocks.embedding import GLOBAL_INPUTS
from ik_e3nn.blocks.interaction import Conditioning
from ik_e3nn.blocks.surroundings import PlaceEmbedding, Surroundings
from ik_e3nn.conv import ReceiverBlocks, segment_sum
from ik_e3nn.conv.receivers import pad_row
from ik_e3nn.graph import BOND_NAMES, SURROUNDINGS, edge_vectors, fields
from ik_e3nn.graph.neighbors.coordination import divisor_of_products
from ik_e3nn.models.networks.hyperparameters import parse_cutoff, parse_inputs, parse_sizes, parse_species
from ik_e3nn.models.networks.interface import Core
from ik_e3nn.models.networks.modes import with_gradients
from ik_e3nn.models.networks.reading import species_indices
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.targets import MECHANICS

FIELD_REACH = 2.0  # of the field outside, in cutoffs; what it changes between atoms reaches half as far
UNITS = {"length": "A", "energy": "eV", "forces": "eV/A", "stress": "eV/A^3"}
PLACE_SHARE = 0.1  # of places in features: a smaller share is learned more slowly and remembers single frames less


class InteratomicPotential(StoredModel):
    r"""Energy, forces and stress of molecules and materials from implicit steerable kernels.

    .. math:: E = \sum_i E^0_{Z_i} + s \sum_i \sum_t \epsilon_t(x_i^{(t)}), \qquad
              x^{(t+1)} = \mathrm{interaction}_t(x^{(t)})

    Beside surroundings a field :math:`s \, U_{Z_i}(u_i)` is added, which acts on every atom by itself; what the
    surroundings change between atoms comes through the features. Both are zero at first.

    Layers are equivariant under the group. Beside a surface that leaves "Cinfv" they are those of O(3), and it is the
    features of the atoms that know the normal: the same functions, from cheaper layers. Far away these are isotropic;
    layers of a smaller group tell directions apart everywhere.

    Places are part of the features that atoms begin with, and kernels are conditioned on the features of both their
    atoms: so every kernel sees the heights of both ends of its edge, in a smooth bounded basis. A further condition on
    them, the same functions straight to the kernels' hidden layers, did not help: after 40 epochs over graphite net
    forces were off by 38 and 46 instead of 35 and 37 meV/A (two seeds), at a third more time.

    Args:
        species: Atomic numbers or symbols that the model knows.
        r_max: Cutoff (A).
        preset: Size, "small", "medium" or "large": what the next five are where they are not given; see ``PRESETS``.
        num_channels: Fields of every degree.
        num_layers: Interactions.
        l_max: Largest degree of the filters and of the convolved features, which are multiplied.
        l_features: Largest degree of the node features that a later layer sees; at most l_max.
        correlation: Factors of the convolved features in a message: a layer sees correlation + 1 atoms at once.
        group: Symmetry group of the energy, if something outside (a surface, a field) breaks rotations: a name,
            a :class:`SymmetryGroup` or its configuration.
        inputs: Optional inputs the model uses, out of "bond_types", "total_charge", "spin", and one of "surface",
            "wire" and "site", if the energy depends on where the atoms are; see :class:`Surroundings`.

    Attributes:
        irreps_features: Types of the features after each interaction; see ``node_features``.
        max_edges: Edges to treat at once in evaluation; more are treated tile by tile, which bounds the memory and
            costs a third more time. None for no bound.

    Raises:
        ValueError: A hyperparameter is out of range.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_graph
        >>> model = InteratomicPotential(["H", "O"], num_channels=8).eval()
        >>> out = model(build_graph(molecule("H2O"), model.r_max))
        >>> out["energy"].shape, out["forces"].shape
        (torch.Size([1]), torch.Size([3, 3]))
    """

    commands = "ik-e3nn eval, predict, md, relax and dock"
    reference_entry = "energy_reference"
    units: ClassVar[dict[str, str]] = UNITS
    outputs = (fields.ENERGY, fields.ENERGIES, fields.FORCES, fields.STRESS, fields.ATOMIC_VIRIALS)
    targets = MECHANICS
    species_table: Tensor
    max_edges: int | None = None
    compiled: Core | None = None
    compiled_for_training: Core | None = None

    def __init__(
        self,
        species: Iterable[int | str],
        r_max: float = 5.0,
        *,
        preset: Literal["small", "medium", "large"] = "medium",
        num_channels: int | None = None,
        num_layers: int | None = None,
        l_max: int | None = None,
        l_features: int | None = None,
        correlation: int | None = None,
        group: SymmetryGroup | str | dict[str, Any] = "O3",
        inputs: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.species = parse_species(species)
        self.inputs = parse_inputs(inputs)
        self.r_max = parse_cutoff(r_max)
        self.group = SymmetryGroup.from_config(group)
        given = {
            "num_channels": num_channels, "num_layers": num_layers,
            "l_max": l_max, "l_features": l_features, "correlation": correlation,
        }  # fmt: skip
        sizes = parse_sizes(preset, given)
        self.config: dict[str, Any] = {
            "species": list(self.species), "r_max": self.r_max, **sizes,
            "group": self.group.to_config(), "inputs": sorted(self.inputs),
        }  # fmt: skip
        num_channels, num_layers, l_max, l_features, correlation = sizes.values()
        table = torch.full((len(chemical_symbols),), -1)
        table[list(self.species)] = torch.arange(len(self.species))
        self.register_buffer("species_table", table, persistent=False)
        global_inputs = tuple(name for name in GLOBAL_INPUTS if name in self.inputs)
        self.node_embedding = NodeEmbedding(len(self.species), num_channels, inputs=global_inputs)
        bonds = len(BOND_NAMES) if fields.BOND_TYPES in self.inputs else 0
        first, group = o3.Irreps([(num_channels, "0e")]), self.group
        self.surroundings, self.place_embedding, self.field = None, None, None
        for kind in self.inputs.intersection(SURROUNDINGS):
            self.surroundings = Surroundings(kind, self.group)
            if self.surroundings.is_normal:
                group = SymmetryGroup("O3")
            scalars = self.surroundings.keeps_places and not self.surroundings.is_normal
            first = spherical_irreps(0 if scalars else max(l_features, 1), num_channels)
            n, outside = len(self.species), self.surroundings
            self.place_embedding = PlaceEmbedding(n, first, reach=self.r_max, surroundings=outside)
            self.field = PlaceEmbedding(n, "0e", reach=FIELD_REACH * self.r_max, surroundings=outside)
        conditioning = Conditioning(len(self.species), bonds, self.r_max, l_max, group)
        types = [first] + [spherical_irreps(l_features, num_channels)] * num_layers
        if group.is_isotropic:  # nothing but scalars is read out of the last features
            types[-1] = o3.Irreps([(num_channels, "0e")])
        self.irreps_features = types[1:]
        self.interactions = nn.ModuleList(
            Interaction(a, b, conditioning=conditioning, correlation=correlation) for a, b in pairwise(types)
        )
        self.readouts = nn.ModuleList(Readout(t, group) for t in types[1:])
        self.atomic_energy = AtomicEnergy(len(self.species))
        self.set_average_neighbors(10.0)  # of the right order until the data's own number is set

    @with_gradients
    def forward(
        self, graph: Mapping[str, Tensor], *, forces: bool = True, stress: bool = False, atomic_stress: bool = False
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            graph: Tensors by the names of ``ik_e3nn.graph.fields``; not changed.
            forces: Compute forces.
            stress: Compute the stress.
            atomic_stress: Compute atomic virials.

        Returns:
            ``energy`` (B,) and ``energies`` (N,) in eV, float64; ``forces`` (N, 3) in eV/A; ``stress`` (B, 3, 3) in
            eV/A^3, NaN where the cell has no volume; ``atomic_virials`` (N, 3, 3) in eV. In training mode they can be
            differentiated by the weights; by positions only energies that were asked for without forces.

        Raises:
            UnknownSpeciesError: An element the model was not made for.
            MissingInputError: Something that it needs is not in the graph.
            DataError: Something in the graph has a wrong shape, dtype or index.
        """
        with nullcontext() if self.training else torch.no_grad():
            return self._predict(graph, forces, stress, atomic_stress)

    def _predict(
        self, graph: Mapping[str, Tensor], forces: bool, stress: bool, atomic_stress: bool
    ) -> dict[str, Tensor]:
        edges = self.prepare(graph)
        gradients: Sequence[Tensor] = ()
        if forces or stress or atomic_stress:
            energies, *gradients = self.energies_and_gradients(edges, create_graph=self.training)
        else:
            energies = self.site_energies(edges)
        return self.assembled(
            graph, edges, energies, gradients, forces=forces, stress=stress, atomic_stress=atomic_stress
        )

    def assembled(
        self,
        graph: Mapping[str, Tensor],
        edges: Mapping[str, Tensor],
        energies: Tensor,
        gradients: Sequence[Tensor],
        *,
        forces: bool,
        stress: bool,
        atomic_stress: bool = False,
    ) -> dict[str, Tensor]:
        """What ``forward`` returns, from site energies and derivatives of their sum; without these, energies alone."""
        batch, cell, positions = graph[fields.BATCH], graph[fields.CELL], graph[fields.POSITIONS]
        out = {fields.ENERGY: segment_sum(energies, batch, cell.shape[0]), fields.ENERGIES: energies}
        if gradients:
            senders, owners = edges[fields.SENDERS].flatten(), edges[fields.OWNERS]
            receivers = owners.repeat_interleave(edges[fields.SENDERS].shape[1])
            gradient, ends = gradients[0].flatten(0, 1).to(positions.dtype), (senders, receivers)
            if forces:
                out[fields.FORCES] = self.forces_of(gradients, edges, positions.dtype)
            if stress or atomic_stress:
                structures = batch.index_select(0, receivers)
                virials = derivatives.edge_virials(edges[fields.VECTORS].flatten(0, 1).to(positions.dtype), gradient)
                if self.surroundings is not None:
                    free = self.surroundings.free_directions(self.surroundings.frames(graph))
                    virials = derivatives.projected(virials, free, structures)
            if stress:
                out[fields.STRESS] = derivatives.stress(virials, structures, cell)
            if atomic_stress:
                out[fields.ATOMIC_VIRIALS] = derivatives.atomic_virials(virials, *ends, positions.shape[0])
        return out

    def forces_of(self, gradients: Sequence[Tensor], edges: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Forces (N, 3) from derivatives of an energy by edge vectors and, beside surroundings, by where atoms are."""
        senders, owners = edges[fields.SENDERS].flatten(), edges[fields.OWNERS]
        receivers = owners.repeat_interleave(edges[fields.SENDERS].shape[1])
        by_edges, *by_places = (gradient.to(dtype) for gradient in gradients)
        forces = derivatives.forces(by_edges.flatten(0, 1), senders, receivers, edges[fields.SPECIES].shape[0])
        for gradient in by_places:
            forces = forces - gradient
        return forces

    def prepare(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads of a graph: species and inputs of atoms, and the edges in blocks of one receiver.

        Places that no edge fills have a vector longer than the cutoff.

        Raises:
            UnknownSpeciesError: An element the model was not made for.
            MissingInputError: Something that it needs is not in the graph.
            DataError: Something in the graph has a wrong shape, dtype or index, or the structure is periodic where the
                surroundings are not.
        """
        species = species_indices(graph, self.species_table, self.species, self.inputs.difference(SURROUNDINGS))
        batch, edge_index = graph[fields.BATCH], graph[fields.EDGE_INDEX]
        vectors = edge_vectors(
            graph[fields.POSITIONS], edge_index, graph[fields.EDGE_SHIFTS], graph[fields.CELL], batch
        ).to(self.dtype)  # positions may be float64: differences of large numbers stay exact
        blocks = ReceiverBlocks.from_receivers(edge_index[1], species.shape[0])
        nowhere = vectors.new_full((1, 3), 2 * self.r_max)
        edges = {
            fields.SPECIES: species,
            fields.VECTORS: torch.cat([vectors, nowhere])[blocks.slots],
            fields.SENDERS: pad_row(edge_index[0])[blocks.slots],
            fields.OWNERS: blocks.receivers,
        }
        if fields.BOND_TYPES in self.inputs:
            edges[fields.BONDS] = pad_row(graph[fields.BOND_TYPES])[blocks.slots]
        for name in self.node_embedding.inputs:
            edges[name] = graph[name].index_select(0, batch).to(self.dtype)
        if self.surroundings is not None:
            frames = self.surroundings.checked(graph)
            edges[fields.DISPLACEMENTS] = self.surroundings.displacements(graph).to(self.dtype)
            edges[fields.FRAMES] = frames.to(self.dtype).index_select(0, batch)
        return edges

    def with_features(
        self, edges: Mapping[str, Tensor], *, gradients: bool, create_graph: bool
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        """Site energies, derivatives as in ``energies_and_gradients``, and the features of all interactions, (N, dim).

        Everything comes from one pass, for models that read more than energies from the features.
        """
        with torch.enable_grad() if gradients else nullcontext():
            variables = _variables(edges) if gradients else {}
            moved = {**edges, **variables}
            features = list(self.node_features(moved))
            energies = self._read(features, moved)
            found = _gradients(energies, variables, create_graph=create_graph) if gradients else ()
        whole = torch.cat(features, 1)
        return (energies, found, whole) if create_graph else (energies.detach(), found, whole.detach())

    def energies_and_gradients(self, edges: Mapping[str, Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
        """Site energies (N,), eV, float64, and derivatives of their sum.

        By the edge vectors, (B, w, 3), and, where there are surroundings, by the displacements from them, (N, 3).
        """
        core = self.compiled_for_training if create_graph else self.compiled
        tiled = not create_graph and self.max_edges is not None and edges[fields.SENDERS].numel() > self.max_edges
        if core is not None and not tiled:
            return core(edges)
        with torch.enable_grad():
            variables = _variables(edges)
            energies = self.site_energies({**edges, **variables})
            gradients = _gradients(energies, variables, create_graph=create_graph)
        return energies if create_graph else energies.detach(), *gradients

    def site_energies(self, edges: Mapping[str, Tensor]) -> Tensor:
        """Energy (N,), in eV, float64, of every atom, from what ``prepare`` gives."""
        return self._read(self.node_features(edges), edges)

    def _read(self, features: Iterable[Tensor], edges: Mapping[str, Tensor]) -> Tensor:
        """Site energies from the features after each interaction."""
        species = edges[fields.SPECIES]
        readout = edges[fields.VECTORS].new_zeros(species.shape[0])
        if self.surroundings is not None and self.field is not None:
            places = self.surroundings(edges[fields.DISPLACEMENTS], edges[fields.FRAMES])
            readout = self.field(places, species).squeeze(1)
        for of_atoms, read in zip(features, self.readouts, strict=True):
            readout = readout + read(of_atoms)
        energies: Tensor = self.atomic_energy(readout, species)
        return energies

    def last_layer(self, edges: Mapping[str, Tensor]) -> Tensor:
        r"""Features that site energies are linear in, (N, K), float64, in eV.

        .. math:: E_i = E^0_{Z_i} + s \, U_{Z_i}(u_i) + \sum_k \phi_{ik} w_k

        with w the weights of the readouts' last layers, ``last_weights``, which start as standard normal numbers; the
        second term is there beside surroundings alone.
        """
        parts = [
            cast(Readout, read).hidden(features) * cast(Readout, read).mlp.sizes[-2] ** -0.5
            for features, read in zip(self.node_features(edges), self.readouts, strict=True)
        ]
        return self.atomic_energy.scale * torch.cat(parts, 1).double()

    @property
    def last_weights(self) -> Tensor:
        """Weights of the readouts' last layers, (K,)."""
        return torch.cat([cast(Readout, read).mlp.weights[-1].flatten() for read in self.readouts])

    def first_features(self, species: Tensor, inputs: Mapping[str, Tensor], places: Tensor | None) -> Tensor:
        """Features of atoms (N, dim) before the first interaction, from inputs and places (N, 3), if they matter."""
        features: Tensor = self.node_embedding(species, inputs)
        if self.place_embedding is not None and places is not None:
            added = self.place_embedding(places, species)
            features = nn.functional.pad(features, (0, added.shape[1] - features.shape[1])) + PLACE_SHARE * added
        return features

    def node_features(self, edges: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Features of all atoms after each interaction, (N, its irreps_out.dim), from what ``prepare`` gives."""
        species, vectors = edges[fields.SPECIES], edges[fields.VECTORS]
        if self.surroundings is not None:
            vectors = vectors @ edges[fields.FRAMES].index_select(0, edges[fields.OWNERS]).mT
        neighbors = Edges(edges[fields.SENDERS], edges[fields.OWNERS], vectors, edges.get(fields.BONDS))
        max_edges = None if self.training else self.max_edges
        if max_edges is None or edges[fields.SENDERS].numel() <= max_edges:  # every kernel sees the same
            first = cast(Interaction, self.interactions[0])
            neighbors = neighbors._replace(geometry=first.kernel.geometry(vectors.flatten(0, 1)))
        places = None
        if self.surroundings is not None:
            places = self.surroundings(edges[fields.DISPLACEMENTS], edges[fields.FRAMES])
        features = self.first_features(species, edges, places)
        for interaction in self.interactions:
            features = interaction(features, species, neighbors, max_edges)
            yield features

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.compiled = self.compiled_for_training = None  # made for one device and dtype
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process gets: everything but machine code."""
        return {**self.__dict__, "compiled": None, "compiled_for_training": None}

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        return self.node_embedding.species.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.node_embedding.species.device

    @property
    def potential(self) -> Self:
        """This model."""
        return self

    def set_energy_reference(self, energies: Mapping[int, float], provenance: str) -> None:
        """Set the energy of every isolated atom.

        Args:
            energies: E0 (eV) by atomic number; every species of the model.
            provenance: Where they come from; kept in the model file.

        Raises:
            ValueError: A species has no energy.
        """
        missing = [chemical_symbols[z] for z in self.species if z not in energies]
        if missing:
            raise ValueError(
                f"no reference energy (E0) for {', '.join(missing)}: give one for every species of the model"
            )
        values = torch.tensor([float(energies[z]) for z in self.species], dtype=torch.float64)
        self.atomic_energy.reference.copy_(values)
        self.energy_reference_provenance = provenance

    energy_reference_provenance: str = "none (all zero)"

    def reference(self) -> dict[str, Any]:
        """Energies of isolated atoms by element, in eV, and where they come from."""
        symbols = [chemical_symbols[z] for z in self.species]
        values = dict(zip(symbols, self.atomic_energy.reference.tolist(), strict=True))
        return {"values": values, "provenance": self.energy_reference_provenance}

    def take_reference(self, reference: Mapping[str, Any]) -> None:
        """Take over where the energies of isolated atoms come from."""
        self.energy_reference_provenance = str(reference["provenance"])

    def set_scale(self, scale: float) -> None:
        """Set the factor from readouts to eV: the root mean square of the forces (eV/A) is a good one."""
        if not scale > 0:
            raise ValueError(f"the energy scale must be positive; got {scale}")
        self.atomic_energy.scale.fill_(float(scale))

    def set_average_neighbors(self, number: float) -> None:
        """Set the mean number of neighbors, which sums over neighbors are divided by.

        By the number, not its root: radial functions of like neighbors have one sign, so the sums are coherent.
        Numbers less than 4 count as 4: the few neighbors of a small molecule are close, where radial functions are
        largest, and powers of such sums would start a new model with energies of thousands of eV.

        Args:
            number: A mean over atoms that have neighbors, see ``ik_e3nn.graph.average_neighbors``.

        Raises:
            ValueError: The number is not positive and finite.
        """
        divisor = divisor_of_products(number)
        for interaction in self.interactions:
            cast(Interaction, interaction).normalization.fill_(1 / divisor)


def _variables(edges: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What energies are differentiated by, as leaves of a new graph of operations."""
    return {name: edges[name].detach().requires_grad_(True) for name in fields.MOVING if name in edges}


def _gradients(energies: Tensor, variables: Mapping[str, Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
    """Derivatives of the sum of energies."""
    return torch.autograd.grad(
        energies.sum(),
        list(variables.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
