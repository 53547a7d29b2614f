"""A kernel, with the information that its pictures need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.basis import GaussianBasis, RadialHarmonicBasis, spherical_irreps
from ik_e3nn.conv import PointConv
from ik_e3nn.kernels import ImplicitKernel, Kernel
from ik_e3nn.nn.mlp import Activation
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import representation

MOST_CASES = 5
MOST_OF_ONE_IRREP = 3
STRENGTH = 5.0  # of the attributes that are shown; comparable with all features of the position together


@dataclass(frozen=True)
class ShownKernel:
    """A kernel between single fields, for several values of its attributes.

    Attributes:
        irreps_in: Types of the input, one field each.
        irreps_out: Types of the output, one field each.
        group: The group that the kernel commutes with.
        reach: Distance (A) at which it ends.
        cases: Names of these values.
        matrix: Maps points (n, 3), the number of a case, and an orthogonal matrix that rotates its attributes (or None)
            to the kernel at the points, (n, irreps_out.dim, irreps_in.dim).
    """

    irreps_in: o3.Irreps
    irreps_out: o3.Irreps
    group: SymmetryGroup
    reach: float
    cases: tuple[str, ...]
    matrix: Callable[[Tensor, int, Tensor | None], Tensor]

    def block(self, K: Tensor, out: int, into: int) -> Tensor:
        """The part of matrices (..., irreps_out.dim, irreps_in.dim) between two of the fields."""
        return K[..., self.irreps_out.slices()[out], self.irreps_in.slices()[into]]


def convolution_kernel(
    kernel: Kernel, conv: PointConv, *, reach: float, cases: Mapping[str, Tensor] | None = None
) -> ShownKernel:
    """The kernel of a convolution, between the first fields of every block.

    Args:
        kernel: The kernel.
        conv: The convolution.
        reach: Distance (A) up to which to show it.
        cases: Attributes (dimension,) by name; none for a kernel without attributes.

    Example:
        >>> kernel = ImplicitKernel("", "4x0e + 4x1o", basis=RadialHarmonicBasis(GaussianBasis(3.0), 1))
        >>> shown = convolution_kernel(kernel, PointConv("2x0e", "2x0e + 2x1o", kernel), reach=3.0)
        >>> shown.irreps_out, shown.matrix(torch.randn(5, 3), 0, None).shape
        (1x0e+1x1o, torch.Size([5, 4, 1]))
    """
    chosen = dict(cases or {"": torch.zeros(0)})
    rows, columns = fields_of(conv.irreps_out), fields_of(conv.irreps_in)
    dtype = next(conv.parameters()).dtype

    def matrix(points: Tensor, case: int, g: Tensor | None) -> Tensor:
        a = list(chosen.values())[case].double()
        if g is not None:
            a = representation(kernel.irreps_attributes, g) @ a
        with torch.no_grad():
            K = kernel.matrix(conv, points.to(dtype), a.to(dtype).expand(len(points), -1))
        return K[:, rows][:, :, columns].double()

    return ShownKernel(single(conv.irreps_in), single(conv.irreps_out), conv.group, reach, tuple(chosen), matrix)


def random_kernel(
    group: SymmetryGroup | str,
    irreps_in: o3.Irreps | str,
    irreps_out: o3.Irreps | str,
    *,
    irreps_attributes: o3.Irreps | str = "",
    r_max: float = 3.0,
    seed: int = 0,
) -> ShownKernel:
    """An implicit kernel with random weights.

    Args:
        group: The group, or its name.
        irreps_in: Type of the input.
        irreps_out: Type of the output.
        irreps_attributes: Type of the attributes; the cases are no attribute, and single components of attributes.
        r_max: Cutoff (A).
        seed: Seed of the weights.

    Raises:
        ValueError: The group or a type is unknown, or the group allows no kernel between the types.

    Example:
        >>> random_kernel("C4v", "0e", "0e + 1o", irreps_attributes="2x0e + 1o").cases
        ('no attribute', '0e, 1', '0e, 2', '1o x', '1o y')
    """
    # products of fields see the angle between r and a vector attribute; gates do not, but are cheaper
    steerable = o3.Irreps(irreps_attributes).lmax > 0 if o3.Irreps(irreps_attributes).dim else False
    activation: Activation = "product" if steerable else "gate"
    l_max = 2 if steerable else 4
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        basis = RadialHarmonicBasis(GaussianBasis(r_max, 6), l_max)
        hidden = spherical_irreps(l_max, 8)
        for name, irreps in (("irreps_in", o3.Irreps(irreps_in)), ("irreps_out", o3.Irreps(irreps_out))):
            if not irreps.dim:
                raise ValueError(f"{name} of a kernel must be types of fields, such as 0e + 1o; got {str(irreps)!r}")
        kernel = ImplicitKernel(irreps_attributes, hidden, group, basis=basis, depth=2, activation=activation).double()
        conv = PointConv(irreps_in, irreps_out, kernel).double()
    if not any(True for _ in conv.parameters()):
        raise ValueError(
            f"{kernel.group.name} allows no kernel from {conv.irreps_in} to {conv.irreps_out} with fields up to "
            f"l = {l_max}; use other types or a smaller group"
        )
    return convolution_kernel(kernel, conv, reach=r_max, cases=_unit_attributes(kernel.irreps_attributes))


def _unit_attributes(irreps: o3.Irreps) -> dict[str, Tensor]:
    """No attribute, then single components."""
    cases = {"no attribute" if irreps.dim else "": torch.zeros(irreps.dim)}
    for (mul, ir), place in zip(irreps, irreps.slices(), strict=True):
        names = "xyz" if ir.l == 1 else [f"({m + 1})" for m in range(ir.dim)]
        for k in range(min(mul * ir.dim, MOST_OF_ONE_IRREP)):
            name = f"{ir}, {k + 1}" if ir.l == 0 else f"{ir} {names[k % ir.dim]}"
            if len(cases) < MOST_CASES:
                cases[name] = STRENGTH * torch.eye(irreps.dim)[place.start + k]
    return cases


def single(irreps: o3.Irreps) -> o3.Irreps:
    """The types of one channel."""
    return o3.Irreps([(1, ir) for _, ir in irreps])


def fields_of(irreps: o3.Irreps, channel: int = 0) -> list[int]:
    """The components of one channel.

    >>> fields_of(o3.Irreps("2x0e + 2x1o"), 1)
    [1, 5, 6, 7]
    """
    starts = [(s.start + channel * ir.dim, ir.dim) for (_, ir), s in zip(irreps, irreps.slices(), strict=True)]
    return [k for start, dim in starts for k in range(start, start + dim)]
