"""Labels in a file that are not read, because they have another name or contradict the labels that are read."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.data.labels.keys import LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.targets import mechanics_of

_WORDS = {
    "energy": {"energy", "energies", "toten", "etot", "e"},
    "forces": {"forces", "force", "gradient", "gradients", "grad", "f"},
    "stress": {"stress", "stresses", "virial", "virials"},
}


def unread_labels(values: Sequence[Mapping[str, Any]], data: LabeledSet, keys: LabelKeys) -> list[str]:
    """Sentences about structures that lack a label but have one under another name.

    Args:
        values: All values of each structure that can be a label, by key; see ``stored_values``.
        data: The labels as they were read.
        keys: Where labels were looked for.

    Returns:
        Sentences, none if every label is read.

    Example:
        >>> from ik_e3nn.targets import Energy
        >>> read = {"energy": np.array([1.0, np.nan])}
        >>> data = LabeledSet([Atoms("H")] * 2, (Energy("energy"),), read, sources={"energy": "dft_energy"})
        >>> unread_labels([{"dft_energy": 1.0}, {"energy": 2.0}], data, LabelKeys())[0][:56]
        "1 of 2 structures have no energy under 'dft_energy', but"
    """
    found = []
    for label in mechanics_of(data.targets):
        source, known = data.sources.get(label), data.known(label)
        lacking = [index for index, there in enumerate(known) if not there and source not in values[index]]
        others = Counter(key for index in lacking for key in values[index] if _is_like(label, key, values[index]))
        if others and label in keys.wanted:
            key, count = others.most_common(1)[0]
            name = "virial" if label == "stress" and "virial" in key.lower() else label
            found.append(
                f"{count} of {len(values)} structures have no {label} under {source!r}, but have {key!r}, which "
                "is not read; use one name for all structures"
                if source
                else f"{key!r} of {count} structures is not read; set {keys.setting(name, key)} if it is the {label}"
                + " or virial" * (label == "stress")
            )
    return found


def contradicting_values(data: LabeledSet, keys: LabelKeys) -> list[str]:
    """Sentences about labels that have two different values, and which of these is read.

    Args:
        data: The labels as they were read.
        keys: Where labels were looked for.

    Returns:
        Sentences.

    Example:
        >>> from ase.calculators.singlepoint import SinglePointCalculator
        >>> atoms = Atoms("H")
        >>> atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.5)
        >>> contradicting_values(LabeledSet.of_labels([atoms], sources={"energy": "energy"}), LabelKeys())[0][:66]
        'energy and free_energy differ in 1 structures, by up to 0.5 eV: th'
    """
    found = []
    source = data.sources.get("energy")
    results = [dict(getattr(atoms.calc, "results", {})) for atoms in data.structures]
    if source in ("energy", "free_energy"):
        other = "free_energy" if source == "energy" else "energy"
        pairs = [
            (_number({**one, **atoms.info}.get(source)), _number({**one, **atoms.info}.get(other)))
            for atoms, one in zip(data.structures, results, strict=True)
        ]
        apart = [abs(a - b) for a, b in pairs if a is not None and b is not None and abs(a - b) > 1e-5]
        if apart:
            found.append(
                f"energy and free_energy differ in {len(apart)} structures, by up to {max(apart):.3g} eV: the label "
                f"{source!r} is read. With smearing of the occupation, forces and stress belong to the free energy "
                f"({keys.setting('energy', 'free_energy')})"
            )
    for label, key in data.sources.items():
        count = sum(_differ(atoms, one, key) for atoms, one in zip(data.structures, results, strict=True))
        if count:
            found.append(
                f"{count} structures have two different values of {label} under {key!r}, in info or arrays and as a "
                "calculator's result: the value in info or arrays is read"
            )
    return found


def _is_like(label: str, key: str, values: Mapping[str, Any]) -> bool:
    """Whether a key looks like the name of a label and its value has the shape of the label."""
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", key)}
    if not words & _WORDS[label] or words & {"std", "free", "unit", "units", "kinetic", "per", "weight"}:
        return False
    try:
        shape = np.shape(values[key])
        size = int(np.size(np.asarray(values[key], dtype=np.float64)))
    except (TypeError, ValueError):
        return False
    if label == "forces":
        return shape == np.shape(values["positions"])
    return size == 1 if label == "energy" else size in (6, 9) and np.size(values["positions"]) > 0


def _number(value: object) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _differ(atoms: Atoms, results: Mapping[str, Any], key: str) -> bool:
    """Whether the value in info or arrays differs from the calculator's."""
    own = atoms.info.get(key, atoms.arrays.get(key))
    if own is None or results.get(key) is None:
        return False
    try:
        return not np.allclose(np.ravel(own), np.ravel(results[key]), atol=1e-5, equal_nan=True)
    except (TypeError, ValueError):
        return True
