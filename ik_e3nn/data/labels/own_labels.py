"""Labels in info, arrays and results of a structure, and labels written by this library, which record their units."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ik_e3nn.data.labels.keys import DEFAULT_KEYS, LabelKeys
from ik_e3nn.data.labels.values import StructureLabels

# Structures whose info has this value under this key have labels under the default names, in eV and A, whatever names
# and units the settings give.
OUR_LABELS = ("label_units", "eV ang")


def stored_values(atoms: Atoms) -> dict[str, Any]:
    """All values that can be labels: info, arrays, and calculator results that belong to the present geometry.

    Args:
        atoms: The structure; nothing is computed.

    Returns:
        Values by key; info takes precedence over arrays, and arrays over calculator results.

    Example:
        >>> sorted(stored_values(Atoms("H", info={"charge": 0})))
        ['charge', 'numbers', 'positions']
    """
    values: dict[str, Any] = {}
    calculator = atoms.calc
    if calculator is not None:
        changed: list[str] = getattr(calculator, "check_state", lambda _: [])(atoms)
        # Results of another structure, or from before the atoms moved, are not labels of this one.
        if not changed:
            values.update({key: value for key, value in calculator.results.items() if value is not None})
    values.update(atoms.arrays)
    values.update(atoms.info)
    return values


def has_stress(atoms: Atoms) -> bool:
    """Whether a stress has a meaning: the structure is periodic in some direction and its cell has a volume.

    Args:
        atoms: The structure.

    Returns:
        True if a stress has a meaning.

    Example:
        >>> has_stress(Atoms("H", cell=[50, 50, 50], pbc=False))
        False
    """
    return bool(atoms.pbc.any()) and abs(np.linalg.det(atoms.cell.array)) > 0


def with_own_labels(atoms: Atoms, labels: StructureLabels, sources: Mapping[str, str]) -> Atoms:
    """A copy of a structure with its labels under the default names, in eV and A, and an entry that marks them.

    Args:
        atoms: The structure.
        labels: Its labels.
        sources: The keys that they were read from, which are left out.

    Returns:
        The copy; ``read_labels`` gives the same labels for it, whatever names and units it is given.

    Example:
        >>> copy = with_own_labels(Atoms("H", info={"dft": -0.5}), StructureLabels(-13.6, *[np.zeros((1, 3))] * 2), {})
        >>> copy.info["label_units"], copy.info["REF_energy"]
        ('eV ang', -13.6)
    """
    copy = atoms.copy()
    foreign = {*sources.values(), *DEFAULT_KEYS, "free_energy"}
    results = {key: value for key, value in getattr(atoms.calc, "results", {}).items() if key not in foreign}
    if results:
        copy.calc = SinglePointCalculator(copy)
        copy.calc.results = results
    for key in foreign:
        copy.info.pop(key, None)
        copy.arrays.pop(key, None)
    copy.info[OUR_LABELS[0]] = OUR_LABELS[1]
    if np.isfinite(labels.energy):
        copy.info[DEFAULT_KEYS["energy"]] = float(labels.energy)
    if np.isfinite(labels.forces).any():
        copy.arrays[DEFAULT_KEYS["forces"]] = labels.forces.copy()
    if np.isfinite(labels.stress).all() and has_stress(atoms):
        copy.info[DEFAULT_KEYS["stress"]] = labels.stress.copy()
    return copy


def as_asked(values: dict[str, Any], keys: LabelKeys, atoms: Atoms) -> dict[str, Any]:
    """The values, with labels written by this library converted to the names and units that the keys give."""
    if values.get(OUR_LABELS[0]) != OUR_LABELS[1]:
        return values
    own = {label: values.pop(key) for label, key in DEFAULT_KEYS.items() if key in values}
    factors = {"energy": keys.energy_factor, "forces": keys.force_factor, "stress": keys.stress_factor}
    for label, value in own.items():
        values[getattr(keys, label)] = np.asarray(value, dtype=np.float64) / factors[label]
    if keys.virial is not None and "stress" in own:
        volume = abs(np.linalg.det(atoms.cell.array))
        values[keys.virial] = -np.asarray(own["stress"], dtype=np.float64) * volume / keys.energy_factor
    return values
