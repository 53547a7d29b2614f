"""The reference of a property: the part that composition and size predict; a model adds its readouts to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from ik_e3nn.arrays import BoolArray, FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet, known_rows
from ik_e3nn.data.labels.least_squares import fit_unknown
from ik_e3nn.data.labels.outliers import robust_scores
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.errors import DataError
from ik_e3nn.targets import Target

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PropertyReference:
    """Coefficients of one property's reference; see ``ik_e3nn.targets.scale.PropertyScale``.

    Args:
        per_atom: By species; NaN if unknown.
        per_square: By species, per A^2; NaN if unknown.
        shift: Constant.
        scale: Root mean square of values minus reference.
    """

    per_atom: FloatArray
    per_square: FloatArray
    shift: float
    scale: float


def fit_references(molecules: LabeledSet, species: Sequence[int]) -> list[PropertyReference]:
    """References of all targets by least squares, from the molecules that have values.

    A few absurd values (one in a hundred at most, each twenty robust standard deviations off) that would make the scale
    more than three times as large are left out, with a warning. If up to one in twenty make it 1.3 times as large,
    they are kept, with a warning.

    For targets that are sums over atoms, the coefficients of elements in none of these molecules are NaN.

    Args:
        molecules: The training set.
        species: Atomic numbers, in the model's order.

    Returns:
        One reference for each target.

    Raises:
        DataError: A target has no value in any molecule.

    Example:
        >>> from ik_e3nn.targets import Extensive
        >>> energies = {"E": np.array([-2.0, -1.0, -4.0])}
        >>> hydrogens = [Atoms("H2"), Atoms("H"), Atoms("H4")]
        >>> set_ = LabeledSet(hydrogens, (Extensive("E", "eV"),), energies, ["a", "b", "c"])
        >>> fit_references(set_, [1])[0].per_atom.round(6).tolist()
        [-1.0]
    """
    references = []
    for target in molecules.targets:
        counts, squares = _composition(molecules, species, target)
        known = known_rows(molecules.values[target.name])
        if not known.any():
            raise DataError(f"no molecule to train on has a value of {target.name}")
        values = molecules.values[target.name]
        reference, rest = _fit(values[known], counts[known], squares[known], target)
        absurd = _absurd(rest)
        if absurd.any():
            rows = np.flatnonzero(known)
            kept, left = rows[~absurd], rows[absurd]
            without, _ = _fit(values[kept], counts[kept], squares[kept], target)
            names = ", ".join(molecules.names[owner] for owner in molecules.owners(target)[left[:10]])
            unit = f" {target.unit}" if target.unit else ""
            if 3.0 * without.scale < reference.scale and len(left) <= max(1, len(rows) // 100):
                reference = without
                logger.warning(
                    "%d of %d values of %s are so far off that they alone would set its scale: %s; the scale is "
                    "set by the other values, %.3g%s. Check them", len(left), len(rows), target.name, names,
                    reference.scale, unit,
                )  # fmt: skip
            elif 1.3 * without.scale < reference.scale:
                logger.warning(
                    "%d of %d values of %s are far off: %s; with them the spread of its values is %.3g%s, without them "
                    "%.3g%s, so that errors relative to the spread look %.2g times smaller. Check them",
                    len(left), len(rows), target.name, names, reference.scale, unit, without.scale, unit,
                    reference.scale / without.scale,
                )  # fmt: skip
        references.append(reference)
    return references


def _fit(
    values: FloatArray, counts: FloatArray, squares: FloatArray, target: Target
) -> tuple[PropertyReference, FloatArray]:
    """The reference of one target by least squares, and the values minus the reference."""
    terms = {"per_atom": counts, "per_square": squares, "shift": np.ones((len(counts), 1))}
    used = {name: terms[name].astype(float) for name in terms if name in target.reference}
    found = {name: np.zeros(term.shape[1]) for name, term in terms.items()}
    rest = values
    if used:
        features = np.concatenate(list(used.values()), 1)
        coefficients = np.nan_to_num(fit_unknown(features, target.isotropic(values)).coefficients)
        rest = values - _from_isotropic(target, features @ coefficients)
        ends = np.cumsum([term.shape[1] for term in used.values()])[:-1]
        found |= dict(zip(used, np.split(coefficients, ends), strict=True))
    for name in target.reference & {"per_atom", "per_square"}:
        found[name] = np.where(counts.any(0), found[name], np.nan)
    scale = float(np.sqrt(np.mean(rest**2)))
    least = 1e-9 * min(1.0, float(np.abs(values).max()))  # less is rounding, in large units too
    scale = scale if scale > least else 1.0
    return PropertyReference(found["per_atom"], found["per_square"], float(found["shift"][0]), scale), rest


def _from_isotropic(target: Target, numbers: FloatArray) -> FloatArray:
    """Values with an isotropic part only, see ``Target.from_isotropic``."""
    return np.asarray(target.from_isotropic(torch.from_numpy(numbers)))


def _absurd(rest: FloatArray) -> BoolArray:
    """Which values are more than twenty robust standard deviations off; none if they are more than a twentieth."""
    size = float(rest.std()) or 1.0
    far = np.zeros(len(rest), dtype=bool)
    for component in rest.reshape(len(rest), -1).T:
        far |= np.abs(robust_scores(component / size)) > 20.0
    return far if len(rest) >= 10 and far.sum() <= max(1, len(rest) // 20) else np.zeros_like(far)


def completed(
    molecules: LabeledSet, species: Sequence[int], target: Target, known: PropertyReference
) -> PropertyReference:
    """A property's reference with the missing coefficients fitted by least squares, while the known ones stay fixed.

    Args:
        molecules: The training set.
        species: Atomic numbers, in the model's order.
        target: The property.
        known: Its reference; coefficients that are NaN are fitted.

    Returns:
        The completed reference; NaN for elements that occur in no molecule with a value.

    Example:
        >>> from ik_e3nn.targets import Extensive
        >>> energy = Extensive("E", "eV")
        >>> water = LabeledSet([Atoms("H2O")], (energy,), {"E": np.array([-9.0])}, ["a"])
        >>> before = PropertyReference(np.array([-2.0, np.nan]), np.zeros(2), 0.0, 1.0)
        >>> completed(water, [1, 8], energy, before).per_atom.round(6).tolist()
        [-2.0, -5.0]
    """
    values = molecules.values[target.name]
    rows = known_rows(values)
    counts, squares = _composition(molecules, species, target)
    features = np.concatenate([counts[rows], squares[rows]], 1)
    coefficients = np.concatenate([known.per_atom, known.per_square])
    found = fit_unknown(features, target.isotropic(values[rows]), coefficients).coefficients
    found = np.where(np.tile(counts[rows].any(0), 2), np.nan_to_num(found), found)  # of atoms always at the center
    per_atom, per_square = np.split(found, 2)
    return PropertyReference(per_atom, per_square, known.shift, known.scale)


def reference_values(
    molecules: LabeledSet, species: Sequence[int], target: Target, reference: PropertyReference
) -> FloatArray:
    """The reference values of molecules, (M, *shape) in the target's unit; NaN if the coefficient of an element is NaN.

    Example:
        >>> from ik_e3nn.targets import Extensive
        >>> energy = Extensive("E", "eV")
        >>> water = LabeledSet([Atoms("H2O")], (energy,), {"E": np.array([np.nan])}, ["a"])
        >>> known = PropertyReference(np.array([-2.0, np.nan, -5.0]), np.zeros(3), 0.0, 1.0)
        >>> reference_values(water, [1, 6, 8], energy, known).tolist()
        [-9.0]
    """
    counts, squares = _composition(molecules, species, target)
    parts = counts * reference.per_atom + squares * reference.per_square
    values: FloatArray = reference.shift + np.where(counts > 0, parts, 0.0).sum(1)
    return _from_isotropic(target, values) if target.reference else np.zeros((len(molecules), *target.shape))


def _composition(data: LabeledSet, species: Sequence[int], target: Target) -> tuple[FloatArray, FloatArray]:
    """Numbers of atoms and sums of their squared distances from the center of nuclear charge, by species.

    There is one row for each value of the target: for each structure, or for each atom.
    """
    kinds = np.array(species)
    if target.per_atom:
        numbers = np.concatenate([atoms.numbers for atoms in data.structures])
        return (numbers[:, None] == kinds).astype(float), np.zeros((len(numbers), len(kinds)))
    return composition(data.structures, species), np.array([_squares(atoms, species) for atoms in data.structures])


def _squares(atoms: Atoms, species: Sequence[int]) -> FloatArray:
    """Sums of squared distances from the center of nuclear charge, by species, in A^2."""
    center = np.average(atoms.positions, axis=0, weights=atoms.numbers)
    distances = ((atoms.positions - center) ** 2).sum(1)
    return np.array([distances[atoms.numbers == z].sum() for z in species])
