"""Transform signals on the sphere from coefficients of harmonics to values on rings, and back."""

import torch
from torch import Tensor

from ik_e3nn.basis.harmonics import spherical_irreps
from ik_e3nn.basis.legendre import polar_functions
from ik_e3nn.basis.rings import SphereRings, equiangular_rings
from ik_e3nn.constants import ExactModule


class SphereTransform(ExactModule):
    r"""Fourier transform on the sphere, exact for signals of bounded degree.

    .. math:: f(x_{jk}) = \sum_{l \le L} \sum_m x_{lm} Y_{lm}(x_{jk}), \qquad
              x_{lm} = \sum_j w_j \frac{1}{A} \sum_k f(x_{jk}) \, Y_{lm}(x_{jk})

    with e3nn's harmonics in "component" normalization: their mean square over the sphere is 1, and a constant signal
    (l = 0 alone) has the value of its coefficient. The azimuth is transformed by FFT and the polar angle by one matrix
    for every order m. This takes O(L^3) operations; one matrix for the whole grid would take O(L^4).

    Args:
        l_max: Largest degree L; the bandwidth b of the literature is L + 1.
        rings: The grid; by default Driscoll and Healy's equiangular grid of 2b x 2b points.

    Attributes:
        irreps: Type of the coefficients of one signal.

    Raises:
        ValueError: ``l_max`` is negative, or the degree of the grid is below 2 l_max: coefficients would be lost.

    Reference:
        Driscoll and Healy, Adv. Appl. Math. 15 (1994) 202, theorem 3.

    Example:
        >>> transform = SphereTransform(3)
        >>> transform.to_grid(torch.randn(5, 16)).shape
        torch.Size([5, 8, 8])
        >>> x = torch.randn(16)
        >>> torch.allclose(transform.from_grid(transform.to_grid(x)), x, atol=1e-5)
        True
    """

    synthesis: Tensor
    analysis: Tensor
    signs: Tensor
    cosine_columns: Tensor
    sine_columns: Tensor
    places: Tensor

    def __init__(self, l_max: int, *, rings: SphereRings | None = None) -> None:
        super().__init__()
        if l_max < 0:
            raise ValueError(f"l_max must be 0 or more; got {l_max}")
        rings = equiangular_rings(2 * l_max + 1) if rings is None else rings
        if rings.degree < 2 * l_max:
            raise ValueError(
                f"a grid for l_max = {l_max} must be exact up to degree 2 l_max = {2 * l_max}; got {rings.degree}"
            )
        self.l_max, self.rings, self.irreps = l_max, rings, spherical_irreps(l_max)
        self.dim = (l_max + 1) ** 2
        Q = polar_functions(rings.polar, l_max)
        # a real signal is F_0 + 2 Re sum_m F_m exp(i m a)
        self.register_exact("synthesis", torch.cat([Q[:1], Q[1:] / 2]))  # (m, B, l)
        self.register_exact("analysis", (Q * rings.weights[:, None]).mT)  # (m, l, B)
        m, l = torch.meshgrid(torch.arange(l_max + 1), torch.arange(l_max + 1), indexing="ij")
        inside = l >= m  # elsewhere the matrices are zero
        self.register_buffer("cosine_columns", torch.where(inside, l * l + l + m, 0), persistent=False)
        self.register_buffer("sine_columns", torch.where(inside, l * l + l - m, 0), persistent=False)
        degrees = torch.cat([torch.full((2 * k + 1,), k) for k in range(l_max + 1)])
        orders = torch.cat([torch.arange(-k, k + 1) for k in range(l_max + 1)])
        places = 2 * (orders.abs() * (l_max + 1) + degrees) + (orders < 0)  # in (m, l, real or imaginary part)
        self.register_buffer("places", places, persistent=False)
        self.register_exact("signs", torch.where(orders < 0, -1.0, 1.0).double())

    def to_grid(self, coefficients: Tensor) -> Tensor:
        """Values (..., B, A) on the grid of coefficients (..., (l_max+1)^2)."""
        if coefficients.ndim == 0 or coefficients.shape[-1] != self.dim:
            raise ValueError(
                f"coefficients must have shape (..., {self.dim}) for l_max = {self.l_max}; "
                f"got {tuple(coefficients.shape)}"
            )
        batch, (B, A), M = coefficients.shape[:-1], self.rings.shape, self.l_max + 1
        if batch.numel() == 0:  # some FFT libraries refuse empty input
            return (coefficients @ coefficients.new_zeros(self.dim, B * A)).view(*batch, B, A)
        x = coefficients.reshape(-1, self.dim)
        parts = torch.stack([x[:, self.cosine_columns], -x[:, self.sine_columns]], -1)  # (N, m, l, 2)
        F = self.synthesis @ parts.permute(1, 2, 0, 3).reshape(M, M, -1)
        F = F.view(M, B, len(x), 2).permute(2, 1, 0, 3).contiguous()
        return torch.fft.irfft(torch.view_as_complex(F), n=A, norm="forward").view(*batch, B, A)

    def from_grid(self, values: Tensor) -> Tensor:
        """Coefficients (..., (l_max+1)^2) up to degree l_max of values (..., B, A) on the grid."""
        (B, A), M = self.rings.shape, self.l_max + 1
        if values.shape[-2:] != (B, A):
            raise ValueError(f"values must have shape (..., {B}, {A}) on this grid; got {tuple(values.shape)}")
        batch = values.shape[:-2]
        if batch.numel() == 0:
            return values.flatten(-2) @ values.new_zeros(B * A, self.dim)
        F = torch.fft.rfft(values.reshape(-1, B, A), norm="forward")[..., :M]
        parts = torch.view_as_real(F).permute(2, 1, 0, 3).reshape(M, B, -1)
        x = (self.analysis @ parts).view(M, M, -1, 2).permute(2, 0, 1, 3).flatten(1)
        return (x[:, self.places] * self.signs).view(*batch, self.dim)
