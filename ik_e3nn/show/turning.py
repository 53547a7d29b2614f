"""Kernels under rotations: the check that rotating the attributes of a kernel rotates the kernel."""

import math

import torch
from torch import Tensor

from ik_e3nn.show.subject import ShownKernel
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.named import INVERSION, VERTICAL_MIRROR, rotation
from ik_e3nn.testing import representation

ANGLE = math.radians(40)
POINTS = 200


def rotation_error(kernel: ShownKernel, g: Tensor, case: int = 0) -> float:
    r"""Largest violation of steerability at some points.

    .. math:: \max_r |K(g r, g a) - D_{out}(g) \, K(r, a) \, D_{in}(g)^{-1}| \,/\, \mathrm{rms} K

    Args:
        kernel: The kernel.
        g: Orthogonal matrix (3, 3).
        case: Number of the case, which fixes the attributes.

    Example:
        >>> from ik_e3nn.show.subject import random_kernel
        >>> kernel = random_kernel("C4v", "0e", "0e + 1o")
        >>> rotation_error(kernel, inside(kernel.group)) < 1e-12, rotation_error(kernel, outside(kernel.group)) > 0.1
        (True, True)
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(POINTS, 3, generator=generator, dtype=torch.float64))
    points = directions * kernel.reach * torch.rand(POINTS, 1, generator=generator, dtype=torch.float64)
    K = kernel.matrix(points, case, None)
    difference = kernel.matrix(points @ g.T, case, g) - _conjugated(kernel, K, g)
    return float(difference.abs().max() / K.square().mean().sqrt())


def turned(kernel: ShownKernel, points: Tensor, g: Tensor, case: int = 0) -> Tensor:
    r"""The kernel rotated as a whole, positions and fields together, (n, irreps_out.dim, irreps_in.dim).

    .. math:: (g K)(r) = D_{out}(g) \, K(g^{-1} r, a) \, D_{in}(g)^{-1} = K(r, g a) \quad \text{for } g \in G
    """
    return _conjugated(kernel, kernel.matrix(points @ g, case, None), g)


def most_moved(kernel: ShownKernel, g: Tensor) -> int:
    """Number of the case whose kernel changes most when its attributes are rotated."""
    points = kernel.reach / 3 * torch.eye(3, dtype=torch.float64)
    changes = [
        float((kernel.matrix(points, case, g) - kernel.matrix(points, case, None)).norm())
        for case in range(len(kernel.cases))
    ]
    return max(range(len(changes)), key=changes.__getitem__)


def inside(group: SymmetryGroup) -> Tensor:
    """An element of a group: a rotation by 40 degrees about its axis if the group has it, otherwise a generator.

    Example:
        >>> inside(SymmetryGroup("C4v")).round().tolist()
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    turn = rotation(group.axis, ANGLE)  # type: ignore[arg-type]
    if group.contains(turn):
        return turn
    return group.generators[0] if len(group.generators) else torch.eye(3, dtype=torch.float64)


def outside(group: SymmetryGroup) -> Tensor | None:
    """An orthogonal matrix that is not in a group; None for O(3)."""
    candidates = (rotation((0.0, 0.0, 1.0), ANGLE), rotation((1.0, 0.0, 0.0), ANGLE), VERTICAL_MIRROR, INVERSION)
    return next((g for g in candidates if not group.contains(g)), None)


def _conjugated(kernel: ShownKernel, K: Tensor, g: Tensor) -> Tensor:
    D_out, D_in = representation(kernel.irreps_out, g), representation(kernel.irreps_in, g)
    return D_out @ K @ D_in.T
