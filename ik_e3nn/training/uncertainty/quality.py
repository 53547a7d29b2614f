"""Comparison of errors with standard deviations: factors, quality and warnings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data.structures.geometry import find_duplicates
from ik_e3nn.errors import DataError

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
Pairs = Mapping[str, tuple[FloatArray, FloatArray]]
LEAST = 4  # structures for calibration and test together
FEW = 50  # values; with fewer, a factor is uncertain by more than a tenth
CERTAIN = 1e-6  # standard deviations below this fraction of their root mean square are zero by symmetry


def unseen(train: Sequence[Atoms], held_out: Sequence[Atoms]) -> list[int]:
    """Numbers of the training structures that are not held out; warns if some are.

    Raises:
        DataError: No structure is left.

    >>> one, other = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    >>> unseen([one, other], [other])
    [0]
    """
    same = {n for group in find_duplicates([*train, *held_out]) if group[-1] >= len(train) for n in group}
    left = [number for number in range(len(train)) if number not in same]
    if not left:
        raise DataError(
            "all structures of train are in data too; data must be structures that the model was not trained on, like "
            "set_aside/valid.xyz in a run's folder."
        )
    if len(left) < len(train):
        _log.warning(
            "%d of %d structures of train are in data too and are left out of train; data must be structures that the "
            "model was not trained on", len(train) - len(left), len(train),
        )  # fmt: skip
    return left


def factors_of(pairs: Pairs) -> dict[str, float]:
    r"""Factors a of the standard deviations s, :math:`a^2 = \langle (\Delta / s)^2 \rangle`, by label.

    >>> factors_of({"energy": (np.array([2.0, -2.0]), np.array([1.0, 1.0]))})
    {'energy': 2.0}
    """
    return {label: float(np.sqrt(np.mean((error / std) ** 2))) for label, (error, std) in pairs.items()}


def uncertain_only(label: str, error: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The errors and standard deviations that are not zero by symmetry."""
    free = std > CERTAIN * np.linalg.norm(std) / max(len(std), 1) ** 0.5
    if not free.any():
        raise DataError(
            f"no labeled {label} has a standard deviation above zero: the structures are too symmetric, or the models "
            "of the committee are the same; give others."
        )
    return error[free], std[free]


def quality_of(error: FloatArray, std: FloatArray) -> dict[str, float]:
    r"""How well standard deviations predict the size of errors.

    Args:
        error: Errors.
        std: Their standard deviations.

    Returns:
        ``spearman``: rank correlation of std and |error|; ``within_std``: fraction of errors below their std, 0.683 for
        a Gaussian; ``z_rms``: root mean square of error/std, 1 if calibrated; ``nll``: mean negative log-likelihood of
        a Gaussian minus that with one common std, negative if individual stds are better than a common one; ``rmse``.

    >>> rng = np.random.default_rng(0)
    >>> std = rng.uniform(0.1, 1.0, 20000)
    >>> quality = quality_of(std * rng.normal(size=20000), std)
    >>> abs(quality["within_std"] - 0.683) < 0.01, abs(quality["z_rms"] - 1) < 0.02, quality["nll"] < 0
    (True, True, True)
    """
    from scipy.stats import spearmanr

    z = error / std
    common = np.sqrt(np.mean(error**2))
    correlation = spearmanr(std, np.abs(error)).statistic if np.ptp(std) > 0 else 0.0
    return {
        "spearman": float(correlation),
        "within_std": float(np.mean(np.abs(z) < 1)),
        "z_rms": float(np.sqrt(np.mean(z**2))),
        "nll": float(np.mean(0.5 * z**2 + np.log(std)) - (0.5 + np.log(common))),
        "rmse": float(common),
    }


def warn_of_doubts(calibrated: Pairs, quality: Mapping[str, Mapping[str, float]]) -> None:
    r"""Warn of standard deviations that cannot be trusted.

    A factor from n errors has a relative error of :math:`1/\sqrt{2n}`.

    Args:
        calibrated: Errors and standard deviations that the factors come from, by label.
        quality: The results of ``quality_of`` on the other half, by label.
    """
    for label, (errors, _) in calibrated.items():
        found = quality[label]
        if len(errors) < FEW:
            _log.warning(
                "%s: calibrated on %d values only, so its factor is uncertain by %.0f %%; give more data",
                label, len(errors), 100 / np.sqrt(2 * len(errors)),
            )  # fmt: skip
        if not 0.5 < found["z_rms"] < 2.0:
            _log.warning("%s: errors on the other half are %.2g times the expected size", label, found["z_rms"])
        if found["spearman"] < 0.1:
            _log.warning(
                "%s: standard deviations hardly rank the errors (Spearman %.2f): they show the size of errors, but not "
                "which predictions to trust", label, found["spearman"],
            )  # fmt: skip
