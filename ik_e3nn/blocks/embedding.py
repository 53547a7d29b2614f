"""What a model knows before its first interaction: species and global inputs on nodes, geometry and bonds on edges."""

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
    r"""A learnable vector of scalars for every species, plus what charge and spin add to it.

    .. math:: x_i = e_{Z_i} + \sum_q q_{b(i)} \, w_{q Z_i}

    Args:
        num_species: Number of species.
        channels: Number of scalars.
        inputs: Which global inputs are used, out of ``total_charge`` and ``spin`` (as 2S, zero for a singlet).

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
    """A learnable G-invariant vector of unit variance for every type of atom or bond.

    Args:
        num_types: Number of types.
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
    """The type of atom or bond that every weight belongs to, in a layer whose input fields are one set a type.

    A layer that sees the fields of one type at a time, times the root of the number of types, has for each of them
    weights of its own that do not depend on how many others there are.

    Args:
        linear: A layer each of whose input blocks holds the fields of the first type, then those of the second, ...
        num_types: Number of types.

    Returns:
        One type a weight.

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
    """Edges in blocks of w with one receiver.

    A place without an edge has a vector longer than the cutoff: it contributes exact zeros.

    Attributes:
        senders: (B, w).
        owners: Receivers of the blocks, (B,), sorted.
        vectors: Edge vectors, (B, w, 3), in A.
        bonds: Bond types, (B, w), or none if the model does not use them.
        geometry: What kernels see of the vectors, if it has been computed for all interactions at once.
    """

    senders: Tensor
    owners: Tensor
    vectors: Tensor
    bonds: Tensor | None
    geometry: tuple[Tensor, ...] | None = None
