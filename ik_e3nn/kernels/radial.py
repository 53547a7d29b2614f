"""The implicit kernel of O(3) or SO(3) with scalar attributes, which learns radial functions."""

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.basis import (
    BesselBasis,
    BondBasis,
    GaussianBasis,
    Harmonics,
    distances,
    smooth_envelope,
    spherical_irreps,
)
from ik_e3nn.kernels.base import Kernel, SeparableFilter
from ik_e3nn.nn import ScalarMLP
from ik_e3nn.symmetry import SymmetryGroup


class RadialKernel(Kernel):
    r"""A kernel of harmonics times an MLP of the distance and scalar attributes.

    .. math:: h^c_{lm}(r, a) = u(|r|/r_{max}) \, \mathrm{MLP}_{lc}\big(b(|r|), a\big) \, Y_{lm}(r/|r|)

    Every O(3)-equivariant function of one vector and scalars with values in irrep (l, (-1)^l) is of this form. In this
    case the kernel is a fast :class:`ImplicitKernel` without approximation (Zhdanov et al., end of section 4).

    Args:
        irreps_attributes: Type of the attributes of an edge: scalars, like "4x0e". It may be empty ("").
        channels: Number of fields of every l.
        radial: Basis of functions of the distance; its r_max is the cutoff.
        l_max: Largest degree.
        hidden: Sizes of the hidden layers of the MLP. Without any, the kernel is the standard one, with linear
            combinations of the radial functions.
        group: O(3), or SO(3) for convolutions that can distinguish mirror images.

    Raises:
        ValueError: The group is another one, or an attribute is not a scalar: their kernels are not of this form.

    Example:
        >>> kernel = RadialKernel("4x0e", 32, radial=BesselBasis(5.0), l_max=1)
        >>> kernel(torch.randn(7, 3), torch.randn(7, 4)).fields().shape
        torch.Size([7, 128])
    """

    def __init__(
        self,
        irreps_attributes: o3.Irreps | str,
        channels: int,
        *,
        radial: BesselBasis | BondBasis | GaussianBasis,
        l_max: int = 2,
        hidden: Sequence[int] = (64,),
        group: SymmetryGroup | str = "O3",
    ) -> None:
        super().__init__()
        self.irreps_attributes = o3.Irreps(irreps_attributes)
        self.irreps_filter = spherical_irreps(l_max, channels)
        self.group = SymmetryGroup.from_config(group)
        if not self.group.is_isotropic:
            raise ValueError(f"a radial kernel needs O(3) or SO(3); got {self.group}: use an ImplicitKernel instead")
        if any(ir != o3.Irrep("0e") for _, ir in self.irreps_attributes):
            raise ValueError(
                f"attributes of a radial kernel must be scalars, like 4x0e; got {self.irreps_attributes}: use an "
                "ImplicitKernel instead"
            )
        self.radial, self.l_max, self.channels = radial, l_max, channels
        self.harmonics = Harmonics(l_max)
        self.mlp = ScalarMLP([radial.num_basis + self.irreps_attributes.dim, *hidden, (l_max + 1) * channels])
        self.irreps_hidden = o3.Irreps([(self.mlp.sizes[1], "0e")])

    def geometry(self, edge_vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Radial functions (E, num_basis), window (E, 1) and harmonics (E, (l_max+1)^2)."""
        lengths = distances(edge_vectors)
        Y = self.harmonics(edge_vectors / torch.where(lengths == 0, 1.0, lengths))
        return self.radial(lengths), smooth_envelope(lengths / self.radial.r_max), Y

    def from_geometry(
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> SeparableFilter:
        """Filter fields; see the base class."""
        shells, window, Y = geometry
        attributes = self.checked(attributes, shells)
        weights = self.mlp(torch.cat([shells, attributes], 1), hidden) * window
        return SeparableFilter(weights.unflatten(1, (self.l_max + 1, self.channels)), Y)
