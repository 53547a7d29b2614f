"""What every kernel is to a convolution."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.symmetry import SymmetryGroup


class SeparableFilter(NamedTuple):
    r"""Filter fields that are radial numbers times harmonics: :math:`h^c_{lm} = R_{lc} \, Y_{lm}`.

    Attributes:
        radial: (E, l_max+1, channels), window included.
        harmonics: (E, (l_max+1)^2).
    """

    radial: Tensor
    harmonics: Tensor

    def fields(self) -> Tensor:
        """The product, as flat features (E, channels (l_max+1)^2) of ``spherical_irreps(l_max, channels)``."""
        blocks = [
            (self.radial[:, l, :, None] * self.harmonics[:, None, l * l : (l + 1) ** 2]).flatten(1)
            for l in range(self.radial.shape[1])
        ]
        return torch.cat(blocks, 1)


Filter = Tensor | SeparableFilter


class HasMatrix(Protocol):
    """A convolution: anything that turns filter fields into the kernel matrix."""

    def matrix(self, filter_fields: Filter) -> Tensor:
        """(E, dim_out, dim_in) from filter fields (E, dim_filter)."""
        ...


class Kernel(nn.Module, ABC):
    r"""Filter fields :math:`h(r, a)` of every edge; the kernel is a linear function of them.

    .. math:: K(r, a) = L(h(r, a)), \qquad h(g r, g a) = D_h(g) \, h(r, a) \quad \forall g \in G

    The last linear map L belongs to the convolution, which applies it after the sum over neighbors.

    Attributes:
        irreps_attributes: Type of the attributes a.
        irreps_filter: Type of the filter fields h.
        irreps_hidden: Type of the MLP's first layer, to which a caller can add linear maps of more attributes: those
            of nodes are cheaper there, because the map acts once a node and not once an edge.
        group: The symmetry group G.
        basis: What makes features of an edge vector; a kernel without one has a ``geometry`` of its own.
    """

    basis: nn.Module
    irreps_attributes: o3.Irreps
    irreps_filter: o3.Irreps
    irreps_hidden: o3.Irreps
    group: SymmetryGroup

    def geometry(self, edge_vectors: Tensor) -> tuple[Tensor, ...]:
        """What the kernel sees of edge vectors (E, 3), in A: features and window of its basis."""
        result: tuple[Tensor, ...] = self.basis(edge_vectors)
        return result

    @abstractmethod
    def from_geometry(
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> Filter:
        """Filter fields of edges whose geometry is known; see ``forward``."""

    def forward(self, edge_vectors: Tensor, attributes: Tensor | None = None, hidden: Tensor | None = None) -> Filter:
        """Filter fields, (E, irreps_filter.dim) or in factors.

        Args:
            edge_vectors: (E, 3), in A.
            attributes: (E, irreps_attributes.dim).
            hidden: Added to the first layer's output, (E, irreps_hidden.dim).

        Raises:
            ValueError: Vectors or attributes of another shape.
        """
        if edge_vectors.ndim != 2 or edge_vectors.shape[1] != 3:
            raise ValueError(f"edge vectors must have shape (E, 3); got {tuple(edge_vectors.shape)}")
        return self.from_geometry(self.geometry(edge_vectors), attributes, hidden)

    def matrix(self, convolution: HasMatrix, edge_vectors: Tensor, attributes: Tensor | None = None) -> Tensor:
        """The kernel itself, (E, dim_out, dim_in), in a given convolution; for looking at it and for tests."""
        return convolution.matrix(self(edge_vectors, attributes))

    def checked(self, attributes: Tensor | None, like: Tensor) -> Tensor:
        """Attributes as a tensor of the declared type.

        Raises:
            ValueError: Their number does not match ``irreps_attributes``.
        """
        if attributes is None:
            attributes = like.new_zeros(like.shape[0], 0)
        # torch.compile cannot guard irreps, see nn.layout
        if not torch.compiler.is_compiling() and attributes.shape[-1] != self.irreps_attributes.dim:
            raise ValueError(
                f"this kernel takes attributes of type {self.irreps_attributes or '(none)'}, dimension "
                f"{self.irreps_attributes.dim}; got a tensor of shape {tuple(attributes.shape)}"
            )
        return attributes
