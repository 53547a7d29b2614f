"""References by least squares: coefficients, for example of elements, some of which may be known."""

from typing import NamedTuple

import numpy as np

from ik_e3nn.arrays import BoolArray, FloatArray


class Fit(NamedTuple):
    """A fit of some coefficients.

    Attributes:
        coefficients: Known and fitted coefficients, (F,); NaN where no value determines them.
        free: Which coefficients were fitted, (F,).
        rank: Rank of the fit; 0 if nothing was fitted.
        condition: Ratio of its largest to its smallest non-zero singular value.
        rows: Number of values that were fitted.
    """

    coefficients: FloatArray
    free: BoolArray
    rank: int
    condition: float
    rows: int


def fit_unknown(features: FloatArray, values: FloatArray, known: FloatArray | None = None) -> Fit:
    r"""Fit the unknown coefficients by least squares with the known ones fixed, :math:`\min_c \| A c - y \|^2`.

    If the features do not determine all coefficients, the solution of the smallest norm is taken.

    Args:
        features: A, (M, F).
        values: y, (M,), finite.
        known: Fixed coefficients, (F,), NaN for those to be fitted; by default, all are fitted.

    Returns:
        The fit.

    Example:
        >>> fit = fit_unknown(np.array([[2.0, 0], [2.0, 1]]), np.array([-2.0, -7.0]), np.array([-1.0, np.nan]))
        >>> fit.coefficients.round(6).tolist(), fit.rank, fit.rows
        ([-1.0, -5.0], 1, 1)
    """
    coefficients = np.full(features.shape[1], np.nan) if known is None else known.copy()
    free = np.isnan(coefficients) & (features != 0).any(axis=0)
    rows = (features[:, free] != 0).any(axis=1)
    if not free.any():
        return Fit(coefficients, free, 0, 1.0, 0)
    rest = values[rows] - features[rows] @ np.nan_to_num(coefficients)
    solution, _, rank, singular = np.linalg.lstsq(features[rows][:, free], rest, rcond=1e-10)
    coefficients[free] = solution
    return Fit(coefficients, free, int(rank), float(singular[0] / singular[rank - 1]), int(rows.sum()))
