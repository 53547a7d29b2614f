r"""Fourier components on a lattice that have the symmetry of its plane group: scalars, vectors and higher degrees.

.. math:: f(R u + t) = D_l(R) f(u)

For every orbit of reciprocal lattice vectors under the point group, the functions are found by projection: the mean of
:math:`D_l(R) f(R^{-1}(u - t))` over the operations is a symmetric projector on the coefficients of sines and cosines.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ik_e3nn.symmetry.invariants import canonical_basis
from ik_e3nn.symmetry.plane import PlaneGroup
from ik_e3nn.symmetry.wigner import representation_matrix


class Waves(NamedTuple):
    r"""Symmetric functions of degree l from one orbit of reciprocal lattice vectors.

    Attributes:
        vectors: k, one of each pair of k and -k, (J, 2), whole numbers in float64.
        length: Length of the reciprocal lattice vectors, in 1/A.
        functions: Coefficients (2 J, n, 2l+1) of all cosines of :math:`2\pi k \cdot u`, then of all sines; the mean of
            :math:`|f|^2` over the face is 2l+1 for each of the n functions.
    """

    vectors: Tensor
    length: float
    functions: Tensor


def symmetric_waves(plane: PlaneGroup, l: int, longest: float) -> list[Waves]:
    """All symmetric functions of a degree, of parity (-1)^l, from the shortest reciprocal lattice vectors on.

    Args:
        plane: The plane group.
        l: Degree.
        longest: Longest reciprocal lattice vectors in 1/A.

    Example:
        A face of group p1 has the constant and, for each pair k and -k, a cosine and a sine:

        >>> waves = symmetric_waves(PlaneGroup("p1", [[2.0, 0.0], [0.0, 2.5]]), 0, 3.0)
        >>> [(one.vectors.tolist(), one.functions.shape[1]) for one in waves]
        [([[0.0, 0.0]], 1), ([[0.0, 1.0]], 2)]
    """
    D = torch.stack([representation_matrix(l, (-1) ** l, g) for g in plane.matrices])
    found = []
    for vectors, length in _orbits(plane, longest):
        rows = canonical_basis(_fixed(_projector(plane, vectors, D)))
        if len(rows):
            norm = math.sqrt((2 * l + 1) * (1 if length == 0 else 2))
            functions = norm * rows.view(len(rows), -1, 2 * l + 1).transpose(0, 1)
            found.append(Waves(vectors, length, functions))
    return found


def _orbits(plane: PlaneGroup, longest: float) -> list[tuple[Tensor, float]]:
    """Orbits of reciprocal lattice vectors under the point group and inversion, one of each pair, with their length."""
    reciprocal = 2 * math.pi * torch.linalg.inv(plane.cell).T  # rows b_1, b_2
    most = [math.ceil(longest * float(vector.norm()) / (2 * math.pi)) for vector in plane.cell]
    steps = [torch.arange(-m, m + 1, dtype=torch.float64) for m in most]
    vectors = torch.cartesian_prod(*steps)
    lengths = (vectors @ reciprocal).norm(dim=1)
    order = sorted(range(len(vectors)), key=lambda i: (round(float(lengths[i]), 6), vectors[i].tolist()))
    inverse = torch.linalg.inv(plane.rotations).round()
    seen: set[tuple[float, float]] = set()
    found = []
    for i in order:
        if float(lengths[i]) > longest * (1 + 1e-9) or _canonical(vectors[i]) in seen:
            continue
        orbit = sorted({_canonical(vectors[i] @ R) for R in inverse}, reverse=True)
        seen.update(orbit)
        found.append((torch.tensor(orbit, dtype=torch.float64), float(lengths[i])))
    return found


def _canonical(k: Tensor) -> tuple[float, float]:
    """The one of k and -k whose first component that is not zero is positive."""
    x, y = (float(value) + 0.0 for value in k.round())
    return (x, y) if (x, y) > (-x, -y) else (-x + 0.0, -y + 0.0)


def _projector(plane: PlaneGroup, vectors: Tensor, D: Tensor) -> Tensor:
    """The projector on symmetric coefficients, (2 J (2l+1), 2 J (2l+1))."""
    J = len(vectors)
    places = {tuple(k.tolist()): j for j, k in enumerate(vectors)}
    total = torch.zeros(2 * J, 2 * J, D.shape[1], D.shape[1], dtype=torch.float64)
    for R, t, matrix in zip(plane.rotations, plane.shifts, D, strict=True):
        waves = torch.zeros(2 * J, 2 * J, dtype=torch.float64)
        for j, k in enumerate(vectors):
            moved = (k @ torch.linalg.inv(R)).round()  # k . R^-1 (u - t) = moved . (u - t)
            one = _canonical(moved)
            sign = 1.0 if one == tuple((moved + 0.0).tolist()) else -1.0
            i, phase = places[one], 2 * math.pi * float(moved @ t)
            c, s = math.cos(phase), math.sin(phase)
            waves[i, j] += c  # cos(moved u - phase)
            waves[J + i, j] += sign * s
            waves[i, J + j] -= s  # sin(moved u - phase)
            waves[J + i, J + j] += sign * c
        total += waves[:, :, None, None] * matrix
    if not vectors.any():  # the sine of k = 0 is zero
        total[J:] = total[:, J:] = 0.0
    size = 2 * J * D.shape[1]
    return total.transpose(1, 2).reshape(size, size) / len(D)


def _fixed(projector: Tensor) -> Tensor:
    """Orthonormal rows that span the image of a symmetric projector."""
    values, vectors = torch.linalg.eigh(0.5 * (projector + projector.T))
    return vectors[:, values > 0.5].T
