"""Warnings about a stress that has another unit or sign, or is a virial."""

from math import log

import numpy as np

from ik_e3nn.data.labels.keys import LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.suspicions.unit_evidence import elastic_stiffness, stress_sizes
from ik_e3nn.data.suspicions.unit_names import STRESSES

# ``stress_sizes`` of crystals and liquids are 0.05 to 0.5; energies and strain give finer evidence.
_USUAL_SIZE, _TOO_LARGE = 0.2, 8.0
# Uncertainty of the size of the stress from energies and from forces, as logarithms of factors.
_ENERGIES_UNCERTAINTY, _FORCES_UNCERTAINTY = log(2.5), log(4.0)


def suspicious_stress(data: LabeledSet, slope: float | None, keys: LabelKeys) -> list[str]:
    """Warn if the stress is in another unit, has the opposite sign, or is a virial.

    Args:
        data: Structures with labels.
        slope: Differences of energies divided by the work of the stress, None if unknown.
        keys: The assumed units; they name the settings to change.

    Returns:
        At most one sentence.
    """
    sizes, stiffness = stress_sizes(data), elastic_stiffness(data)
    known = np.isfinite(sizes)
    volumes = np.array([abs(np.linalg.det(atoms.cell.array)) for atoms in data.structures])
    size = float(np.median(sizes[known])) if known.sum() >= 5 else None
    if slope is not None and slope < 0 and (stiffness or 0.0) > 0:
        return [
            "the energies seem to have the wrong sign: they fall where the stress resists a strain; multiply them by -1"
        ]
    factor = _factor(slope, size)
    if (
        slope is not None
        and factor is not None
        and size is not None
        and 1 / _TOO_LARGE < size / _USUAL_SIZE < _TOO_LARGE
    ):
        return [
            f"the energies do not fit stress and forces, which fit each other: they change by {abs(slope):.3g} times "
            "the work of the stress; check their unit, and whether they are per atom"
        ]
    negative = (slope if slope is not None else stiffness or 1.0) < 0
    if factor is None:
        if not negative:
            return []
        return ["the stress seems to have the opposite sign, as pressures have: tension is positive; multiply it by -1"]
    if slope is not None and factor < 10:
        return [f"the stress does not fit the energies: they change by {np.sign(slope) / factor:.3g} times its work"]
    volume = float(np.median(volumes[data.known("stress")]))
    fitting = _fitting(factor, volume, _ENERGIES_UNCERTAINTY if slope is not None else _FORCES_UNCERTAINTY)
    grows = _grows_with_volume(sizes[known], volumes[known])
    if grows is not None and "virial" in fitting:
        fitting = ["virial"] if grows else [name for name in fitting if name != "virial"] or fitting
    witness = "the energies" if slope is not None else "the forces"
    what = " or ".join(_sentence(name, negative, keys) for name in fitting)
    return [f"{what}: it is {factor:.2g} times the value expected from {witness} (unless those are in a smaller unit)"]


def _factor(slope: float | None, size: float | None) -> float | None:
    """The factor by which the stress is too large; None if it is right or unknown."""
    if slope is not None:
        return 1.0 / abs(slope) if abs(log(abs(slope))) > _ENERGIES_UNCERTAINTY else None
    return size / _USUAL_SIZE if size is not None and size > _TOO_LARGE else None


def _fitting(factor: float, volume: float, tolerance: float) -> list[str]:
    """The unit that fits best, and a virial, if the volume fits about as well."""
    distances = {name: abs(log(factor * size)) for name, size in STRESSES.items()}
    distances["virial"] = abs(log(factor / volume)) if volume > 0 else np.inf
    order = sorted(distances, key=lambda name: distances[name])
    return [
        name for name in order if name == order[0] or ("virial" in (name, order[0]) and distances[name] < tolerance)
    ]


def _grows_with_volume(sizes: np.ndarray, volumes: np.ndarray) -> bool | None:
    """Whether the stress is larger in larger cells, as a virial is; None if all cells have similar volumes."""
    logarithms, rest = np.log(volumes), np.log(sizes) - np.log(volumes)
    if logarithms.std() < 0.25:
        return None
    return bool(np.std(rest) < np.std(rest + logarithms))


def _sentence(name: str, negative: bool, keys: LabelKeys) -> str:
    """The probable unit and sign of the stress, and how to correct it."""
    if name == "virial":
        sign = "-" if negative else ""
        return (
            f"the stress seems to be a virial in eV, {sign}stress times volume; set "
            f"{keys.setting('virial', 'NAME')} with its name instead"
        )
    sign = " and the opposite sign, as pressures and VASP have" if negative else ""
    return (
        f"the stress seems to be in {name}{sign}, not in eV/A^3; divide it by "
        f"{(-1 if negative else 1) / STRESSES[name]:.6g}"
    )
