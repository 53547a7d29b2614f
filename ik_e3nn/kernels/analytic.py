"""The classical kernel: a fixed steerable basis, with no learned layer before the last linear map."""

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.basis.edge import EdgeBasis
from ik_e3nn.kernels.base import Kernel
from ik_e3nn.symmetry import SymmetryGroup


class AnalyticKernel(Kernel):
    r"""A kernel of harmonics times radial functions; for a subgroup of O(3) this is group restriction.

    .. math:: h(r, a) = w(|r|) \, \big( f(r) \oplus a \big)

    Args:
        irreps_attributes: Type of the attributes of an edge. It may be empty ("").
        group: The group G of the convolution, or its name.
        basis: Features of the edge vector.

    Reference:
        Cesa et al., A Program to Build E(N)-Equivariant Steerable CNNs, ICLR 2022; Zhdanov et al., section 3.6.

    Example:
        >>> from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis
        >>> AnalyticKernel("", "SO2", basis=RadialHarmonicBasis(BesselBasis(5.0, 3), 1)).irreps_filter
        3x0e+3x1o
    """

    def __init__(
        self, irreps_attributes: o3.Irreps | str, group: SymmetryGroup | str = "O3", *, basis: EdgeBasis
    ) -> None:
        super().__init__()
        self.irreps_attributes = o3.Irreps(irreps_attributes)
        self.irreps_filter = basis.irreps_out + self.irreps_attributes
        self.irreps_hidden = o3.Irreps()  # there is no layer
        self.group = SymmetryGroup.from_config(group)
        self.basis = basis

    def from_geometry(
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Filter fields; ``hidden`` must be None, because this kernel has no hidden layer."""
        if hidden is not None:
            raise ValueError("an analytic kernel has no hidden layer; got hidden: pass it as attributes instead")
        features, window = geometry
        attributes = self.checked(attributes, features)
        return torch.cat([features, attributes], 1) * window
