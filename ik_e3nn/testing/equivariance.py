"""The error of equivariance of a function under a group."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing.representation import representation
from ik_e3nn.testing.tolerances import TOLERANCE, floating_dtype

Types: TypeAlias = o3.Irreps | str | Sequence[o3.Irreps | str]


class EquivarianceError(AssertionError):
    """A function does not have the symmetry it should have, or has one that it should not."""


def equivariance_error(
    function: Callable[..., Any],
    irreps_in: Types | None = None,
    irreps_out: Types | None = None,
    group: SymmetryGroup | str | None = None,
    *,
    inputs: Sequence[Tensor] | None = None,
    batch: int = 8,
    samples: int = 6,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> float:
    r"""Largest violation of equivariance over random group elements, relative to the size of the output.

    .. math:: \max_{g, x} |f(D_{in}(g) x) - D_{out}(g) f(x)| \,/\, \mathrm{rms} f(x)

    Args:
        function: Takes one tensor (batch, dimension) for each type of ``irreps_in``, returns one for each of
            ``irreps_out``.
        irreps_in: Type of the argument, or a list with the type of every argument; ``function.irreps_in`` if absent.
        irreps_out: Type of the result, or a list; ``function.irreps_out`` if absent.
        group: The group or its name; ``function.group`` if absent, else O(3).
        inputs: Arguments to use; standard normal numbers if absent.
        batch: Rows of random arguments.
        samples: Number of group elements.
        dtype: Floating type of random arguments; by default the type of the function's parameters.
        seed: Seed of the arguments and the group elements.

    Raises:
        EquivarianceError: An output is zero or not finite everywhere, so that nothing would be tested.
        ValueError: The numbers of arguments, results and types do not match.

    Example:
        >>> from ik_e3nn.nn import EquivariantLinear
        >>> linear = EquivariantLinear("2x0e + 1o", "0e + 1o", "C4v").double()
        >>> equivariance_error(linear) < 1e-12, equivariance_error(linear, group="O3") > 0.1
        (True, True)
    """
    types_in = _types(function, irreps_in, "irreps_in")
    types_out = _types(function, irreps_out, "irreps_out")
    symmetry = SymmetryGroup.from_config(getattr(function, "group", "O3") if group is None else group)
    generator = torch.Generator().manual_seed(seed)
    precision = floating_dtype(function) if dtype is None else dtype
    if inputs is None:
        inputs = [torch.randn(batch, t.dim, generator=generator, dtype=torch.float64).to(precision) for t in types_in]
    if len(inputs) != len(types_in):
        raise ValueError(f"got {len(inputs)} arguments for {len(types_in)} types {types_in}")
    with torch.no_grad():
        expected = _call(function, inputs, types_out)
        sizes = [_size(y, t) for y, t in zip(expected, types_out, strict=True)]
        worst = 0.0
        for g in symmetry.random_elements(samples, generator):
            moved = _call(function, [_act(x, t, g) for x, t in zip(inputs, types_in, strict=True)], types_out)
            for y, y_moved, t, size in zip(expected, moved, types_out, sizes, strict=True):
                difference = (y_moved.double() - _act(y.double(), t, g)).abs()
                if difference.numel():
                    worst = max(worst, float(difference.max().nan_to_num(torch.inf)) / size)
    return worst


def assert_equivariant(
    function: Callable[..., Any],
    irreps_in: Types | None = None,
    irreps_out: Types | None = None,
    group: SymmetryGroup | str | None = None,
    *,
    tolerance: float | None = None,
    **options: Any,
) -> float:
    """Raise an error unless a function commutes with a group.

    Args:
        function: See ``equivariance_error``.
        irreps_in: See ``equivariance_error``.
        irreps_out: See ``equivariance_error``.
        group: See ``equivariance_error``.
        tolerance: Largest allowed error over the size of the output; by dtype if absent (``TOLERANCE``).
        **options: See ``equivariance_error``.

    Returns:
        The error.

    Raises:
        EquivarianceError: The error is larger, or the output is zero everywhere.

    Example:
        >>> from ik_e3nn.nn import Gate
        >>> assert_equivariant(Gate("2x0e + 1o")) < 1e-12
        True
    """
    if tolerance is None:
        tolerance = TOLERANCE[_precision(function, options)]
    error = equivariance_error(function, irreps_in, irreps_out, group, **options)
    if not error <= tolerance:
        name = _name(function, group)
        raise EquivarianceError(f"{name}: the relative error of equivariance is {error:.2e}, allowed {tolerance:.1e}")
    return error


def assert_not_equivariant(
    function: Callable[..., Any],
    irreps_in: Types | None = None,
    irreps_out: Types | None = None,
    group: SymmetryGroup | str | None = None,
    *,
    threshold: float = 0.01,
    **options: Any,
) -> float:
    """Raise an error if a function commutes, even approximately, with a group whose symmetry it should break.

    Args:
        function: See ``equivariance_error``.
        irreps_in: See ``equivariance_error``.
        irreps_out: See ``equivariance_error``.
        group: A group larger than the function's own.
        threshold: Smallest error that counts as broken.
        **options: See ``equivariance_error``.

    Returns:
        The error.

    Raises:
        EquivarianceError: The error is smaller.

    Example:
        >>> assert_not_equivariant(torch.relu, "1o", "1o") > 0.1
        True
    """
    error = equivariance_error(function, irreps_in, irreps_out, group, **options)
    if error < threshold:
        name = _name(function, group)
        raise EquivarianceError(
            f"{name}: the symmetry is not broken; relative error {error:.2e}, below {threshold:.1e}"
        )
    return error


def _types(function: Callable[..., Any], types: Types | None, attribute: str) -> list[o3.Irreps]:
    if types is None:
        types = getattr(function, attribute, None)
        if types is None:
            raise ValueError(f"{attribute} is needed: {type(function).__name__} has no attribute of that name")
    if isinstance(types, str | o3.Irreps):
        return [o3.Irreps(types)]
    return [o3.Irreps(t) for t in types]


def _call(function: Callable[..., Any], arguments: Sequence[Tensor], types: list[o3.Irreps]) -> list[Tensor]:
    result = function(*arguments)
    results = [result] if isinstance(result, Tensor) else list(result)
    if [y.shape[-1] for y in results] != [t.dim for t in types]:
        shapes = [tuple(y.shape) for y in results]
        raise ValueError(f"results of shapes {shapes} do not have the types {types}")
    return results


def _act(x: Tensor, irreps: o3.Irreps, g: Tensor) -> Tensor:
    return x @ representation(irreps, g).T.to(x)


def _size(y: Tensor, irreps: o3.Irreps) -> float:
    size = float(y.double().square().mean().sqrt()) if y.numel() else 1.0
    if not 0 < size < float("inf"):
        raise EquivarianceError(f"the output of type {irreps} has size {size}: nothing would be tested")
    return size


def _precision(function: Callable[..., Any], options: dict[str, Any]) -> torch.dtype:
    inputs = options.get("inputs")
    return inputs[0].dtype if inputs else options.get("dtype") or floating_dtype(function)


def _name(function: Callable[..., Any], group: SymmetryGroup | str | None) -> str:
    symmetry = SymmetryGroup.from_config(getattr(function, "group", "O3") if group is None else group)
    return f"{getattr(function, '__name__', type(function).__name__)} under {symmetry.name}"
