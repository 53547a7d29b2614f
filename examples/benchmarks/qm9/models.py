"""The compared models: ours in all variants, and PyG's with the same references and scales."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ik_e3nn.blocks.steerable_settings import SteerableSettings
from ik_e3nn.data import LabeledSet
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.models import MolecularPropertyModel
from ik_e3nn.targets import Target
from ik_e3nn.targets.scale import PropertyScale
from ik_e3nn.training.config.schema import OptimizerConfig

# exactly equivariant, with 33 windows that resolve bonds
NETWORK = SteerableSettings(
    channels=16, num_layers=4, l_max=1, l_filter=2, kernel_depth=1, windows=33, mode="depthwise", norm="node"
)
STANDARD = {"kernel_depth": 0, "conditions": ()}
# the network of the paper in small, with its activation, windows, and batch norm after every convolution
SMALL_PAPER = SteerableSettings(
    channels=8, num_layers=4, kernel_fields=8, l_filter=4, shell=0.87, norm="batch", activation="sphere", grid_degree=15
)
STEPS: dict[str, dict[str, Any]] = {  # the steps of the paper's figure
    "standard kernel": STANDARD | {"windows": 0, "shell": 0.87},  # harmonics times one window, as in the paper
    "implicit kernel": {"conditions": ()},
    "+ bond type": {"conditions": ("bonds",)},
    "+ both atom types": {"conditions": ("bonds", "species")},
}
CONTROLS = {  # standard kernels with the windows of the implicit one; with full mixing they are fewer, for speed
    "standard kernel, windows": dataclasses.replace(NETWORK, **STANDARD),
    "standard kernel, full": dataclasses.replace(NETWORK, **STANDARD, mode="full", windows=9, kernel_fields=10),
}
VARIANTS = CONTROLS | {name: dataclasses.replace(NETWORK, **changes) for name, changes in STEPS.items()}
UNEQUAL = {
    name: dataclasses.replace(SMALL_PAPER, **changes | ({"kernel_fields": 1} if "shell" in changes else {}))
    for name, changes in STEPS.items()
}
BEST = "+ both atom types"
PAPER = SteerableSettings(channels=24, num_layers=11, kernel_fields=16, activation="sphere", grid_degree=7)
STEERABLE = {
    "paper's network": PAPER, **VARIANTS, **{f"unequal {name}": settings for name, settings in UNEQUAL.items()},
}  # fmt: skip
OURS = {"edges": "both", "r_max": 5.0, "potential": {"preset": "medium", "inputs": ["bond_types"]}}
OPTIMIZERS = {
    "ours": OptimizerConfig(lr=0.05, ema_decay=0.995),
    "steerable": OptimizerConfig(lr=0.06, ema_decay=0.995),
    "peer": OptimizerConfig(lr=5e-4, ema_decay=0.995, amsgrad=False),
}


def parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Peer(nn.Module):
    """A network of PyG that predicts numbers of every atom, pooled as each target requires.

    The pooling is a sum for extensive targets and a mean for others; references and scales are as in our model. Edges
    come from the batch, which saves the search in every step.

    Args:
        species: Atomic numbers.
        targets: The targets, all of one number.
    """

    edges = "radius"
    species_table: Tensor

    def __init__(self, species: Sequence[int], targets: Sequence[Target]) -> None:
        super().__init__()
        self.species, self.targets = tuple(species), tuple(targets)
        self.scales = PropertyScale(targets, len(species))
        # makes of a graph what references need; it has a body that is not used
        self.helper = MolecularPropertyModel(species, targets, edges="radius", steerable={"channels": 1})
        self.helper.requires_grad_(False)
        self.summed = [target.by_element for target in targets]

    def atoms(self, graph: dict[str, Tensor]) -> Tensor:
        """Numbers of every atom, (N, targets)."""
        raise NotImplementedError

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Properties by name, like ``MolecularPropertyModel``."""
        molecules = self.helper.molecules(graph)
        values = self.atoms(graph)
        sums, means = molecules.sum(values) * 18**-0.5, molecules.mean(values)
        readouts = {
            t.name: (sums if s else means)[:, k] for k, (t, s) in enumerate(zip(self.targets, self.summed, strict=True))
        }
        return self.scales(readouts, molecules)

    def set_average_neighbors(self, number: float) -> None:
        """Do nothing: these networks do not use it."""


class GivenEdges(nn.Module):
    """Return the edges of the batch, in the form of the neighbor search of SchNet and ViSNet.

    Args:
        loops: Whether atoms are their own neighbors and vectors are returned too.
    """

    def __init__(self, *, loops: bool) -> None:
        super().__init__()
        self.loops, self.edge_index = loops, torch.zeros(2, 0, dtype=torch.long)

    def forward(self, positions: Tensor, batch: Tensor) -> tuple[Tensor, ...]:
        """Edges, lengths and, with loops, vectors."""
        vectors = positions[self.edge_index[0]] - positions[self.edge_index[1]]
        lengths = vectors.norm(dim=1)
        if not self.loops:
            return self.edge_index, lengths
        atoms = torch.arange(len(positions), device=positions.device)
        return (
            torch.cat([self.edge_index, torch.stack([atoms, atoms])], 1),
            torch.cat([lengths, lengths.new_zeros(len(atoms))]),
            torch.cat([vectors, vectors.new_zeros(len(atoms), 3)]),
        )


class Keep(nn.Module):
    """A pooling that returns the numbers of atoms unchanged."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """The same."""
        return x


class SchNetPeer(Peer):
    """``torch_geometric.nn.SchNet`` with its default sizes, and one output per target."""

    def __init__(self, species: Sequence[int], targets: Sequence[Target]) -> None:
        from torch_geometric.nn import SchNet

        super().__init__(species, targets)
        self.given = GivenEdges(loops=False)
        self.network = SchNet(interaction_graph=self.given)
        self.r_max = self.network.cutoff
        self.network.lin2 = nn.Linear(self.network.lin2.in_features, len(targets))
        self.network.readout = Keep()

    def atoms(self, graph: dict[str, Tensor]) -> Tensor:
        """See the base class."""
        self.given.edge_index = graph["edge_index"]
        return self.network(graph["atomic_numbers"], graph["positions"].float(), graph["batch"])


class ViSNetPeer(Peer):
    """``torch_geometric.nn.ViSNet`` with its default sizes, and one output per target."""

    def __init__(self, species: Sequence[int], targets: Sequence[Target]) -> None:
        from torch_geometric.nn.models import ViSNet
        from torch_geometric.nn.models.visnet import GatedEquivariantBlock

        super().__init__(species, targets)
        whole = ViSNet()
        self.network, self.output = whole.representation_model, whole.output_model
        self.given = self.network.distance = GivenEdges(loops=True)
        self.r_max = self.network.cutoff
        half = whole.representation_model.embedding.embedding_dim // 2
        self.output.output_network[1] = GatedEquivariantBlock(half, len(targets), scalar_activation=False)

    def atoms(self, graph: dict[str, Tensor]) -> Tensor:
        """See the base class."""
        self.given.edge_index = graph["edge_index"]
        return self.output.pre_reduce(
            *self.network(graph["atomic_numbers"], graph["positions"].float(), graph["batch"])
        )


PEERS = {"SchNet": SchNetPeer, "ViSNet": ViSNetPeer}


def make(name: str, train: LabeledSet, seed: int) -> nn.Module:
    """A model by its name, with the references of a training set; the same for the same seed."""
    species, targets = train.species, train.targets
    torch.manual_seed(seed)
    if name in STEERABLE:
        model: nn.Module = MolecularPropertyModel(species, targets, edges="bonds", steerable=STEERABLE[name])
    elif name == "ours":
        model = MolecularPropertyModel(species, targets, **OURS)
    else:
        model = PEERS[name](species, targets)
    scales = model.scales
    for column, one in enumerate(fit_references(train, species)):
        scales.per_atom[column] = torch.from_numpy(one.per_atom)
        scales.per_square[column] = torch.from_numpy(one.per_square)
        scales.shift[column], scales.scale[column] = one.shift, one.scale
    return model


def optimizer_of(name: str) -> OptimizerConfig:
    """How a model is trained."""
    return OPTIMIZERS["steerable" if name in STEERABLE else "peer" if name in PEERS else "ours"]
