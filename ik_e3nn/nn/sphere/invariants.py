"""Rotation-invariant numbers of a signal on the sphere: its norm in each degree, and its bispectrum."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import distances
from ik_e3nn.constants import ExactModule
from ik_e3nn.nn.sphere.signal import band_limit, to_fields
from ik_e3nn.symmetry import SymmetryGroup


class SphereNorms(nn.Module):
    r"""The norm of every degree of every signal; for degree 0, the value itself, because its sign is invariant too.

    .. math:: x \mapsto \big( x_0, \; |x_1|/\sqrt{3}, \; \dots, \; |x_L|/\sqrt{2L+1} \big)

    Norms cannot detect whether degrees are rotated relative to each other; the :class:`Bispectrum` can.

    Args:
        irreps_in: Type of the signals.

    Attributes:
        irreps_out: Scalars, degree by degree, with the channels of each degree together.

    Example:
        >>> norms = SphereNorms("4x0e + 4x1o")
        >>> norms.irreps_out, norms(torch.randn(5, 16)).shape
        (8x0e, torch.Size([5, 8]))
    """

    def __init__(self, irreps_in: o3.Irreps | str) -> None:
        super().__init__()
        self.irreps_in = o3.Irreps(irreps_in)
        self.mul, self.l_max = band_limit(self.irreps_in, "irreps_in")
        self.irreps_out = o3.Irreps([(self.irreps_in.num_irreps, "0e")])
        self.dim_in = self.irreps_in.dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., irreps_in.dim) to (..., mul (l_max+1)); derivatives are finite at zero."""
        _check(x, self.dim_in)
        values, *blocks = x.split([self.mul * (2 * l + 1) for l in range(self.l_max + 1)], -1)
        fields = [b.unflatten(-1, (self.mul, 2 * l + 1)) for l, b in enumerate(blocks, start=1)]
        return torch.cat([values, *[distances(f).squeeze(-1) * f.shape[-1] ** -0.5 for f in fields]], -1)


class Bispectrum(ExactModule):
    r"""Triple products of the degrees of every signal, coupled to scalars.

    .. math:: b_{l_1 l_2 l_3} = c \sum_{m_1 m_2 m_3}
              \begin{pmatrix} l_1 & l_2 & l_3 \\ m_1 & m_2 & m_3 \end{pmatrix} x_{l_1 m_1} x_{l_2 m_2} x_{l_3 m_3},
              \qquad l_1 \le l_2 \le l_3 \le l_1 + l_2

    The products depend on the relative orientation of the degrees, which norms do not, and determine nearly all signals
    up to a rotation. Products with an even sum of degrees are scalars; products with an odd sum are pseudoscalars and
    are left out under O(3). All products have unit second moment for standard normal signals.

    Args:
        irreps_in: Type of the signals.
        group: O(3), or SO(3) to distinguish mirror images.

    Attributes:
        irreps_out: ``0e`` for every even product, then ``0o`` for every odd product, each with its channels together.
        triples: Degrees (l_1, l_2, l_3) in the order of the output.

    Raises:
        ValueError: ``irreps_in`` is not a type of signals on the sphere, or the group is neither O(3) nor SO(3).

    Reference:
        Kondor, A novel set of rotationally and translationally invariant features for images, 2007; Cohen et al.,
        Spherical CNNs, ICLR 2018, for the descriptor's use.

    Example:
        >>> bispectrum = Bispectrum("4x0e + 4x1o + 4x2e")
        >>> bispectrum.triples
        [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 1, 2), (2, 2, 2)]
        >>> bispectrum(torch.randn(5, 36)).shape
        torch.Size([5, 20])
    """

    def __init__(self, irreps_in: o3.Irreps | str, group: SymmetryGroup | str = "O3") -> None:
        super().__init__()
        self.irreps_in, self.group = o3.Irreps(irreps_in), SymmetryGroup.from_config(group)
        self.mul, self.l_max = band_limit(self.irreps_in, "irreps_in")
        self.dim_in = self.irreps_in.dim
        if not self.group.is_isotropic:
            raise ValueError(f"the group of a bispectrum must be O(3) or SO(3); got {self.group}")
        mirrors = bool((torch.linalg.det(self.group.components) < 0).any())
        even, odd = _triples(self.l_max)
        odd = [] if mirrors else odd
        self.triples = even + odd
        self.irreps_out = o3.Irreps([(self.mul * len(part), ir) for part, ir in ((even, "0e"), (odd, "0o")) if part])
        # one matrix for each pair (l_1, l_2), to all degrees l_3 that couple with it
        self.pairs = {pair: [t[2] for t in self.triples if t[:2] == pair] for pair in {t[:2]: 0 for t in self.triples}}
        order = [(*pair, l) for pair, degrees in self.pairs.items() for l in degrees]
        self.places = [order.index(t) for t in self.triples]
        for (a, b), degrees in self.pairs.items():
            tensors = [_coupling(a, b, l).flatten(0, 1) for l in degrees]
            self.register_exact(f"coupling_{a}_{b}", torch.cat(tensors, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., irreps_in.dim) to (..., mul * number of triples)."""
        _check(x, self.dim_in)
        parts = to_fields(x, self.mul, self.l_max).split([2 * l + 1 for l in range(self.l_max + 1)], -1)
        found = []
        for (a, b), degrees in self.pairs.items():
            products = (parts[a][..., :, None] * parts[b][..., None, :]).flatten(-2)
            coupled = products @ getattr(self, f"coupling_{a}_{b}")
            for l, y in zip(degrees, coupled.split([2 * l + 1 for l in degrees], -1), strict=True):
                found.append((y * parts[l]).sum(-1))
        return torch.cat([found[place] for place in self.places], -1)


def _check(x: Tensor, dim: int) -> None:
    if x.shape[-1] != dim:
        raise ValueError(f"expected signals of dimension {dim}; got shape {tuple(x.shape)}")


def _triples(l_max: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Degrees of the products that do not vanish: first those with an even sum, then those with an odd sum.

    3j symbols with an odd sum are antisymmetric, so that such a product vanishes unless all three degrees differ.
    """
    ordered = [(a, b, c) for a in range(l_max + 1) for b in range(a, l_max + 1) for c in range(b, l_max + 1)]
    allowed = [t for t in ordered if t[2] <= t[0] + t[1]]
    return [t for t in allowed if sum(t) % 2 == 0], [t for t in allowed if sum(t) % 2 and len(set(t)) == 3]


def _coupling(a: int, b: int, c: int) -> Tensor:
    """3j symbols (2a+1, 2b+1, 2c+1), scaled to unit second moment of the triple product (Wick's theorem)."""
    if a == 0:
        second = 15.0 if b == 0 else 2.0 * b + 3  # E[x^6]; E[x^2] E[|x_b|^4] / (2b+1)
    else:
        second = {3: 1.0, 2: 2.0, 1: 6.0}[len({a, b, c})]
    return o3.wigner_3j(a, b, c, dtype=torch.float64) * second**-0.5
