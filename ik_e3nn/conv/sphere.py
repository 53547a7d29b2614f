r"""Convolution of signals on the sphere.

A convolution over rotations depends only on the part of the kernel h that is symmetric about the pole:

.. math:: (f * h)(x) = \int_{SO(3)} f(g\eta) \, h(g^{-1} x) \, dg

*Derivation of the constant.* Write every rotation as :math:`g = R(\omega) R_\eta(\gamma)`, where :math:`R(\omega)`
takes the pole :math:`\eta` to :math:`\omega`, and the measure as :math:`dg = d\omega \, d\gamma`, of volume
:math:`8\pi^2`. Then
:math:`f(g\eta) = f(\omega)`, and the integral over :math:`\gamma` replaces h by :math:`2\pi` times its mean about the
pole, :math:`\sum_l h_{l0} Y_{l0}`. For harmonics that are orthonormal in :math:`d\omega`,
:math:`Y_{l0} = \sqrt{(2l+1)/4\pi} \, P_l`, and the addition theorem says
:math:`P_l(\omega \cdot x) = \tfrac{4\pi}{2l+1} \sum_m Y_{lm}(\omega) Y_{lm}(x)`. Hence

.. math:: (f * h)(x) = 2\pi \sum_l h_{l0} \sqrt{\tfrac{2l+1}{4\pi}} \; \tfrac{4\pi}{2l+1} \sum_m f_{lm} Y_{lm}(x)
          \quad\Rightarrow\quad (f * h)_{lm} = 2\pi \sqrt{\tfrac{4\pi}{2l+1}} \, f_{lm} h_{l0}

which is Driscoll and Healy's theorem 1. Some texts give the factor :math:`\sqrt{16\pi^3/(2l+2)}`, with 2l+2 instead of
2l+1, which is wrong for every l (already for l = 0, where both sides are plain integrals:
:math:`8\pi^2 \bar f \bar h`). Here harmonics have mean square 1 over the sphere ("component") and the group has volume
1. Both only rescale, and the result is

.. math:: (f * h)_{lm} = \frac{1}{\sqrt{2l+1}} \, f_{lm} h_{l0}

The pole is the polar axis of e3nn, (0, 1, 0). A zonal convolution of many channels is thus one matrix for every degree,
the same as an O(3)-equivariant linear layer.
"""

from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import spherical_irreps
from ik_e3nn.nn import EquivariantLinear, EquivariantMLP
from ik_e3nn.nn.layout import layout
from ik_e3nn.nn.mlp import Activation
from ik_e3nn.nn.sphere.signal import band_limit
from ik_e3nn.symmetry import SymmetryGroup


def zonal_convolution(signals: Tensor, kernel: Tensor) -> Tensor:
    r"""Convolve signals on the sphere with zonal kernels: multiply each degree by its own matrix.

    .. math:: (f * h)^v_{lm} = \frac{1}{\sqrt{2l+1}} \sum_u h^{uv}_{l0} f^u_{lm}

    Args:
        signals: Coefficients (..., C_in (L+1)^2) of ``spherical_irreps(L, C_in)``.
        kernel: Coefficients h_l0 (..., L+1, C_in, C_out), with the leading dimensions of the signals, or with none if
            all signals have the same kernel.

    Returns:
        Coefficients (..., C_out (L+1)^2).

    Raises:
        ValueError: The shapes do not fit together.

    Reference:
        Driscoll and Healy, Adv. Appl. Math. 15 (1994) 202, theorem 1; the constant is derived above.

    Example:
        >>> delta = torch.tensor([1.0, 3.0**0.5])[:, None, None]  # h = Y_00 + sqrt(3) Y_10: a delta up to l = 1
        >>> zonal_convolution(torch.tensor([5.0, 1.0, 2.0, 3.0]), delta).round()
        tensor([5., 1., 2., 3.])
    """
    if kernel.ndim < 3 or signals.shape[-1] != kernel.shape[-2] * kernel.shape[-3] ** 2:
        raise ValueError(
            "signals must have shape (..., C_in (L+1)^2) and the kernel (..., L+1, C_in, C_out); "
            f"got {tuple(signals.shape)} and {tuple(kernel.shape)}"
        )
    if kernel.ndim > 3 and kernel.shape[:-3] != signals.shape[:-1]:
        raise ValueError(
            f"there must be one kernel for all signals, or one for each, {tuple(signals.shape[:-1])}; "
            f"got {tuple(kernel.shape[:-3])}"
        )
    degrees, channels = kernel.shape[-3:-1]
    parts = []
    for l, block in enumerate(signals.split([channels * (2 * l + 1) for l in range(degrees)], -1)):
        x = block.unflatten(-1, (channels, 2 * l + 1))
        parts.append((kernel[..., l, :, :].mT @ x).flatten(-2) * (2 * l + 1) ** -0.5)
    return torch.cat(parts, -1)


class SphereConv(nn.Module):
    r"""Convolve signals on the sphere with learned zonal kernels, from many channels to many.

    .. math:: y^v_{lm} = \sum_u W^{uv}_l x^u_{lm} + b^v \delta_{l0}, \qquad h^{uv}_{l0} = \sqrt{2l+1} \, W^{uv}_l

    It commutes exactly with all of O(3). For a smaller group, an ``EquivariantLinear`` of the same types has more
    weights.

    Args:
        irreps_in: Type of the signals, like "8x0e + 8x1o + 8x2e".
        channels: Number of output signals.
        l_max: Largest degree of the output; by default that of the input. Degrees that the input lacks are zero.
        bias: Add a learned constant to every output signal.

    Attributes:
        irreps_out: Type of the result.

    Example:
        >>> conv = SphereConv("1x0e + 1x1o + 1x2e", 16)
        >>> conv(torch.randn(5, 9)).shape
        torch.Size([5, 144])
        >>> conv.kernel().shape
        torch.Size([3, 1, 16])
    """

    def __init__(
        self, irreps_in: o3.Irreps | str, channels: int, *, l_max: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = _types(irreps_in, channels, l_max)
        self.linear = EquivariantLinear(self.irreps_in, self.irreps_out, bias=bias)

    def forward(self, signals: Tensor) -> Tensor:
        """Map (..., irreps_in.dim) to (..., irreps_out.dim)."""
        return cast(Tensor, self.linear(signals))

    def kernel(self) -> Tensor:
        """Coefficients h_l0 (L+1, C_in, C_out) for ``zonal_convolution``, up to the smaller of both band limits L."""
        ins, outs = layout(self.irreps_in), layout(self.irreps_out)
        degrees = min(len(ins), len(outs))
        weight = self.linear.weight.view(degrees, ins[0].mul, outs[0].mul) * ins[0].mul ** -0.5
        sizes = torch.tensor([b.dim for b in ins[:degrees]], dtype=weight.dtype, device=weight.device)
        return weight * sizes.sqrt()[:, None, None]


class ImplicitSphereConv(nn.Module):
    r"""Convolve each signal on the sphere with its own zonal kernel, which an MLP computes from attributes.

    .. math:: y_{lm} = \frac{1}{\sqrt{2l+1}} \, h_{l0}(a) \, x_{lm}, \qquad
              h_{l0}(a) = \sqrt{\tfrac{2l+1}{C_{in}}} \, \mathrm{MLP}_l(a)

    The MLP returns scalars under G, so that the convolution commutes with G acting on signals and attributes together;
    with scalar attributes it commutes with all of O(3). With "gate", the kernel depends only on the part of steerable
    attributes that G leaves invariant (their component along an axis, for example); with "product" it also depends on
    their lengths and angles.

    Args:
        irreps_in: Type of the signals.
        channels: Number of output signals.
        irreps_attributes: Type of the attributes of a sample.
        irreps_hidden: Type of the hidden features of the MLP.
        group: The group G, or its name.
        depth: Number of hidden layers.
        activation: Activation of the MLP; see ``EquivariantMLP``.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 3: the kernel as the output of a G-equivariant MLP.

    Example:
        >>> conv = ImplicitSphereConv("4x0e + 4x1o", 8, irreps_attributes="3x0e")
        >>> conv(torch.randn(5, 16), torch.randn(5, 3)).shape
        torch.Size([5, 32])
    """

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        channels: int,
        *,
        irreps_attributes: o3.Irreps | str,
        irreps_hidden: o3.Irreps | str = "64x0e",
        group: SymmetryGroup | str = "O3",
        depth: int = 1,
        activation: Activation = "gate",
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = _types(irreps_in, channels, None)
        self.irreps_attributes, self.group = o3.Irreps(irreps_attributes), SymmetryGroup.from_config(group)
        self.dim_attributes = self.irreps_attributes.dim
        blocks = layout(self.irreps_in)
        self.shape = (len(blocks), blocks[0].mul, channels)
        self.scales = [(b.dim / b.mul) ** 0.5 for b in blocks]
        count = self.shape[0] * self.shape[1] * self.shape[2]
        self.mlp = EquivariantMLP(
            self.irreps_attributes, irreps_hidden, f"{count}x0e", self.group, layers=depth + 1, activation=activation
        )

    def kernel(self, attributes: Tensor) -> Tensor:
        """Coefficients h_l0 (..., L+1, C_in, C_out) for attributes (..., irreps_attributes.dim)."""
        if attributes.shape[-1] != self.dim_attributes:
            raise ValueError(
                f"attributes must be of dimension {self.dim_attributes}; got shape {tuple(attributes.shape)}"
            )
        values: Tensor = self.mlp(attributes)
        return values.unflatten(-1, self.shape) * values.new_tensor(self.scales)[:, None, None]

    def forward(self, signals: Tensor, attributes: Tensor) -> Tensor:
        """Map signals (..., irreps_in.dim) with attributes (..., irreps_attributes.dim) to (..., irreps_out.dim)."""
        return zonal_convolution(signals, self.kernel(attributes))


def _types(irreps_in: o3.Irreps | str, channels: int, l_max: int | None) -> tuple[o3.Irreps, o3.Irreps]:
    """Types of the input and output signals of a convolution on the sphere."""
    _, l_in = band_limit(irreps_in, "irreps_in")
    if channels < 1:
        raise ValueError(f"a convolution needs at least 1 output channel; got {channels}")
    l_max = l_in if l_max is None else l_max
    if l_max < 0:
        raise ValueError(f"l_max must be 0 or more; got {l_max}")
    return o3.Irreps(irreps_in), spherical_irreps(l_max, channels)
