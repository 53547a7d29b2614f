"""What a model knows before its first interaction: species and global inputs on nodes, geometry and bonds on edges."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ik_e3nn.basis import distances, harmonics
from ik_e3nn.conv import ReceiverBlocks
from ik_e3nn.graph import BOND_NAMES, fields

GLOBAL_INPUTS = (fields.TOTAL_CHARGE, fields.SPIN)


class NodeEmbedding(nn.Module):
    r"""A learnable vector of scalars for every species, plus what charge and spin add to it.

    .. math:: x_i = e_{Z_i} + \sum_q q_{b(i)} \, w_{q Z_i}

    Args:
        num_species: Number of species.
        channels: Number of scalars.
        inputs: Which global inputs are used, out of ``total_charge`` and ``spin`` (as 2S, zero for a singlet).

    Example:
        >>> NodeEmbedding(3, 8)(torch.tensor([0, 2]), {}, torch.zeros(2, dtype=torch.long)).shape
        torch.Size([2, 8])
    """

    def __init__(self, num_species: int, channels: int, *, inputs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.inputs = inputs
        self.species = nn.Parameter(torch.randn(num_species, channels))
        self.responses = nn.ParameterDict({name: nn.Parameter(torch.randn(num_species, channels)) for name in inputs})

    def forward(self, species: Tensor, graph: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        """Scalars (N, channels) from species indices (N,)."""
        x = self.species.index_select(0, species)
        for name in self.inputs:
            value = graph[name].to(x.dtype) - (1.0 if name == fields.SPIN else 0.0)
            x = x + value[batch, None] * self.responses[name].index_select(0, species)
        return x


class EdgeContext(NamedTuple):
    """Everything about the edges that all interactions share.

    Attributes:
        edge_index: Senders and receivers, (2, E).
        vectors: Edge vectors, (E, 3), in A.
        lengths: (E, 1), in A.
        harmonics: (E, (l_max+1)^2).
        bonds: One-hot bond types, (E, 5); or (E, 0) if the model does not use them.
        blocks: Edges grouped by receiver.
    """

    edge_index: Tensor
    vectors: Tensor
    lengths: Tensor
    harmonics: Tensor
    bonds: Tensor
    blocks: ReceiverBlocks


class EdgeEmbedding(nn.Module):
    """Geometry and bond types of edges.

    Args:
        l_max: Largest degree of the harmonics.
        use_bonds: Whether kernels see bond types.

    Example:
        >>> context = EdgeEmbedding(1)(torch.randn(2, 3), torch.tensor([[0, 1], [1, 0]]), None, 2)
        >>> context.harmonics.shape
        torch.Size([2, 4])
    """

    def __init__(self, l_max: int, *, use_bonds: bool = False) -> None:
        super().__init__()
        self.l_max = l_max
        self.num_bond_types = len(BOND_NAMES) if use_bonds else 0

    def forward(self, vectors: Tensor, edge_index: Tensor, bond_types: Tensor | None, num_nodes: int) -> EdgeContext:
        """The context of edges with vectors (E, 3)."""
        bonds = vectors.new_zeros(vectors.shape[0], self.num_bond_types)
        if self.num_bond_types and bond_types is not None:
            bonds = nn.functional.one_hot(bond_types, self.num_bond_types).to(vectors.dtype)
        return EdgeContext(
            edge_index=edge_index,
            vectors=vectors,
            lengths=distances(vectors),
            harmonics=harmonics(vectors, self.l_max),
            bonds=bonds,
            blocks=ReceiverBlocks.from_receivers(edge_index[1], num_nodes),
        )
