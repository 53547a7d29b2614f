"""Equivariance errors of pointwise functions on the sphere, for every bandwidth, grid and oversampling."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ik_e3nn.basis import equiangular_rings, gauss_legendre_rings, sphere_grid
from ik_e3nn.nn.sphere.activation import Grid, SphereActivation

FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "ReLU": torch.relu,
        "ELU": torch.nn.functional.elu,
        "SiLU": torch.nn.functional.silu,
        "tanh": torch.tanh,
    }
)
GRIDS: Mapping[str, Grid] = MappingProxyType(
    {
        "Lebedev": sphere_grid,
        "Gauss-Legendre": lambda degree: gauss_legendre_rings(degree).quadrature(),
        "equiangular": lambda degree: equiangular_rings(degree).quadrature(),
    }
)


class SphereError(NamedTuple):
    """The equivariance error of a pointwise function on one grid.

    Attributes:
        function: Name of the function.
        grid: Name of the kind of grid.
        l_max: Bandwidth of the signals.
        degree: Degree up to which the grid must be exact.
        points: Number of points of the grid.
        error: |f(D x) - D f(x)| / |f(x)|, root mean square over rotations and standard normal signals.
    """

    function: str
    grid: str
    l_max: int
    degree: int
    points: int
    error: float


def sphere_errors(
    l_max: int,
    oversampling: Sequence[float] = (2, 2.5, 3, 4, 6),
    *,
    functions: Mapping[str, Callable[[Tensor], Tensor]] = FUNCTIONS,
    grids: Mapping[str, Grid] = GRIDS,
    samples: int = 32,
    seed: int = 0,
) -> list[SphereError]:
    r"""Equivariance error of pointwise functions on the sphere for grids of rising degree.

    A pointwise function f gives a signal of unbounded degree. On a grid of degree d, parts of degree l' alias onto
    degree l if l + l' > d; since l is at most L, these are the parts with l' > d - L. The error therefore decreases
    with the *oversampling* d/L, the faster the smoother f is, and hardly depends on L.

    Args:
        l_max: Bandwidth L of the signals, at least 1, because constants have no error.
        oversampling: Ratios d/L, at least 2, because coarser grids lose the signals themselves.
        functions: The functions to measure, by name.
        grids: Kinds of grids by name: functions from a degree to points and weights. Degrees for which a kind has no
            grid are left out.
        samples: Number of rotations and of signals.
        seed: Seed of the random rotations and signals.

    Returns:
        One row for every function, grid and ratio.

    Raises:
        ValueError: The bandwidth is below 1, or a ratio is below 2.

    Example:
        >>> row, finer = sphere_errors(1, (3, 5), functions={"ELU": FUNCTIONS["ELU"]}, grids={"Lebedev": sphere_grid})
        >>> row.degree, row.points, 0.02 < row.error < 0.1, finer.error < 0.02
        (3, 6, True, True)
    """
    if l_max < 1:
        raise ValueError(f"the error is measured for an l_max of 1 or more; got {l_max}")
    if min(oversampling) < 2:
        raise ValueError(f"grids must be oversampled by 2 or more, or signals are lost; got {min(oversampling)}")
    rows = []
    for kind, grid in grids.items():
        for degree in dict.fromkeys(math.ceil(ratio * l_max - 1e-9) for ratio in oversampling):
            try:
                points = len(grid(degree)[0])
            except ValueError:
                continue  # this kind has no grid of this degree
            for name, function in functions.items():
                module = SphereActivation(1, l_max, degree=degree, function=function, grid=grid)
                error = module.equivariance_error(samples, seed)
                rows.append(SphereError(name, kind, l_max, degree, points, error))
    return rows


def sphere_degree(
    l_max: int,
    tolerance: float,
    *,
    function: Callable[[Tensor], Tensor] = torch.nn.functional.elu,
    grid: Grid = sphere_grid,
    samples: int = 32,
    seed: int = 0,
) -> int:
    """Smallest degree of a grid on which a pointwise function is equivariant up to a tolerance.

    Pass it to ``SphereActivation(..., degree=...)``.

    Args:
        l_max: Bandwidth of the signals.
        tolerance: Largest relative error allowed, as defined in :class:`SphereError`.
        function: The pointwise function.
        grid: Function from a degree to points and weights.
        samples: Number of rotations and of signals.
        seed: Seed of the random rotations and signals.

    Raises:
        ValueError: No grid of this kind is fine enough, or the tolerance is not positive.

    Example:
        >>> sphere_degree(1, 0.02)
        4
    """
    if not tolerance > 0:
        raise ValueError(f"the tolerance of an error must be positive; got {tolerance}")
    degree, last = 2 * l_max, 0
    while True:
        try:
            points = len(grid(degree)[0])
        except ValueError as error:
            raise ValueError(
                f"no grid of this kind brings the error for l_max = {l_max} below {tolerance}: {error}; allow a larger "
                "tolerance, or use a grid of rings"
            ) from None
        if points > last:
            last = points
            module = SphereActivation(1, l_max, degree=degree, function=function, grid=grid)
            if module.equivariance_error(samples, seed) <= tolerance:
                return degree
        degree += 1
