"""Pointwise nonlinearities of functions on the sphere."""

from collections.abc import Callable

import torch
from torch import Tensor

from ik_e3nn.basis import fixed_harmonics, sphere_grid, spherical_irreps
from ik_e3nn.constants import ExactModule
from ik_e3nn.nn.layout import BlockMap, from_components, layout, to_blocks
from ik_e3nn.symmetry import SymmetryGroup, representation_matrix

Grid = Callable[[int], tuple[Tensor, Tensor]]  # points (G, 3) and weights (G,) that are exact up to a degree


def default_degree(l_max: int) -> int:
    """Default degree of the grid of :class:`SphereActivation`: the larger of 2 l_max + 3 and 3 l_max.

    The error depends on degree / l_max (see ``sphere_errors``). At a ratio of 3 it is below 4 % for ELU and SiLU at
    every bandwidth. 2 l_max + 3 is at least this up to l_max = 3, but alone would give 9 and 16 % at l_max = 8.

    Example:
        >>> [default_degree(l_max) for l_max in range(7)]
        [3, 5, 7, 9, 12, 15, 18]
    """
    return max(2 * l_max + 3, 3 * l_max)


class SphereActivation(ExactModule):
    r"""Apply a function pointwise to signals on the sphere (the quotient nonlinearity of the paper).

    .. math:: x \mapsto c_l \sum_g w_g \, Y_{lm}(x_g) \;
              \sigma\!\Big( \tfrac{1}{L+1} \sum_{l'm'} Y_{l'm'}(x_g) \, x_{l'm'} \Big)

    A field is a function on the sphere, band-limited to degree L. The result is equivariant except for the part of
    :math:`\sigma(f)` beyond the degree of the grid. For ELU on the default grid the error under rotations is 1.0, 2.5,
    3.6, 1.5, 3.4 and 2.4 % for L = 1 to 6: the root mean square of f(D x) - D f(x) over the root mean square of f(x),
    for 32 rotations and standard normal x. ``equivariance_error`` measures it, and ``sphere_errors`` tabulates it for
    other functions and grids. The function is exactly equivariant for constants (L = 0) and under Oh, the symmetry of
    Lebedev's grids. The errors of successive layers add up. The constants :math:`c_l` give every degree unit second
    moment for standard normal input.

    Args:
        mul: Number of fields.
        l_max: Band limit L.
        degree: Degree up to which the grid integrates exactly; by default ``default_degree(l_max)``. ``sphere_degree``
            finds the degree for a given tolerance.
        function: The pointwise function, by default ELU.
        grid: Function from a degree to points and weights. Lebedev's grids have the fewest points and the symmetry of a
            cube; for degrees above 65 take ``lambda degree: gauss_legendre_rings(degree).quadrature()``.

    Attributes:
        irreps_in: ``mul`` copies of every spherical harmonic up to l_max; also irreps_out.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 5.1; Cesa et al., ICLR 2022.

    Example:
        >>> act = SphereActivation(16, 2)
        >>> act.irreps_in, act(torch.randn(5, 144)).shape
        (16x0e+16x1o+16x2e, torch.Size([5, 144]))
        >>> round(act.equivariance_error(), 3)
        0.025
    """

    synthesis: Tensor
    analysis: Tensor

    def __init__(
        self,
        mul: int,
        l_max: int,
        *,
        degree: int | None = None,
        function: Callable[[Tensor], Tensor] = torch.nn.functional.elu,
        grid: Grid = sphere_grid,
    ) -> None:
        super().__init__()
        if mul < 1 or l_max < 0:
            raise ValueError(
                f"fields on the sphere need mul of 1 or more and l_max of 0 or more; got {mul} and {l_max}"
            )
        degree = default_degree(l_max) if degree is None else degree
        if degree < 2 * l_max:
            raise ValueError(
                f"the degree of the grid must be at least 2 l_max = {2 * l_max}, or fields are lost; got {degree}"
            )
        self.mul, self.l_max, self.function = mul, l_max, function
        self.irreps_in = self.irreps_out = spherical_irreps(l_max, mul)
        self.blocks = layout(self.irreps_in)
        self.dims = [b.dim for b in self.blocks]
        points, weights = grid(degree)
        Y = fixed_harmonics(points, l_max).T  # ((l_max+1)^2, G)
        synthesis = Y / (l_max + 1)
        analysis = (Y * weights).T
        scale = _moments(synthesis, analysis, l_max, function).rsqrt()
        self.register_exact("synthesis", synthesis)
        self.register_exact("analysis", analysis * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., mul (l_max+1)^2) to the same shape."""
        dim = self.mul * (self.l_max + 1) ** 2
        if x.shape[-1] != dim:
            raise ValueError(
                f"expected {self.mul} fields on the sphere up to l = {self.l_max}, dimension {dim}; got shape "
                f"{tuple(x.shape)}"
            )
        blocks = self.fold()(to_blocks(x.reshape(-1, dim), self.blocks))
        return from_components(blocks).view(x.shape)

    def fold(self) -> BlockMap:
        """The activation as a function of blocks with components first; see ``EquivariantLinear.fold``."""
        synthesis, analysis = self.synthesis.T, self.analysis.T
        # in place, ELU's gradient is computed from its result, which takes a third of the time
        function = torch.nn.functional.elu_ if self.function is torch.nn.functional.elu else self.function

        def apply(blocks: list[Tensor]) -> list[Tensor]:
            shape = blocks[0].shape[1:]
            values = function(synthesis @ torch.cat(blocks).flatten(1))  # (G, N * mul)
            return list((analysis @ values).unflatten(1, shape).split(self.dims))

        return apply

    def equivariance_error(self, samples: int = 32, seed: int = 0) -> float:
        """Relative error |f(D x) - D f(x)| / |f(x)| (root mean square) over random rotations and inputs, in float64."""
        generator = torch.Generator().manual_seed(seed)
        rotations = SymmetryGroup("O3").random_elements(samples, generator)
        dim = (self.l_max + 1) ** 2
        x = torch.randn(samples, dim, 1, generator=generator, dtype=torch.float64)
        irreps = spherical_irreps(self.l_max)
        blocks = [[representation_matrix(ir.l, ir.p, g) for _, ir in irreps] for g in rotations]
        D = torch.stack([torch.block_diag(*b) for b in blocks])
        synthesis, analysis = self._exact["synthesis"], self._exact["analysis"]

        def apply(fields: Tensor) -> Tensor:
            return (self.function(fields.mT @ synthesis) @ analysis).mT

        difference = apply(D @ x) - D @ apply(x)
        return float(difference.norm() / apply(x).norm())


def _moments(synthesis: Tensor, analysis: Tensor, l_max: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Second moments ((l_max+1)^2,) after the activation for standard normal fields, averaged over each degree."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16384, synthesis.shape[0], generator=generator, dtype=torch.float64)
    chunks = x.split(max(1, 2**24 // synthesis.shape[1]))  # 128 MB of values at a time
    sums = [(function(chunk @ synthesis) @ analysis).square().sum(0) for chunk in chunks]
    squares = torch.stack(sums).sum(0) / len(x)
    return torch.cat([squares[l * l : (l + 1) ** 2].mean().expand(2 * l + 1) for l in range(l_max + 1)])
