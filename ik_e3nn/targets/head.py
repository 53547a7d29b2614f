"""Dimensionless readouts of targets: their inputs and their base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv import segment_sum
from ik_e3nn.nn import EquivariantLinear, ScalarMLP, normalized_silu

TYPICAL_ATOMS = 18.0  # sums over atoms are divided by the root of this number
FAINT = 0.1  # factor of the last weights of vectors at first; with zero, the norm of the vector would have no gradient


class Molecules(NamedTuple):
    """Data of the atoms of a batch for readouts.

    Attributes:
        species: Species indices, (N,).
        batch: Molecule of every atom, (N,).
        sizes: Number of atoms of every molecule, (B,).
        places: Positions relative to the center of nuclear charge, (N, 3), in A.
        local: Positions in dipoles and polarizabilities, (N, 3), in A: relative to local centers, see
            ``local_places``, or the same as ``places`` in models with ``places="center"``.
        charges: Total charges, (B,), if a target needs them.
    """

    species: Tensor
    batch: Tensor
    sizes: Tensor
    places: Tensor
    local: Tensor
    charges: Tensor | None = None

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the atoms of every molecule, (B, ...)."""
        return segment_sum(values, self.batch, self.sizes.shape[0])

    def mean(self, values: Tensor) -> Tensor:
        """Means over the atoms of every molecule, (B, ...)."""
        return self.sum(values) / self.sizes.clamp(min=1).to(values.dtype)[:, None]


class Atomwise(NamedTuple):
    """Output of a body for every atom.

    Attributes:
        features: Steerable features, (N, irreps.dim).
        scalars: Invariants of these features, (N, hidden).
    """

    features: Tensor
    scalars: Tensor


class Head(ExactModule, ABC):
    """Readouts of ``count`` targets of one kind.

    Args:
        irreps_in: Type of the node features.
        hidden: Number of invariants of every atom.
        count: Number of targets.
    """

    mlp: ScalarMLP

    def __init__(self, irreps_in: o3.Irreps, hidden: int, count: int) -> None:
        super().__init__()
        self.irreps_in, self.hidden, self.count = irreps_in, hidden, count

    @abstractmethod
    def forward(self, atoms: Atomwise, molecules: Molecules) -> Tensor:
        """Values of order 1, (B, count, *shape), or (N, count, *shape) if every atom has a value."""

    def take(self, other: Head, sources: Mapping[int, int]) -> None:
        """Copy the hidden layers of another head, which all properties share, and the last weights of some properties.

        Args:
            other: A head of the same class and sizes, for any number of properties.
            sources: Index of each property to copy in this head, and its index in the other.

        Example:
            >>> from ik_e3nn.targets.numbers import SumHead
            >>> one, two = SumHead(o3.Irreps("4x0e"), 4, 2), SumHead(o3.Irreps("4x0e"), 4, 1)
            >>> two.take(one, {0: 1})
            >>> bool((two.mlp.weights[1][:, 0] == one.mlp.weights[1][:, 1]).all())
            True
        """
        given = dict(other.named_parameters())
        shared = {f"mlp.weights.{number}" for number in range(len(self.mlp.weights) - 1)}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name in shared:
                    parameter.copy_(given[name])
                    continue
                # the other weights are matrices (..., count), with one column for each property
                mine, theirs = parameter.view(-1, self.count), given[name].view(-1, other.count)
                for here, there in sources.items():
                    mine[:, here] = theirs[:, there]


class Invariants(nn.Module):
    """Compute invariants of every atom from its steerable features.

    Args:
        irreps_in: Type of the node features.
        hidden: Number of invariants.

    Example:
        >>> Invariants(o3.Irreps("8x0e + 8x1o"), 16)(torch.randn(5, 32)).shape
        torch.Size([5, 16])
    """

    def __init__(self, irreps_in: o3.Irreps, hidden: int) -> None:
        super().__init__()
        self.linear = EquivariantLinear(irreps_in, o3.Irreps([(hidden, "0e")]), bias=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N, hidden)."""
        return normalized_silu(self.linear(features))


def quiet(mlp: ScalarMLP, factor: float = 0.0) -> ScalarMLP:
    """The MLP with its last weights scaled, in place; with factor 0, a new model predicts the reference."""
    with torch.no_grad():
        mlp.weights[-1].mul_(factor)
    return mlp
