"""Complete the generators to a whole group: the elements of a finite group, or the kind of a continuous one."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ik_e3nn.symmetry.named import HORIZONTAL_MIRROR, INVERSION, TWOFOLD_X, VERTICAL_MIRROR, rotation

MAX_AXIAL_ORDER = 1200  # C_1200 still counts as finite; a group with more elements counts as continuous
MAX_CUBIC_ORDER = 120  # the largest finite group without a main axis is Ih
SAME_ELEMENT = 1e-10  # two products that are the same element differ by less than this in double precision
OTHER_ELEMENT = 1e-5  # two products that are different elements differ by more than this

Continuous = Literal["none", "axial", "spherical"]


@dataclass(frozen=True)
class Closure:
    """A closed subgroup of O(3) as finitely many components times its connected part.

    Attributes:
        components: One matrix from every connected component, (n, 3, 3); for a finite group, all its elements.
        continuous: The connected part: "none" (identity alone), "axial" (SO(2) about ``axis``), "spherical" (SO(3)).
        axis: Unit vector (3,) of an axial group; z otherwise.
    """

    components: Tensor
    continuous: Continuous
    axis: Tensor


def close(generators: Tensor) -> Closure:
    """The smallest closed subgroup of O(3) that contains the generators.

    Args:
        generators: Orthogonal matrices (k, 3, 3), float64.

    Returns:
        Its components and its connected part. A group with more than 1,200 elements counts as continuous.

    Raises:
        ValueError: Products come close to each other without being equal, as with generators in single precision.
    """
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    axis = _common_axis(generators)
    elements = _finite_closure(generators, MAX_CUBIC_ORDER if axis is None else MAX_AXIAL_ORDER)
    if elements is not None:
        return Closure(elements, "none", z)
    if axis is None:
        improper = bool((torch.linalg.det(generators) < 0).any())
        identity = torch.eye(3, dtype=torch.float64)
        return Closure(torch.stack([identity, INVERSION] if improper else [identity]), "spherical", z)
    frame = rotation_to(axis)
    # classes of elements: (determinant, whether the axis is kept or reversed); any two of the last three give the third
    standard = {(1, 1): _identity(), (1, -1): TWOFOLD_X, (-1, 1): VERTICAL_MIRROR, (-1, -1): HORIZONTAL_MIRROR}
    kinds = {(int(torch.linalg.det(g).sign()), int((axis @ g @ axis).sign())) for g in generators} | {(1, 1)}
    present = standard if len(kinds) > 2 else kinds
    components = torch.stack([frame @ m @ frame.T for kind, m in standard.items() if kind in present])
    return Closure(components, "axial", axis)


def rotation_to(axis: Tensor) -> Tensor:
    """The shortest rotation (3, 3) that takes z to a unit vector."""
    x, y, z = axis.tolist()
    if math.hypot(x, y) < 1e-12:
        return _identity() if z > 0 else TWOFOLD_X.clone()
    return rotation((-y, x, 0.0), math.atan2(math.hypot(x, y), z))


def _identity() -> Tensor:
    return torch.eye(3, dtype=torch.float64)


def _finite_closure(generators: Tensor, max_order: int) -> Tensor | None:
    """All products of the generators, or None if there are more than max_order."""
    elements = _identity()[None]
    frontier = elements
    while len(frontier):
        products = torch.einsum("aij,bjk->abik", frontier, generators).reshape(-1, 3, 3)
        fresh: list[Tensor] = []
        for candidate in products:
            known = torch.cat([elements, *[f[None] for f in fresh]])
            distance = float((known - candidate).abs().amax((1, 2)).min())
            if SAME_ELEMENT < distance < OTHER_ELEMENT:
                raise ValueError(
                    f"the generators are not exact enough to determine their group: two products differ by "
                    f"{distance:.1e}, expected below {SAME_ELEMENT:.0e} or above {OTHER_ELEMENT:.0e}; compute the "
                    "matrices in double precision"
                )
            if distance > SAME_ELEMENT:
                fresh.append(candidate)
        frontier = torch.stack(fresh) if fresh else elements[:0]
        elements = torch.cat([elements, frontier])
        if len(elements) > max_order:
            return None
    return elements


def _common_axis(generators: Tensor) -> Tensor | None:
    """A line that every generator maps to itself, as unit vector (3,); None if no such line exists.

    It is the axis of a generator or, if all generators are mirrors or twofold turns, the axis of a product of two.
    """
    products = torch.einsum("aij,bjk->abik", generators, generators).reshape(-1, 3, 3)
    for g in torch.cat([generators, products]):
        proper = g * torch.linalg.det(g).sign()
        axis = torch.linalg.svd(proper - _identity())[2][-1]
        images = torch.einsum("kij,j->ki", generators, axis)
        if bool(((images @ axis).abs() > 1 - 1e-10).all()):
            return axis * (1.0 if axis[axis.abs().argmax()] > 0 else -1.0)
    return None
