"""How far pointwise functions on the sphere are from equivariant, against bandwidth, grid and oversampling."""

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
        degree: Degree up to which the grid was asked to be exact.
        points: Number of its points.
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

    A pointwise function f gives a signal of unbounded degree. On a grid of degree d, its parts of degree l' alias onto
    those of degree l where l + l' > d: with l up to L, all beyond d - L. The error therefore falls with the
    *oversampling* d/L, by the smoothness of f, and hardly depends on L.

    Args:
        l_max: Bandwidth L of the signals, at least 1: a constant is exact.
        oversampling: Ratios d/L, at least 2: less would lose the signals themselves.
        functions: What to measure, by name.
        grids: Kinds of grids by name; a kind makes points and weights of a degree. Degrees that it does not have are
            left out.
        samples: Number of rotations and of signals.
        seed: Of both.

    Returns:
        One row for every function, grid and ratio.

    Raises:
        ValueError: A bandwidth below 1 or a ratio below 2.

    Example:
        >>> row, finer = sphere_errors(1, (3, 5), functions={"ELU": FUNCTIONS["ELU"]}, grids={"Lebedev": sphere_grid})
        >>> row.degree, row.points, 0.02 < row.error < 0.1, finer.error < 0.02
        (3, 6, True, True)
    """
    if l_max < 1:
        raise ValueError(f"the error is measured for an l_max of 1 or more; got {l_max}")
    if min(oversampling) < 2:
        raise ValueError(f"grids must be oversampled by 2 or more, else signals are lost; got {min(oversampling)}")
    rows = []
    for kind, grid in grids.items():
        for degree in dict.fromkeys(math.ceil(ratio * l_max - 1e-9) for ratio in oversampling):
            try:
                points = len(grid(degree)[0])
            except ValueError:
                continue  # no such grid of this degree
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

    Give it to ``SphereActivation(..., degree=...)``.

    Args:
        l_max: Bandwidth of the signals.
        tolerance: Largest relative error allowed, see :class:`SphereError`.
        function: The pointwise function.
        grid: Makes points and weights of a degree.
        samples: Number of rotations and of signals.
        seed: Of both.

    Raises:
        ValueError: No grid of this kind is fine enough, or a tolerance that is not positive.

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
                "error, or take a grid of rings"
            ) from None
        if points > last:
            last = points
            module = SphereActivation(1, l_max, degree=degree, function=function, grid=grid)
            if module.equivariance_error(samples, seed) <= tolerance:
                return degree
        degree += 1
