"""Products of steerable features, taken as functions on the sphere."""

from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import harmonics, spherical_irreps
from ik_e3nn.basis.sphere import sphere_grid
from ik_e3nn.constants import ExactModule
from ik_e3nn.nn.layout import from_components, layout, to_components
from ik_e3nn.nn.linear import EquivariantLinear
from ik_e3nn.nn.tensor_product import channels


class SphereProduct(ExactModule):
    r"""Sum of powers of features, with the products taken point by point on the sphere.

    .. math:: y = \sum_{k=1}^{n} L_k \, Y^T_{out} w \prod_{i=1}^{k} (Y U_i x), \qquad
              (Y)_{g,lm} = Y_{lm}(\omega_g)

    U and L are linear maps of the channels, so that different functions are multiplied. The quadrature weights w are
    exact for the degree of the product, so this is no approximation: it equals the Clebsch-Gordan products with an even
    sum of degrees, with one common weight for all paths of a channel. A product of n factors takes n transforms to the
    grid, whereas the number of coupling constants of all paths would grow as the 2n-th power of the degree.

    Args:
        irreps_in: Type of x: one multiplicity of every spherical harmonic up to some degree.
        irreps_out: Type of y, of the same kind.
        correlation: Number of factors n, at least 1.

    Reference:
        Luo et al., Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products, ICLR 2024.

    Example:
        >>> SphereProduct("8x0e + 8x1o", "4x0e + 4x1o", correlation=3)(torch.randn(5, 32)).shape
        torch.Size([5, 16])
    """

    to_grid: Tensor

    def __init__(self, irreps_in: o3.Irreps | str, irreps_out: o3.Irreps | str, *, correlation: int = 2) -> None:
        super().__init__()
        irreps_in, irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        mul, mul_out = channels(irreps_in, "irreps_in"), channels(irreps_out, "irreps_out")
        l_in, l_out = irreps_in.lmax, irreps_out.lmax
        for irreps, m, l in ((irreps_in, mul, l_in), (irreps_out, mul_out, l_out)):
            if irreps != spherical_irreps(l, m):
                raise ValueError(
                    f"functions on the sphere need every harmonic equally often, like {spherical_irreps(l, m)}; "
                    f"got {irreps}"
                )
        if correlation < 1:
            raise ValueError(f"a product needs at least 1 factor; got correlation={correlation}")
        self.irreps_in, self.irreps_out, self.correlation = irreps_in, irreps_out, correlation
        self.blocks_in, self.blocks_out = layout(irreps_in), layout(irreps_out)
        projected = spherical_irreps(l_out, mul)
        self.factors = (
            EquivariantLinear(irreps_in, spherical_irreps(l_in, mul * correlation)) if correlation > 1 else None
        )
        self.linear = nn.ModuleList(
            EquivariantLinear(irreps_in if k == 0 else projected, irreps_out) for k in range(correlation)
        )
        points, weights = sphere_grid(correlation * l_in + l_out)
        Y = harmonics(points, l_in) / (l_in + 1)  # unit variance at every point for components of unit variance
        self.register_exact("to_grid", Y)
        Y_out = (weights[:, None] * harmonics(points, l_out)).T
        for k in range(2, correlation + 1):  # every component of a product of k independent factors has unit variance
            variance = ((Y_out @ (Y @ Y.T) ** k) * Y_out).sum(1, keepdim=True)
            self.register_exact(f"from_grid_{k}", Y_out * torch.where(variance > 1e-9, variance, torch.inf).rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N, irreps_out.dim)."""
        return from_components(self.on_components(to_components(x, self.blocks_in)), self.blocks_out)

    def on_components(self, x: Tensor) -> Tensor:
        """Map (M_in, N, C_in) to (M_out, N, C_out), components first."""
        nodes, mul = x.shape[1:]
        first, *others = cast(list[EquivariantLinear], list(self.linear))
        y = first.on_components(x)
        if self.factors is None:
            return y
        factors = (self.to_grid @ self.factors.on_components(x).flatten(1)).view(
            len(self.to_grid), nodes, self.correlation, mul
        )
        product, *more = factors.unbind(2)
        for k, (linear, factor) in enumerate(zip(others, more, strict=True), start=2):
            product = product * factor
            projected = getattr(self, f"from_grid_{k}") @ product.flatten(1)
            y = y + linear.on_components(projected.view(len(projected), nodes, mul))
        return y * self.correlation**-0.5
