"""The interface between kernels and convolutions."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.nn.layout import from_components
from ik_e3nn.symmetry import SymmetryGroup


class TiledFilter(NamedTuple):
    """Filter fields that a convolution computes tile by tile, for a few edges at a time.

    A tile stays in the cache from the kernel's first layer to the sum over neighbors, and no tensor with the fields of
    all edges is stored.

    Attributes:
        function: Computes the fields of n edges from their rows, with components first: one (2l+1, n, multiplicity) for
            each irrep.
        rows: What the fields depend on, with one row for each of the E edges; rows of zeros give fields of zeros.
        dim: Dimension of the fields of an edge.
    """

    function: Callable[..., list[Tensor]]
    rows: tuple[Tensor, ...]
    dim: int

    def fields(self) -> Tensor:
        """The fields of all edges, as flat features (E, dimension of the fields)."""
        return from_components(self.function(*self.rows))


class SeparableFilter(NamedTuple):
    r"""Filter fields that are products of radial functions and harmonics: :math:`h^c_{lm} = R_{lc} \, Y_{lm}`.

    Attributes:
        radial: R, including the window, (E, l_max+1, channels).
        harmonics: Y, (E, (l_max+1)^2).
    """

    radial: Tensor
    harmonics: Tensor

    def fields(self) -> Tensor:
        """The products, as flat features (E, channels (l_max+1)^2) of ``spherical_irreps(l_max, channels)``."""
        return self.tiled().fields()

    def tiled(self) -> TiledFilter:
        """The products, computed tile by tile."""
        return TiledFilter(_products, tuple(self), self.radial.shape[2] * self.harmonics.shape[1])


def _products(radial: Tensor, harmonics: Tensor) -> list[Tensor]:
    """Radial functions (n, l_max+1, C) times harmonics (n, (l_max+1)^2), one (2l+1, n, C) for each degree l."""
    Y = harmonics.T[:, :, None].split([2 * l + 1 for l in range(radial.shape[1])])
    return [y * R for y, R in zip(Y, radial.unbind(1), strict=True)]


Filter = Tensor | SeparableFilter | TiledFilter


class HasMatrix(Protocol):
    """A convolution, which can turn filter fields into the kernel matrix."""

    def matrix(self, filter_fields: Filter) -> Tensor:
        """Kernel matrix (E, dim_out, dim_in) of the filter fields of E edges."""
        ...


class Kernel(nn.Module, ABC):
    r"""Filter fields :math:`h(r, a)` of every edge; the kernel is a linear function of them.

    .. math:: K(r, a) = L(h(r, a)), \qquad h(g r, g a) = D_h(g) \, h(r, a) \quad \forall g \in G

    The last linear map L belongs to the convolution, which applies it after the sum over neighbors.

    Attributes:
        irreps_attributes: Type of the attributes a.
        irreps_filter: Type of the filter fields h.
        irreps_hidden: Type of the first layer of the MLP, to which a caller can add linear maps of further attributes.
            This is cheaper for attributes of nodes, because the map is applied once per node and not once per edge.
        group: The symmetry group G.
        basis: Computes the features of an edge vector; a kernel without a basis overrides ``geometry``.
    """

    basis: nn.Module
    irreps_attributes: o3.Irreps
    irreps_filter: o3.Irreps
    irreps_hidden: o3.Irreps
    group: SymmetryGroup

    def geometry(self, edge_vectors: Tensor) -> tuple[Tensor, ...]:
        """Features and window of the basis for edge vectors (E, 3), in A."""
        result: tuple[Tensor, ...] = self.basis(edge_vectors)
        return result

    @abstractmethod
    def from_geometry(
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> Filter:
        """Filter fields of edges from the result of ``geometry``; see ``tiled``."""

    def forward(
        self, edge_vectors: Tensor, attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor | SeparableFilter:
        """Filter fields of edges, for inspecting them or for several convolutions; otherwise take ``tiled``.

        Args:
            edge_vectors: (E, 3), in A.
            attributes: (E, irreps_attributes.dim).
            hidden: Added to the output of the first layer, (E, irreps_hidden.dim).

        Returns:
            (E, irreps_filter.dim), or the factors of a :class:`SeparableFilter`.

        Raises:
            ValueError: The vectors or attributes have another shape.
        """
        h = self.tiled(edge_vectors, attributes, hidden)
        return h.fields() if isinstance(h, TiledFilter) else h

    def tiled(self, edge_vectors: Tensor, attributes: Tensor | None = None, hidden: Tensor | None = None) -> Filter:
        """Filter fields of edges for one convolution, which computes them tile by tile if it can.

        The result of the convolution is the same as with ``forward``; it takes less time and memory. The arguments are
        those of ``forward``.
        """
        if edge_vectors.ndim != 2 or edge_vectors.shape[1] != 3:
            raise ValueError(f"edge vectors must have shape (E, 3); got {tuple(edge_vectors.shape)}")
        return self.from_geometry(self.geometry(edge_vectors), attributes, hidden)

    def matrix(self, convolution: HasMatrix, edge_vectors: Tensor, attributes: Tensor | None = None) -> Tensor:
        """The kernel matrix (E, dim_out, dim_in) in a given convolution, for tests and for inspecting kernels."""
        return convolution.matrix(self.tiled(edge_vectors, attributes))

    def checked(self, attributes: Tensor | None, like: Tensor) -> Tensor:
        """Attributes (E, irreps_attributes.dim); a tensor without columns for None.

        Raises:
            ValueError: Their dimension is not that of ``irreps_attributes``.
        """
        if attributes is None:
            attributes = like.new_zeros(like.shape[0], 0)
        # torch.compile cannot guard irreps, see nn.layout
        if not torch.compiler.is_compiling() and attributes.shape[-1] != self.irreps_attributes.dim:
            raise ValueError(
                f"this kernel needs attributes of type {self.irreps_attributes or '(none)'}, dimension "
                f"{self.irreps_attributes.dim}; got a tensor of shape {tuple(attributes.shape)}"
            )
        return attributes
