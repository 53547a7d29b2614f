r"""Representation matrices of O(3) in e3nn's real basis, in float64 for every l.

Only public e3nn functions are used: the generators of :math:`so(3)` on the irrep *l* are themselves an intertwiner
:math:`1 \otimes l \to l`, hence proportional to ``wigner_3j(1, l, l)``.
"""

import functools

import torch
from e3nn import o3
from torch import Tensor


@functools.cache
def rotation_generators(l: int) -> Tensor:
    r"""Generators :math:`X_k` of rotations about x, y, z on the irrep *l*, with :math:`[X_x, X_y] = X_z`.

    Args:
        l: Degree of the irrep.

    Returns:
        Tensor (3, 2l+1, 2l+1), float64, antisymmetric.

    Example:
        >>> X = rotation_generators(2)
        >>> torch.allclose(X[0] @ X[1] - X[1] @ X[0], X[2])
        True
    """
    if l == 0:
        return torch.zeros(3, 1, 1, dtype=torch.float64)
    X = o3.wigner_3j(1, l, l, dtype=torch.float64)
    # Casimir: sum_k X_k^2 = -l(l+1). The norm of a 3j tensor is 1, so the sum of its squares is 1.
    X = X * (l * (l + 1) * (2 * l + 1)) ** 0.5
    sign = torch.sum((X[0] @ X[1] - X[1] @ X[0]) * X[2]).sign()
    return X * sign


def rotation_vector(rotation: Tensor) -> Tensor:
    """Axis times angle (radian) of a rotation matrix (3, 3), accurate for every angle including pi."""
    from scipy.spatial.transform import Rotation

    return torch.from_numpy(Rotation.from_matrix(rotation.double().numpy()).as_rotvec())


def representation_matrix(l: int, p: int, g: Tensor) -> Tensor:
    r"""Matrix :math:`D^{(l,p)}(g)` of an orthogonal matrix g.

    .. math:: D^{(l,p)}(g) = p^{[\det g < 0]} \exp(\sum_k \omega_k X_k),
              \qquad \exp(\sum_k \omega_k X_k^{(1)}) = g \det g

    Args:
        l: Degree of the irrep.
        p: Parity, +1 or -1.
        g: Orthogonal matrix (3, 3).

    Returns:
        Tensor (2l+1, 2l+1), float64; the same matrices as ``o3.Irrep(l, p).D_from_matrix``, to rounding.

    Example:
        >>> g = -o3.rand_matrix(dtype=torch.float64)
        >>> torch.allclose(representation_matrix(1, -1, g), g)
        True
    """
    g = g.double()
    improper = bool(torch.linalg.det(g) < 0)
    D = _of_rotation(l, tuple((-g if improper else g).flatten().tolist()))
    return (p if improper else 1) * D


@functools.lru_cache(maxsize=1024)  # the same few elements of a group are asked for again and again
def _of_rotation(l: int, entries: tuple[float, ...]) -> Tensor:
    omega = rotation_vector(torch.tensor(entries, dtype=torch.float64).reshape(3, 3))
    return torch.matrix_exp(torch.einsum("k,kij->ij", omega, rotation_generators(l)))
