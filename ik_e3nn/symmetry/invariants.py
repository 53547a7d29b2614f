r"""Vectors of an irrep of O(3) that a subgroup G leaves fixed.

.. math:: \mathrm{Inv}_G(l, p) = \{ v : D^{(l,p)}(g)\, v = v \;\; \forall g \in G \}

It is enough that the generators of G leave v fixed. The basis is canonical (reduced row echelon form of the projector,
then Gram-Schmidt) and does not depend on the linear algebra library, because the weights of saved models refer to it.
"""

import torch
from torch import Tensor

from ik_e3nn.symmetry.wigner import representation_matrix

NULL_TOLERANCE = 1e-9  # singular values of D(g) - 1 are below 1e-12 on the invariant space and above 1e-2 off it


def null_space(constraints: Tensor) -> Tensor:
    """Canonical orthonormal basis of {v : constraints @ v = 0}.

    Args:
        constraints: Matrix (rows, d), float64.

    Returns:
        Tensor (dimension of the null space, d), orthonormal rows.
    """
    _, singular_values, rows = torch.linalg.svd(constraints, full_matrices=True)
    rank = int((singular_values > NULL_TOLERANCE).sum())
    return canonical_basis(rows[rank:])


def canonical_basis(rows: Tensor) -> Tensor:
    """Orthonormal basis of the row space that depends on the space alone, not on the rows that span it."""
    rows = rows.clone()
    count = rows.shape[0]
    done = 0
    for column in range(rows.shape[1]):
        if done == count:
            break
        pivot = done + int(rows[done:, column].abs().argmax())
        if rows[pivot, column].abs() < 1e-7:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column].clone()
        others = torch.arange(count) != done
        rows[others] -= rows[others, column, None] * rows[done]
        done += 1
    q, r = torch.linalg.qr(rows.T)
    basis = (q * torch.diagonal(r).sign()).T
    return torch.where(basis.abs() < 1e-14, 0.0, basis)


def invariants(generators: Tensor, l: int, p: int) -> Tensor:
    r"""Orthonormal basis of the vectors of irrep (l, p) that are fixed by all generators.

    Args:
        generators: Orthogonal matrices (k, 3, 3).
        l: Degree of the irrep.
        p: Parity, +1 or -1.

    Returns:
        Tensor (number of invariants, 2l+1), float64.

    Example:
        A mirror perpendicular to z leaves x and y of a vector alone:

        >>> invariants(torch.diag(torch.tensor([1.0, 1.0, -1.0]))[None], 1, -1)
        tensor([[1., 0., 0.],
                [0., 1., 0.]], dtype=torch.float64)
    """
    identity = torch.eye(2 * l + 1, dtype=torch.float64)
    constraints = [representation_matrix(l, p, g) - identity for g in generators]
    return null_space(torch.cat([torch.zeros_like(identity), *constraints]))
