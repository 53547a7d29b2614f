"""The label values of one structure, converted to standard shapes."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray
from ik_e3nn.errors import DataError

# Positions (row, column) of the Voigt components xx, yy, zz, yz, xz, xy.
_VOIGT_ROWS, _VOIGT_COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)


@dataclass(frozen=True)
class StructureLabels:
    """Labels of one structure; NaN where there is none.

    Args:
        energy: Total energy in eV.
        forces: Forces, (N, 3), in eV/A, without any constraints applied.
        stress: Stress, (3, 3), in eV/A^3, tension positive.

    Example:
        >>> StructureLabels.empty(2).forces.shape
        (2, 3)
    """

    energy: float
    forces: FloatArray
    stress: FloatArray

    @classmethod
    def empty(cls, num_atoms: int) -> "StructureLabels":
        """Labels of a structure that has none.

        Args:
            num_atoms: Number of atoms.

        Returns:
            All NaN.
        """
        return cls(float("nan"), np.full((num_atoms, 3), np.nan), np.full((3, 3), np.nan))


def scalar_value(value: object, what: str) -> float:
    """One number as a float; NaN if it is not finite.

    Args:
        value: A number or an array of one number.
        what: Name for the message.

    Returns:
        The number.

    Raises:
        DataError: The value is not one number.

    Example:
        >>> scalar_value(np.array([2]), "energy")
        2.0
    """
    try:
        number = float(np.asarray(value, dtype=np.float64).reshape(-1)[0]) if np.size(value) == 1 else None  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise DataError(f"{what} must be one number, got {value!r:.80}")
    return number if np.isfinite(number) else float("nan")


def force_array(value: object, num_atoms: int, what: str) -> FloatArray:
    """Forces as an (N, 3) array; NaN where not finite.

    Args:
        value: Array-like.
        num_atoms: Number of atoms N.
        what: Name for the message.

    Returns:
        A new array.

    Raises:
        DataError: The value does not consist of N times 3 numbers.

    Example:
        >>> force_array([[0, 0, 1]], 1, "forces").tolist()
        [[0.0, 0.0, 1.0]]
    """
    array = _numbers(value, what)
    if array.size != 3 * num_atoms or (array.ndim == 2 and array.shape != (num_atoms, 3)):
        raise DataError(f"{what} must have shape ({num_atoms}, 3), got {array.shape}")
    return _nan_where_infinite(array.reshape(num_atoms, 3))


def stress_matrix(value: object, what: str) -> FloatArray:
    """A stress or virial as a symmetric 3x3 matrix; all NaN if any number is not finite.

    Args:
        value: 3x3, 9 numbers, or 6 in Voigt order xx, yy, zz, yz, xz, xy.
        what: Name for the message.

    Returns:
        A new (3, 3) array.

    Raises:
        DataError: The number of components is wrong, or the matrix is far from symmetric.

    Example:
        >>> stress_matrix([1, 2, 3, 4, 5, 6], "stress").tolist()
        [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]
    """
    array = _numbers(value, what).reshape(-1)
    if array.size == 6:
        matrix = np.zeros((3, 3))
        matrix[_VOIGT_ROWS, _VOIGT_COLUMNS] = matrix[_VOIGT_COLUMNS, _VOIGT_ROWS] = array
    elif array.size == 9:
        matrix = array.reshape(3, 3)
    else:
        raise DataError(f"{what} must be 3x3, 9 numbers or 6 (Voigt: xx, yy, zz, yz, xz, xy), got {array.size} numbers")
    if not np.isfinite(matrix).all():
        return np.full((3, 3), np.nan)
    skew = np.abs(matrix - matrix.T).max()
    if skew > 0.1 * np.abs(matrix).max() + 1e-6:
        raise DataError(
            f"{what} is not symmetric (components differ by {skew:.3g}); is it a stress, and in this order?"
        )
    return 0.5 * (matrix + matrix.T)


def stress_from_virial(virial: FloatArray, atoms: Atoms) -> FloatArray:
    r"""Stress from the virial, :math:`\sigma = -W / V`, which is positive under tension.

    Args:
        virial: The virial W, (3, 3), in eV.
        atoms: The structure, for its volume V = |det cell|.

    Returns:
        Stress, (3, 3), in eV/A^3; NaN without a volume.

    Example:
        >>> stress_from_virial(-2.0 * np.eye(3), Atoms("H", cell=[1, 1, 2], pbc=True)).diagonal().tolist()
        [1.0, 1.0, 1.0]
    """
    volume = abs(np.linalg.det(atoms.cell.array))
    return -virial / volume if volume > 0 else np.full((3, 3), np.nan)


def _numbers(value: object, what: str) -> FloatArray:
    """Any array-like as a float array."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} must be numbers, got {value!r:.80}") from None


def _nan_where_infinite(array: FloatArray) -> FloatArray:
    """The array with infinities replaced by NaN."""
    return np.where(np.isfinite(array), array, np.nan)
