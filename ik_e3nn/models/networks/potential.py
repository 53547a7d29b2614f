"""The interatomic potential."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial, reduce
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self, cast

import torch
from ase.data import chemical_symbols
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import spherical_irreps
from ik_e3nn.blocks import AtomicEnergy, Edges, Interaction, NodeEmbedding, Readout, derivatives
from ik_e3nn.blocks.anisotropy import AtomFactors, EdgeInvariants, Factors, Tensors, tensors_of
from ik_e3nn.blocks.embedding import GLOBAL_INPUTS
from ik_e3nn.blocks.face import parse_group, surroundings_of
from ik_e3nn.blocks.interaction import Conditioning, first
from ik_e3nn.blocks.surroundings import PlaceEmbedding, Surroundings
from ik_e3nn.conv import ReceiverBlocks, segment_sum
from ik_e3nn.conv.outer_sums import are_compiled
from ik_e3nn.conv.receivers import WIDTH, pad_row
from ik_e3nn.graph import BOND_NAMES, SURROUNDINGS, edge_vectors, fields
from ik_e3nn.graph.neighbors.coordination import divisor_of_products
from ik_e3nn.models.networks.hyperparameters import (
    KernelFeatures,
    parse_cutoff,
    parse_field_degree,
    parse_inputs,
    parse_kernel_features,
    parse_sizes,
    parse_species,
)
from ik_e3nn.models.networks.interface import Core, Receivers
from ik_e3nn.models.networks.layers import Layered
from ik_e3nn.models.networks.modes import with_gradients
from ik_e3nn.models.networks.reading import species_indices
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.models.networks.tiles import order_in_space, tile_size
from ik_e3nn.symmetry import PlaneGroup, SymmetryGroup
from ik_e3nn.targets import MECHANICS

FIELD_REACH = 2.0  # reach of the external field, in cutoffs; the reach of positions in features is one cutoff
UNITS = {"length": "A", "energy": "eV", "forces": "eV/A", "stress": "eV/A^3"}
PLACE_SHARE = 0.1  # factor of positions in features: with a smaller one training is slower, but overfits less


class InteratomicPotential(StoredModel):
    r"""Predict energy, forces and stress of molecules and materials with implicit steerable kernels.

    .. math:: E = \sum_i E^0_{Z_i} + s \sum_i \sum_t \epsilon_t(x_i^{(t)}), \qquad
              x^{(t+1)} = \mathrm{interaction}_t(x^{(t)})

    In surroundings, an external field :math:`s \, U_{Z_i}(u_i)` is added, which acts on every atom separately; effects
    of the surroundings on interactions between atoms are included through the features. Both are zero at first.

    Layers are those of O(3), or of SO(3) for this and a few other groups of rotations. They see a smaller group by
    tensors that it leaves invariant, see :mod:`ik_e3nn.blocks.anisotropy`; beside a surface with the group "Cinfv" by
    the normal in the features of atoms alone. Far away from the surroundings the potential is isotropic.

    Positions in the surroundings are part of the initial features of atoms, and kernels see these features of both
    atoms: thus every kernel depends on the heights of both ends of its edge, in a smooth bounded basis.

    Args:
        species: Atomic numbers or symbols that the model knows.
        r_max: Cutoff (A).
        preset: Size, "small", "medium" or "large": the defaults of the next five arguments; see ``PRESETS``.
        num_channels: Number of fields of every degree.
        num_layers: Number of interactions.
        l_max: Largest degree of the filters and of the convolved features, which are multiplied.
        l_features: Largest degree of the node features between layers; at most l_max.
        correlation: Number of factors of the convolved features in a message, which has body order correlation + 1.
        group: Symmetry group of the energy, if surroundings (a surface, a field) break rotations: a name, a
            :class:`SymmetryGroup` or its configuration; over a crystal face, a :class:`PlaneGroup` or its
            configuration.
        inputs: Optional inputs of the model, out of "bond_types", "total_charge", "spin", and one of "surface", "wire",
            "site" and "face", if the energy depends on positions in surroundings; see :class:`Surroundings` and
            :class:`ik_e3nn.blocks.face.Face`.
        field_degree: Largest degree of the functions of positions in the external field of a "site" or a "wire". It
            resolves about 3 r / degree across at a distance r from the site: the low degrees that a group needs, which
            are the default, suffice for a small site, but not for the walls of a pocket.
        kernel_features: The features of both atoms that kernels see: "initial" ones, of the species, the charge, the
            spin and the position in surroundings; or the "current" ones before an interaction, of the neighbors too.

    Attributes:
        irreps_features: Types of the features after each interaction; see ``node_features``.
        max_edges: Largest number of edges to treat at once in evaluation. By default the library chooses: on a CPU as
            many as the cache holds; elsewhere there is no bound.

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
    compiled_layers: Mapping[str, Any] | None = None  # for structures in tiles; see ``ik_e3nn.models.compiled.layers``

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
        group: SymmetryGroup | PlaneGroup | str | dict[str, Any] = "O3",
        inputs: Iterable[str] = (),
        field_degree: int | None = None,
        kernel_features: KernelFeatures = "initial",
    ) -> None:
        super().__init__()
        self.species = parse_species(species)
        self.inputs = parse_inputs(inputs)
        self.r_max = parse_cutoff(r_max)
        own_group = parse_group(group, self.inputs)
        self.group = own_group if isinstance(own_group, SymmetryGroup) else own_group.point_group
        given = {
            "num_channels": num_channels, "num_layers": num_layers,
            "l_max": l_max, "l_features": l_features, "correlation": correlation,
        }  # fmt: skip
        sizes = parse_sizes(preset, given)
        self.config: dict[str, Any] = {
            "species": list(self.species), "r_max": self.r_max, **sizes,
            "group": own_group.to_config(), "inputs": sorted(self.inputs),
            "kernel_features": parse_kernel_features(kernel_features),
        }  # fmt: skip
        parse_field_degree(field_degree, self.inputs)
        if field_degree is not None:
            self.config["field_degree"] = field_degree
        num_channels, num_layers, l_max, l_features, correlation = sizes.values()
        table = torch.full((len(chemical_symbols),), -1)
        table[list(self.species)] = torch.arange(len(self.species))
        self.register_buffer("species_table", table, persistent=False)
        global_inputs = tuple(name for name in GLOBAL_INPUTS if name in self.inputs)
        self.node_embedding = NodeEmbedding(len(self.species), num_channels, inputs=global_inputs)
        bonds = len(BOND_NAMES) if fields.BOND_TYPES in self.inputs else 0
        first, n = o3.Irreps([(num_channels, "0e")]), len(self.species)
        self.surroundings: Surroundings | None = None
        self.place_embedding, self.field = None, None
        for kind in self.inputs.intersection(SURROUNDINGS):
            self.surroundings = surroundings_of(kind, own_group)
        in_features = self.surroundings is not None and self.surroundings.in_features
        tensors = Tensors(SymmetryGroup("O3")) if in_features else tensors_of(self.group)
        if self.surroundings is not None:
            first = spherical_irreps(max(l_features, 1), num_channels)
            place = partial(PlaceEmbedding, n, surroundings=self.surroundings, degree=max(tensors.degree, 1))
            self.place_embedding = place(first, reach=self.r_max)
            fine = max(tensors.degree, 1) if field_degree is None else field_degree
            self.field = place("0e", reach=FIELD_REACH * self.r_max, degree=fine)
        invariants = EdgeInvariants(self.group, tensors.degree) if tensors.degree else None
        self.factors = None
        if tensors.degree or tensors.twist:
            self.factors = AtomFactors(
                n, invariants.number if invariants else 0, num_channels if tensors.twist else 0,
                reach=self.r_max, surroundings=self.surroundings, degree=max(tensors.degree, 1),
            )  # fmt: skip
        twist = self.group if tensors.twist else None
        conditioning = Conditioning(n, bonds, self.r_max, l_max, tensors.layers, invariants, twist)
        types = [first] + [spherical_irreps(l_features, num_channels)] * num_layers
        types[-1] = o3.Irreps([(num_channels, "0e")])  # the readout uses only scalars of the last features
        self.irreps_features = types[1:]
        self.interactions = nn.ModuleList(
            Interaction(
                a, b, first if kernel_features == "initial" else a, conditioning=conditioning, correlation=correlation
            )
            for a, b in pairwise(types)
        )
        self.readouts = nn.ModuleList(Readout(t, tensors.layers) for t in types[1:])
        self.atomic_energy = AtomicEnergy(len(self.species))
        self.set_average_neighbors(10.0)  # a typical number, until the number of the training data is set

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
            eV/A^3, NaN if the cell has no volume; ``atomic_virials`` (N, 3, 3) in eV. In training mode all can be
            differentiated with respect to weights; energies computed without forces also with respect to positions.

        Raises:
            UnknownSpeciesError: The graph has an element for which the model was not made.
            MissingInputError: The graph lacks an input of the model.
            DataError: A tensor of the graph has a wrong shape, dtype or index.
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
        """Predictions as returned by ``forward``, from site energies and, for more than energies, their gradients."""
        batch, cell, positions = graph[fields.BATCH], graph[fields.CELL], graph[fields.POSITIONS]
        structures = first(batch, energies.shape[0])  # owned atoms may be fewer than atoms
        out = {fields.ENERGY: segment_sum(energies, structures, cell.shape[0]), fields.ENERGIES: energies}
        if gradients:
            senders, owners = edges[fields.SENDERS].flatten(), edges[fields.OWNERS]
            receivers = owners.repeat_interleave(edges[fields.SENDERS].shape[1])
            gradient, ends = gradients[0].flatten(0, 1).to(positions.dtype), (senders, receivers)
            if forces:
                out[fields.FORCES] = self.forces_of(gradients, edges, positions.dtype)
            if stress or atomic_stress:
                structures = batch.index_select(0, receivers)
                vectors = edges[fields.VECTORS].flatten(0, 1).to(positions.dtype)
                if self.surroundings is None:
                    virials = derivatives.edge_virials(vectors, gradient)
                else:
                    virials = self.surroundings.virials(vectors, gradient, graph, structures)
            if stress:
                out[fields.STRESS] = derivatives.stress(virials, structures, cell)
            if atomic_stress:
                out[fields.ATOMIC_VIRIALS] = derivatives.atomic_virials(virials, *ends, positions.shape[0])
        return out

    def forces_of(self, gradients: Sequence[Tensor], edges: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Forces (N, 3) from derivatives of an energy with respect to edge vectors and, if present, displacements."""
        senders, owners = edges[fields.SENDERS].flatten(), edges[fields.OWNERS]
        receivers = owners.repeat_interleave(edges[fields.SENDERS].shape[1])
        by_edges, *by_places = (gradient.to(dtype) for gradient in gradients)
        forces = derivatives.forces(by_edges.flatten(0, 1), senders, receivers, edges[fields.SPECIES].shape[0])
        for gradient in by_places:
            forces = forces - gradient
        return forces

    def prepare(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs of the network from a graph: species and inputs of atoms, and the edges in blocks of one receiver.

        Empty places of blocks have a vector longer than the cutoff.

        Raises:
            UnknownSpeciesError: The graph has an element for which the model was not made.
            MissingInputError: The graph lacks an input of the model.
            DataError: A tensor of the graph has a wrong shape, dtype or index, or the structure is periodic in a
                direction that the surroundings fix.
        """
        species = species_indices(graph, self.species_table, self.species, self.inputs.difference(SURROUNDINGS))
        batch, edge_index = graph[fields.BATCH], graph[fields.EDGE_INDEX]
        vectors = edge_vectors(
            graph[fields.POSITIONS], edge_index, graph[fields.EDGE_SHIFTS], graph[fields.CELL], batch
        ).to(self.dtype)  # float64 positions are subtracted before rounding
        blocks = ReceiverBlocks.from_receivers(edge_index[1], species.shape[0], self.block_width)
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
            edges |= self.surroundings.prepared(graph, self.dtype)
        if self.is_in_tiles(graph):
            edges[fields.ORDER] = order_in_space(graph[fields.POSITIONS], graph[fields.CELL], batch, self.r_max)
        return edges

    @property
    def sums_in_cpp(self) -> bool:
        """Whether sums over edges are those of C++, not of tensor operations; see ``ik_e3nn.conv.outer_sums``."""
        return not torch.compiler.is_compiling() and are_compiled(self.node_embedding.species, self.config["l_max"] + 1)

    @property
    def block_width(self) -> int:
        """Number of edges in a block: one for sums in C++, which need no blocks, so that no place is empty."""
        return 1 if self.sums_in_cpp else WIDTH

    def is_in_tiles(self, graph: Mapping[str, Tensor]) -> bool:
        """Whether a graph is so large that it is evaluated in tiles, see ``max_edges``; never if it is traced."""
        if self.training or torch.compiler.is_compiling():
            return False
        return tile_size(graph[fields.EDGE_INDEX].shape[1], self.device, self.max_edges) is not None

    def layered(self, edges: Mapping[str, Tensor], receivers: Receivers | None = None) -> Layered | None:
        """The evaluation in tiles, if edges are prepared for it: many edges, for a model in evaluation mode."""
        if self.training or fields.ORDER not in edges:
            return None
        places = edges[fields.SENDERS].numel()
        return Layered(self, edges, tile_size(places, self.device, self.max_edges) or places, receivers)

    def with_features(
        self, edges: Mapping[str, Tensor], *, gradients: bool, create_graph: bool
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        """Site energies, derivatives as in ``energies_and_gradients``, and the features of all interactions, (N, dim).

        Everything comes from one pass, for models that predict further targets from the features.
        """
        layered = None if create_graph else self.layered(edges)
        if layered is not None:
            with torch.no_grad():
                features = list(layered.features())
                energies = self._read(features, edges)
            return energies, layered.gradients(features)[1:] if gradients else (), torch.cat(features, 1)
        with torch.enable_grad() if gradients else nullcontext():
            variables = derivatives.leaves(edges, fields.MOVING) if gradients else {}
            moved = {**edges, **variables}
            features = list(self.node_features(moved))
            energies = self._read(features, moved)
            found = derivatives.gradients(energies.sum(), variables, create_graph=create_graph) if gradients else ()
        whole = torch.cat(features, 1)
        return (energies, found, whole) if create_graph else (energies.detach(), found, whole.detach())

    def energies_and_gradients(
        self, edges: Mapping[str, Tensor], *, create_graph: bool, receivers: Receivers | None = None
    ) -> tuple[Tensor, ...]:
        """Site energies (N,), in eV, float64, and the derivatives of their sum, in eV/A.

        The derivatives are with respect to edge vectors, (K, w, 3), and, in surroundings, to displacements, (N, 3).
        With ``receivers``, energies are those of the owned atoms only.
        """
        layered = None if create_graph else self.layered(edges, receivers)
        if layered is not None:
            return layered.energies_and_gradients()
        core = self.compiled_for_training if create_graph else self.compiled
        if core is not None and receivers is None:
            return core(edges)
        with torch.enable_grad():
            variables = derivatives.leaves(edges, fields.MOVING)
            energies = self.site_energies({**edges, **variables}, receivers)
            gradients = derivatives.gradients(energies.sum(), variables, create_graph=create_graph)
        return energies if create_graph else energies.detach(), *gradients

    def site_energies(self, edges: Mapping[str, Tensor], receivers: Receivers | None = None) -> Tensor:
        """Energy of every atom (N,), or of every owned atom, in eV, float64, from the output of ``prepare``."""
        owned = None if receivers is None else receivers.counts[-1]
        return self._read(self.node_features(edges, receivers), edges, owned)

    def _read(self, features: Iterable[Tensor], edges: Mapping[str, Tensor], owned: int | None = None) -> Tensor:
        """Site energies from the features after each interaction."""
        parts = (self.readout(layer, first(x, owned), edges) for layer, x in enumerate(features))
        energies: Tensor = self.atomic_energy(reduce(torch.add, parts), first(edges[fields.SPECIES], owned))
        return energies

    def readout(self, layer: int, features: Tensor, edges: Mapping[str, Tensor]) -> Tensor:
        """What is read from the features (R, dim) of the first R atoms after an interaction, (R,).

        After the first interaction it includes the external field of the surroundings.
        """
        readout: Tensor = self.readouts[layer](features)
        if layer == 0 and self.surroundings is not None and self.field is not None:
            count = features.shape[0]
            places = self.surroundings.places(edges, count)
            readout = self.field(places, edges[fields.SPECIES][:count]).squeeze(1) + readout
        return readout

    def last_layer(self, edges: Mapping[str, Tensor]) -> Tensor:
        r"""Features on which site energies depend linearly, (N, K), float64, in eV.

        .. math:: E_i = E^0_{Z_i} + s \, U_{Z_i}(u_i) + \sum_k \phi_{ik} w_k

        with w the weights of the last layers of the readouts, ``last_weights``, which are initialized with standard
        normal numbers. The second term is present only in surroundings.
        """
        parts = [self.last_layer_of(layer, features) for layer, features in enumerate(self.node_features(edges))]
        return torch.cat(parts, 1)

    def last_layer_of(self, layer: int, features: Tensor) -> Tensor:
        """The part of ``last_layer`` that is read from the features (N, dim) after an interaction."""
        read = cast(Readout, self.readouts[layer])
        return self.atomic_energy.scale * (read.hidden(features) * read.mlp.sizes[-2] ** -0.5).double()

    @property
    def last_weights(self) -> Tensor:
        """Weights of the last layers of the readouts, (K,)."""
        return torch.cat([cast(Readout, read).mlp.weights[-1].flatten() for read in self.readouts])

    def first_features(self, species: Tensor, inputs: Mapping[str, Tensor], places: Tensor | None) -> Tensor:
        """Features of atoms (N, dim) before the first interaction, from inputs and positions (N, 3) in surroundings."""
        features: Tensor = self.node_embedding(species, inputs)
        if self.place_embedding is not None and places is not None:
            added = self.place_embedding(places, species)
            features = nn.functional.pad(features, (0, added.shape[1] - features.shape[1])) + PLACE_SHARE * added
        return features

    def initial_features(self, edges: Mapping[str, Tensor]) -> Tensor:
        """Features of atoms (N, dim) before the first interaction, from the output of ``prepare``."""
        return self.first_features(edges[fields.SPECIES], edges, self.places(edges))

    def seen(self, initial: Tensor, current: Tensor) -> Tensor:
        """The features of atoms that kernels see, of those that are initial and current."""
        return initial if self.config["kernel_features"] == "initial" else current

    def places(self, edges: Mapping[str, Tensor]) -> Tensor | None:
        """Positions of atoms in the surroundings, (N, 3), if there are any, from the output of ``prepare``."""
        return None if self.surroundings is None else self.surroundings.places(edges)

    def factors_of(self, edges: Mapping[str, Tensor]) -> Factors | None:
        """Factors of atoms for groups that layers see by tensors, from the output of ``prepare``."""
        return None if self.factors is None else self.factors(edges[fields.SPECIES], self.places(edges))

    def neighbors(self, edges: Mapping[str, Tensor]) -> Edges:
        """The edges of interactions, with vectors in the frames of the surroundings, from the output of ``prepare``."""
        vectors = edges[fields.VECTORS]
        if self.surroundings is not None:
            vectors = vectors @ edges[fields.FRAMES].index_select(0, edges[fields.OWNERS]).mT
        return Edges(edges[fields.SENDERS], edges[fields.OWNERS], vectors, edges.get(fields.BONDS))

    def node_features(self, edges: Mapping[str, Tensor], receivers: Receivers | None = None) -> Iterator[Tensor]:
        """Features of atoms after each interaction, (N, its irreps_out.dim), from the output of ``prepare``.

        With ``receivers``, each interaction computes only as many of the first atoms as they say. Where gradients are
        enabled, all edges are treated at once, so that the features can be differentiated any number of times.
        """
        layered = None if torch.is_grad_enabled() else self.layered(edges, receivers)
        if layered is not None:
            yield from layered.features()
            return
        species, neighbors, features = edges[fields.SPECIES], self.neighbors(edges), self.initial_features(edges)
        initial = features
        first = cast(Interaction, self.interactions[0])  # all kernels share the geometry
        neighbors = neighbors._replace(geometry=first.geometry(neighbors.vectors.flatten(0, 1)))
        factors = self.factors_of(edges)
        counts = (None,) * len(self.interactions) if receivers is None else receivers.counts
        for layer, (interaction, count) in enumerate(zip(self.interactions, counts, strict=True)):
            if receivers is not None and layer > 0:
                if receivers.exchange is not None:
                    features = receivers.exchange(features)
                else:  # a halo, which becomes smaller with each interaction
                    neighbors = neighbors.of_first(receivers.counts[layer])
                    species, initial = species[: features.shape[0]], initial[: features.shape[0]]
                    factors = None if factors is None else factors.of(slice(features.shape[0]))
            features = interaction(features, self.seen(initial, features), species, neighbors, count, factors)
            yield features

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.compiled = self.compiled_for_training = self.compiled_layers = None  # compiled for one device and dtype
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and other processes, without machine code."""
        return {**self.__dict__, "compiled": None, "compiled_for_training": None, "compiled_layers": None}

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
            energies: E0 (eV) by atomic number, for every species of the model.
            provenance: Origin of the energies; stored in the model file.

        Raises:
            ValueError: A species has no energy.
        """
        missing = [chemical_symbols[z] for z in self.species if z not in energies]
        if missing:
            raise ValueError(
                f"there is no reference energy (E0) for {', '.join(missing)}: give one for every species of the model"
            )
        values = torch.tensor([float(energies[z]) for z in self.species], dtype=torch.float64)
        self.atomic_energy.reference.copy_(values)
        self.energy_reference_provenance = provenance

    energy_reference_provenance: str = "none (all zero)"

    def reference(self) -> dict[str, Any]:
        """Energies of isolated atoms by element, in eV, and their origin."""
        symbols = [chemical_symbols[z] for z in self.species]
        values = dict(zip(symbols, self.atomic_energy.reference.tolist(), strict=True))
        return {"values": values, "provenance": self.energy_reference_provenance}

    def take_reference(self, reference: Mapping[str, Any]) -> None:
        """Restore the origin of the energies of isolated atoms."""
        self.energy_reference_provenance = str(reference["provenance"])

    def set_scale(self, scale: float) -> None:
        """Set the factor from readouts to eV; the root mean square of the forces (eV/A) is a good choice."""
        if not scale > 0:
            raise ValueError(f"the energy scale must be positive; got {scale}")
        self.atomic_energy.scale.fill_(float(scale))

    def set_average_neighbors(self, number: float) -> None:
        """Set the mean number of neighbors, by which sums over neighbors are divided.

        The divisor is the number and not its root, because radial functions of similar neighbors have the same sign.
        Numbers below 4 count as 4: the few neighbors of a small molecule are close, where radial functions are largest,
        and with powers of such sums an untrained model would predict energies of thousands of eV.

        Args:
            number: Mean over the atoms that have neighbors; see ``ik_e3nn.graph.average_neighbors``.

        Raises:
            ValueError: The number is not positive and finite.
        """
        divisor = divisor_of_products(number)
        for interaction in self.interactions:
            cast(Interaction, interaction).normalization.fill_(1 / divisor)
