r"""Convolution of signals on the sphere.

Of a kernel h on the sphere, a convolution over rotations leaves only the part that is symmetric about the pole:

.. math:: (f * h)(x) = \int_{SO(3)} f(g\eta) \, h(g^{-1} x) \, dg

*Which constant is right.* Write every rotation as :math:`g = R(\omega) R_\eta(\gamma)`, where :math:`R(\omega)` takes
the pole :math:`\eta` to :math:`\omega`, and the measure as :math:`dg = d\omega \, d\gamma`, of volume
:math:`8\pi^2`. Then
:math:`f(g\eta) = f(\omega)`, and the integral over :math:`\gamma` replaces h by :math:`2\pi` times its mean about the
pole, :math:`\sum_l h_{l0} Y_{l0}`. For harmonics that are orthonormal in :math:`d\omega`,
:math:`Y_{l0} = \sqrt{(2l+1)/4\pi} \, P_l`, and the addition theorem says
:math:`P_l(\omega \cdot x) = \tfrac{4\pi}{2l+1} \sum_m Y_{lm}(\omega) Y_{lm}(x)`. Hence

.. math:: (f * h)(x) = 2\pi \sum_l h_{l0} \sqrt{\tfrac{2l+1}{4\pi}} \; \tfrac{4\pi}{2l+1} \sum_m f_{lm} Y_{lm}(x)
          \quad\Rightarrow\quad (f * h)_{lm} = 2\pi \sqrt{\tfrac{4\pi}{2l+1}} \, f_{lm} h_{l0}

which is Driscoll and Healy's theorem 1. One also finds :math:`\sqrt{16\pi^3/(2l+2)}` written for the factor: that has
2l+2 for 2l+1 and is wrong for every l (already for l = 0, where both sides are plain integrals:
:math:`8\pi^2 \bar f \bar h`). Here harmonics have mean square 1 over the sphere ("component") and the group has volume
1; both only rescale, and leave

.. math:: (f * h)_{lm} = \frac{1}{\sqrt{2l+1}} \, f_{lm} h_{l0}

The pole is e3nn's polar axis, (0, 1, 0). A zonal convolution of many channels is thus one matrix for every degree: the
same as an O(3)-equivariant linear layer.
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
    r"""Convolve signals on the sphere with kernels, each degree by its own matrix.

    .. math:: (f * h)^v_{lm} = \frac{1}{\sqrt{2l+1}} \sum_u h^{uv}_{l0} f^u_{lm}

    Args:
        signals: Coefficients (..., C_in (L+1)^2) of ``spherical_irreps(L, C_in)``.
        kernel: Coefficients h_l0 (..., L+1, C_in, C_out); leading dimensions are those of the signals, or none if all
            signals meet the same kernel.

    Returns:
        Coefficients (..., C_out (L+1)^2).

    Raises:
        ValueError: Shapes that do not fit.

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
            f"there must be one kernel, or one for every signal, {tuple(signals.shape[:-1])}; "
            f"got {tuple(kernel.shape[:-3])}"
        )
    degrees, channels = kernel.shape[-3:-1]
    parts = []
    for l, block in enumerate(signals.split([channels * (2 * l + 1) for l in range(degrees)], -1)):
        x = block.unflatten(-1, (channels, 2 * l + 1))
        parts.append((kernel[..., l, :, :].mT @ x).flatten(-2) * (2 * l + 1) ** -0.5)
    return torch.cat(parts, -1)


class SphereConv(nn.Module):
    r"""Convolution with learned zonal kernels, many channels in and out.

    .. math:: y^v_{lm} = \sum_u W^{uv}_l x^u_{lm} + b^v \delta_{l0}, \qquad h^{uv}_{l0} = \sqrt{2l+1} \, W^{uv}_l

    It commutes with all of O(3), exactly. Under a smaller group an ``EquivariantLinear`` of the same types has more to
    learn.

    Args:
        irreps_in: Type of the signals, like "8x0e + 8x1o + 8x2e".
        channels: Number of signals out.
        l_max: Largest degree out; that of the input unless given. Degrees that the input does not have stay zero.
        bias: Add a learned constant to every signal.

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
        """Coefficients h_l0 (L+1, C_in, C_out) up to the smaller band limit, as of ``zonal_convolution``."""
        ins, outs = layout(self.irreps_in), layout(self.irreps_out)
        degrees = min(len(ins), len(outs))
        weight = self.linear.weight.view(degrees, ins[0].mul, outs[0].mul) * ins[0].mul ** -0.5
        sizes = torch.tensor([b.dim for b in ins[:degrees]], dtype=weight.dtype, device=weight.device)
        return weight * sizes.sqrt()[:, None, None]


class ImplicitSphereConv(nn.Module):
    r"""Convolution with zonal kernels that an MLP makes of attributes, for every sample its own.

    .. math:: y_{lm} = \frac{1}{\sqrt{2l+1}} \, h_{l0}(a) \, x_{lm}, \qquad
              h_{l0}(a) = \sqrt{\tfrac{2l+1}{C_{in}}} \, \mathrm{MLP}_l(a)

    What the MLP gives are scalars under G, so that the convolution commutes with G acting on signals and attributes
    together; scalar attributes leave all of O(3). With a gate, steerable attributes matter only by what G leaves
    invariant of them (the part along an axis, say); "product" also sees their lengths and angles.

    Args:
        irreps_in: Type of the signals.
        channels: Number of signals out.
        irreps_attributes: Type of the attributes of a sample.
        irreps_hidden: Type of the MLP's hidden features.
        group: The group G, or its name.
        depth: Number of hidden layers.
        activation: Of the MLP, see ``EquivariantMLP``.

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
        """Map signals (..., irreps_in.dim), with attributes of each, to (..., irreps_out.dim)."""
        return zonal_convolution(signals, self.kernel(attributes))


def _types(irreps_in: o3.Irreps | str, channels: int, l_max: int | None) -> tuple[o3.Irreps, o3.Irreps]:
    """Types in and out of signals on the sphere."""
    _, l_in = band_limit(irreps_in, "irreps_in")
    if channels < 1:
        raise ValueError(f"a convolution needs at least 1 channel out; got {channels}")
    l_max = l_in if l_max is None else l_max
    if l_max < 0:
        raise ValueError(f"l_max must be 0 or more; got {l_max}")
    return o3.Irreps(irreps_in), spherical_irreps(l_max, channels)
