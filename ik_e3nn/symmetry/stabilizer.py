r"""Whether some invariant tensors determine a group: whether no other element of O(3) leaves all of them fixed.

.. math:: \mathrm{Stab}(t_1, t_2, \dots) = \{ h \in O(3) : D^{(l_i, p_i)}(h)\, t_i = t_i \;\; \forall i \}

Elements of the stabilizer are found as zeros of :math:`\sum_i |D(h) t_i - t_i|^2`, by the method of Levenberg and
Marquardt from random rotations. If the stabilizer is larger than the group, at least half of its elements are outside
of the group, so that many of the starts lead to one of these.
"""

import functools
from collections.abc import Iterator, Sequence

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.symmetry.group import SymmetryGroup
from ik_e3nn.symmetry.wigner import rotation_generators

STARTS = 64
STEPS = (6, 6, 8, 10)  # after each of these numbers of steps, what is found is looked at
FOUND = 1e-8  # of the root of the sum, for tensors of norm 1
TURN = 0.5  # largest step in radian


@functools.cache
def is_determined_by(group: SymmetryGroup, irreps: tuple[tuple[int, int], ...], *, proper: bool = False) -> bool:
    """Whether the invariants of a group in some irreps are fixed by no other element.

    Args:
        group: The group G.
        irreps: Degrees and parities (l, p).
        proper: Compare with rotations only, without reflections.

    Example:
        A vector along z is fixed by all rotations about z and all mirrors that contain z:

        >>> is_determined_by(SymmetryGroup("Cinfv"), ((1, -1),)), is_determined_by(SymmetryGroup("C4v"), ((1, -1),))
        (True, False)
    """
    tensors = [(l, p, group.invariants(l, p)) for l, p in irreps]
    tensors = [(l, p, t) for l, p, t in tensors if len(t)]
    signs = (1,) if proper else (1, -1)
    return all(group.contains(sign * h) for sign in signs for h in _solutions(tensors, sign))


def _solutions(tensors: Sequence[tuple[int, int, Tensor]], sign: int) -> Iterator[Tensor]:
    """Rotations h (3, 3) for which sign * h leaves all tensors fixed."""
    generator = torch.Generator().manual_seed(0)
    quaternions = torch.randn(STARTS, 4, generator=generator, dtype=torch.float64)
    h = o3.quaternion_to_matrix(quaternions / quaternions.norm(dim=1, keepdim=True))
    if not tensors:
        yield from h
        return
    axes, angles = o3.matrix_to_axis_angle(h)
    omega = axes * angles[:, None]
    wanted = [t for _, _, t in tensors]
    moved = [(p if sign < 0 else 1) * _turned(l, t.expand(STARTS, -1, -1), omega, parts=16) for l, p, t in tensors]
    damping = torch.full((STARTS,), 1e-3, dtype=torch.float64)
    residual = _residual(moved, wanted)
    for steps in STEPS:
        for _ in range(steps):
            J = torch.cat([_derivative(l, m) for (l, _, _), m in zip(tensors, moved, strict=True)], 1)  # (N, rows, 3)
            A, b = J.mT @ J, (J.mT @ residual[:, :, None]).squeeze(2)
            scale = damping * (A.diagonal(dim1=1, dim2=2).mean(1) + 1e-12)
            step = -torch.linalg.solve(A + torch.diag_embed(scale[:, None].expand(-1, 3)), b)
            step = step * (TURN / step.norm(dim=1).clamp(min=TURN))[:, None]
            trial = [_turned(l, m, step) for (l, _, _), m in zip(tensors, moved, strict=True)]
            new = _residual(trial, wanted)
            better = new.square().sum(1) <= residual.square().sum(1)
            moved = [torch.where(better[:, None, None], t, m) for t, m in zip(trial, moved, strict=True)]
            residual = torch.where(better[:, None], new, residual)
            h = torch.where(better[:, None, None], _rotations(step) @ h, h)
            damping = torch.where(better, damping / 5, damping * 5).clamp(1e-12, 1e6)
        yield from h[residual.norm(dim=1) < FOUND]


def _turned(l: int, t: Tensor, omega: Tensor, parts: int = 1) -> Tensor:
    """Tensors t (N, n, 2l+1) turned by axes times angles (N, 3), by the series of the exponential."""
    X = torch.einsum("nk,kij->nij", omega / (parts * 2), rotation_generators(l))
    for _ in range(2 * parts):
        term = t
        for power in range(1, 16):
            term = term @ X.mT / power
            t = t + term
    return t


def _derivative(l: int, t: Tensor) -> Tensor:
    """Derivatives (N, n (2l+1), 3) of turned tensors t (N, n, 2l+1) by further small turns about x, y, z."""
    return torch.einsum("kij,Nnj->Nnik", rotation_generators(l), t).flatten(1, 2)


def _residual(moved: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    return torch.cat([(m - w).flatten(1) for m, w in zip(moved, wanted, strict=True)], 1)


def _rotations(omega: Tensor) -> Tensor:
    """Rotation matrices of axes times angles."""
    return torch.matrix_exp(torch.einsum("nk,kij->nij", omega, _cross()))


@functools.cache
def _cross() -> Tensor:
    """Matrices X_k with (X_k v) = e_k x v."""
    X = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        X[i, j, k], X[i, k, j] = -1.0, 1.0
    return X
