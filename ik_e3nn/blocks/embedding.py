"""Inputs of the first interaction: species and global inputs of nodes, geometry and bonds of edges."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.graph import fields
from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup

GLOBAL_INPUTS = (fields.TOTAL_CHARGE, fields.SPIN)


class NodeEmbedding(nn.Module):
    r"""A learnable vector of scalars for every species, plus linear terms in the charge and spin of the structure.

    .. math:: x_i = e_{Z_i} + \sum_q q_{b(i)} \, w_{q Z_i}

    Args:
        num_species: Number of species.
        channels: Number of scalars.
        inputs: Global inputs to use, out of ``total_charge`` and ``spin`` (as 2S, zero for a singlet).

    Example:
        >>> NodeEmbedding(3, 8)(torch.tensor([0, 2]), {}).shape
        torch.Size([2, 8])
    """

    def __init__(self, num_species: int, channels: int, *, inputs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.inputs = inputs
        self.species = nn.Parameter(torch.randn(num_species, channels))
        self.responses = nn.ParameterDict({name: nn.Parameter(torch.randn(num_species, channels)) for name in inputs})

    def forward(self, species: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Scalars (N, channels) from species indices (N,) and the global inputs, (N,) each."""
        x = self.species.index_select(0, species)
        for name in self.inputs:
            value = inputs[name].to(x.dtype) - (1.0 if name == fields.SPIN else 0.0)
            x = x + value[:, None] * self.responses[name].index_select(0, species)
        return x


class TypeEmbedding(ExactModule):
    """A learnable G-invariant vector of unit variance for every species or bond type.

    Args:
        num_types: Number of species or bond types.
        irreps: Type of the vectors.
        group: The group G.

    Example:
        >>> TypeEmbedding(3, "4x0e + 1o", SymmetryGroup("Cinfv"))().shape
        torch.Size([3, 7])
    """

    one_hot: Tensor

    def __init__(self, num_types: int, irreps: o3.Irreps | str, group: SymmetryGroup) -> None:
        super().__init__()
        self.linear = EquivariantLinear(o3.Irreps([(num_types, "0e")]), irreps, group)
        self.register_exact("one_hot", num_types**0.5 * torch.eye(num_types, dtype=torch.float64))

    def forward(self) -> Tensor:
        """All vectors, (num_types, irreps.dim)."""
        result: Tensor = self.linear(self.one_hot)
        return result


def types_of_weights(linear: EquivariantLinear, num_types: int) -> Tensor:
    """The species or bond type that every weight belongs to, in a layer with separate input fields for every type.

    If such a layer gets the fields of one type at a time, multiplied by the root of the number of types, the weights of
    one type do not depend on the number of the others.

    Args:
        linear: A layer whose input blocks each hold the fields of the first type, then those of the second, and so on.
        num_types: Number of types.

    Returns:
        Index of the type of every weight, (number of weights,).

    Example:
        >>> types_of_weights(EquivariantLinear("3x0e", "2x0e"), 3)
        tensor([0, 0, 1, 1, 2, 2])
    """
    parts = []
    for blocks, columns in linear.weight_matrices():
        fields_of = [linear.irreps_in[i].mul // num_types for i in blocks]
        parts += [torch.arange(num_types).repeat_interleave(number * columns) for number in fields_of]
    return torch.cat(parts)


class Edges(NamedTuple):
    """Edges in blocks of w edges with one receiver.

    An empty place has a vector longer than the cutoff, so that it contributes exact zeros.

    Attributes:
        senders: Sender of the edge in every place, (B, w).
        owners: Receiver of every block, (B,), sorted.
        vectors: Edge vectors, (B, w, 3), in A.
        bonds: Bond types, (B, w); None if the model does not use them.
        geometry: Geometry of the vectors for kernels, if it is computed once for all interactions.
    """

    senders: Tensor
    owners: Tensor
    vectors: Tensor
    bonds: Tensor | None
    geometry: tuple[Tensor, ...] | None = None

    def of_first(self, num_receivers: int) -> "Edges":
        """The edges whose receivers are among the first atoms."""
        count = int(torch.searchsorted(self.owners, num_receivers))
        part, rows = slice(count), slice(count * self.senders.shape[1])
        return Edges(
            self.senders[part],
            self.owners[part],
            self.vectors[part],
            None if self.bonds is None else self.bonds[part],
            None if self.geometry is None else tuple(tensor[rows] for tensor in self.geometry),
        )
