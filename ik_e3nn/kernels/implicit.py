"""The implicit kernel: a G-equivariant MLP of the edge vector and steerable attributes."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis.edge import EdgeBasis
from ik_e3nn.kernels.base import Kernel, TiledFilter
from ik_e3nn.nn import EquivariantBatchNorm, EquivariantLinear
from ik_e3nn.nn.layout import fold, layout, to_blocks
from ik_e3nn.nn.mlp import Activation, hidden_layer
from ik_e3nn.symmetry import SymmetryGroup


class ImplicitKernel(Kernel):
    r"""A kernel whose filter fields are the output of a G-equivariant MLP.

    .. math:: h(r, a) = w(|r|) \; \sigma \circ L_n \circ \dots \circ \sigma \circ L_1 \big( f(r) \oplus a \big)

    with features f and window w from an edge basis. Because the MLP commutes with G, so does the kernel (Lemma 1 of the
    paper). ``depth`` counts the hidden layers; the last linear layer of the MLP is in the convolution. Depth 0 is the
    analytic kernel followed by a linear map to ``irreps_filter``.

    Args:
        irreps_attributes: Type of the attributes a of an edge: scalars (species, bond types, charges) and steerable
            attributes (fields, normals, node features). It may be empty ("").
        irreps_filter: Type of the filter fields h, like "16x0e + 16x1o + 16x2e".
        group: The group G, or its name.
        basis: Features of the edge vector.
        depth: Number of hidden layers.
        activation: "product" and "gate" are exactly equivariant: to rounding, 1e-14 in float64 and 1e-6 in float32.
            Gates are scalars, and a linear layer makes scalars only from what G leaves invariant: under O(3) a gated
            kernel never depends on the angle between r and a vector attribute. "product" does, because it multiplies
            fields first; it takes about twice the time, and needs the same multiplicity for every irrep in
            ``irreps_filter``. If all attributes are scalars and G is O(3) or SO(3), "gate" loses nothing. "sphere",
            used in the paper, depends on angles too, but is exact for subgroups of Oh only. For other groups the
            kernel of a new network violates its symmetry: by 2, 4, 6 and 2 % for l_max of 1, 2, 3 and 4 under O3 and
            SO3, by 1 to 5 % under SO2, Cinfv, D3 or a tilted C5 x Ci, and single values by more (see below).
        grid_degree: Degree of the grid of the sphere activation; see :class:`ik_e3nn.nn.SphereActivation`.
        batch_norm: Normalize f(r) per irrep over the batch, as in the paper. Do not use it for potentials: the energy
            of a structure must not depend on the other structures of a batch.

    The errors of "sphere" were measured for "2x0e + 1o" as attributes, 8 fields of every degree, two hidden layers and
    a Bessel basis of 5 A: the root mean square of h(g r, g a) - D(g) h(r, a) over the root mean square of h, for 64
    standard normal r and a, 8 elements g of the group, and three initializations. A finer grid (``grid_degree``)
    reduces them.

    Reference:
        Zhdanov et al., NeurIPS 2023, sections 3.1-3.3, Lemma 1, appendix B.1.

    Example:
        >>> from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis
        >>> basis = RadialHarmonicBasis(BesselBasis(5.0), l_max=2)
        >>> kernel = ImplicitKernel("4x0e + 1o", "16x0e + 16x1o", "C4v", basis=basis, depth=2)
        >>> kernel(torch.randn(7, 3), torch.randn(7, 7)).shape
        torch.Size([7, 64])
    """

    def __init__(
        self,
        irreps_attributes: o3.Irreps | str,
        irreps_filter: o3.Irreps | str,
        group: SymmetryGroup | str = "O3",
        *,
        basis: EdgeBasis,
        depth: int = 2,
        activation: Activation = "product",
        grid_degree: int | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"depth of a kernel must be 0 (analytic) or more; got {depth}")
        self.irreps_attributes, self.irreps_filter = o3.Irreps(irreps_attributes), o3.Irreps(irreps_filter)
        self.group = SymmetryGroup.from_config(group)
        self.basis = basis
        self.norm = EquivariantBatchNorm(basis.irreps_out, affine=False) if batch_norm else nn.Identity()
        irreps_in = basis.irreps_out + self.irreps_attributes
        types = [irreps_in] + [self.irreps_filter] * depth
        layers = [hidden_layer(t, self.irreps_filter, self.group, activation, grid_degree) for t in types[:-1]]
        self.first, *rest = [part for layer in layers for part in layer] or [
            EquivariantLinear(irreps_in, self.irreps_filter, self.group)
        ]
        self.rest = nn.Sequential(*rest)
        self.irreps_hidden = o3.Irreps(self.first.irreps_out)
        self.blocks_in, self.blocks_hidden = layout(irreps_in), layout(self.irreps_hidden)
        self.dim_hidden, self.dim_filter = self.irreps_hidden.dim, self.irreps_filter.dim

    def from_geometry(
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> TiledFilter:
        """Filter fields; see the base class."""
        features, window = geometry
        if hidden is not None and hidden.shape != (features.shape[0], self.dim_hidden):
            raise ValueError(
                f"hidden must have shape ({features.shape[0]}, {self.dim_hidden}), see irreps_hidden; got "
                f"{tuple(hidden.shape)}"
            )
        inputs = torch.cat([self.norm(features), self.checked(attributes, features)], 1)
        first, rest = fold(self.first), fold(self.rest)

        def fields(inputs: Tensor, window: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
            x = first(to_blocks(inputs, self.blocks_in))
            if hidden is not None:
                shifts = to_blocks(hidden, self.blocks_hidden)
                x = [(a + b) * 0.5**0.5 for a, b in zip(x, shifts, strict=True)]
            return [block * window for block in rest(x)]

        return TiledFilter(fields, (inputs, window) if hidden is None else (inputs, window, hidden), self.dim_filter)
