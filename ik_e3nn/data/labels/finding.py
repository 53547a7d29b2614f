"""Find, count and convert the labels of a data set, so that none is lost silently."""

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ik_e3nn.data.labels.energy_reference import isolation_doubts
from ik_e3nn.data.labels.gaps import contradicting_values, unread_labels
from ik_e3nn.data.labels.keys import DEFAULT_KEYS, LabelKeys
from ik_e3nn.data.labels.placeholders import label_placeholders
from ik_e3nn.data.labels.values import (
    StructureLabels,
    force_array,
    scalar_value,
    stress_from_virial,
    stress_matrix,
)
from ik_e3nn.errors import DataError
from ik_e3nn.listing import listed

logger = logging.getLogger(__name__)

LABELS = ("energy", "forces", "stress")

# Structures whose info has this value under this key carry labels under the default names, in eV and A, whatever
# settings say of the files that they came from.
OUR_LABELS = ("label_units", "eV ang")


@dataclass(frozen=True)
class LabelCounts:
    """How many structures carry each label, and where it was found.

    Args:
        structures: Number of structures.
        energy: Structures with an energy.
        forces: Structures with forces on at least one atom.
        stress: Structures with a stress.
        sources: For each label, the key it was read from; absent if none was found.
        notes: What is worth knowing about values left out.
        doubts: What is probably not meant: labels that are not read, or that are there twice and differ.

    Example:
        >>> LabelCounts(2, energy=2, forces=1, stress=0, sources={"energy": "REF_energy", "forces": "forces"}).text()
        'labels of 2 structures: energy 2 (REF_energy), forces 1 (forces), stress 0'
    """

    structures: int
    energy: int
    forces: int
    stress: int
    sources: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def text(self) -> str:
        """One line for the log.

        Returns:
            The counts with their keys.
        """
        parts = []
        for label in LABELS:
            key = self.sources.get(label)
            parts.append(f"{label} {getattr(self, label)}" + (f" ({key})" if key else ""))
        return "; ".join([f"labels of {self.structures} structures: {', '.join(parts)}", *self.notes])


def read_labels(
    structures: Sequence[Atoms],
    keys: LabelKeys | None = None,
    require: Sequence[str] = ("energy", "forces"),
    places: Sequence[str] | None = None,
) -> tuple[list[StructureLabels], LabelCounts]:
    """Labels of all structures, in eV, eV/A and eV/A^3; NaN where missing.

    Which key holds a label is decided once for the whole data set. Values come from info, arrays or stored calculator
    results; forces are the true ones also of constrained atoms. A stress of a structure that is nowhere periodic or has
    no volume means nothing and is left out.

    Args:
        structures: The structures.
        keys: Names and units of the labels.
        require: Labels that must be there for at least one structure.
        places: What messages call each structure, as of ``read_located``; its number by default.

    Returns:
        The labels of each structure, and the counts.

    Raises:
        DataError: A required label is absent everywhere, or a value has the wrong shape.

    Example:
        >>> atoms = Atoms("H", info={"REF_energy": -13.6})
        >>> labels, counts = read_labels([atoms], require=["energy"])
        >>> labels[0].energy, counts.energy, counts.forces
        (-13.6, 1, 0)
    """
    unknown = set(require) - set(LABELS)
    if unknown:
        raise DataError(f"unknown label(s) {sorted(unknown)}; labels are {', '.join(LABELS)}")
    keys = keys or LabelKeys()
    values = [_as_asked(stored_values(atoms), keys, atoms) for atoms in structures]
    present = _count_keys(values)
    sources = _resolve_keys(keys, present, require, len(structures))
    places = places or [f"structure {number}" for number in range(len(structures))]
    labels = _all_labels(structures, values, keys, sources, places)
    doubts = unread_labels(values, labels, sources, keys) + contradicting_values(structures, sources, keys)
    read = [str(keys.virial) if key.startswith("-") else key for key in sources.values()]
    doubts += label_placeholders(structures, values, read, places) + isolation_doubts(structures, places)
    counts = replace(_count_labels(structures, labels, values, sources, places), doubts=tuple(doubts))
    logger.info("%s", counts.text())
    for sentence in doubts:
        logger.warning("%s", sentence)
    for label in require:
        if getattr(counts, label) == 0:
            raise DataError(f"the {label} labels ({sources[label]!r}) are there, but none of them is finite")
    return labels, counts


def stored_values(atoms: Atoms) -> dict[str, Any]:
    """Everything a label may hide in: info, arrays and the results of a calculator that fit the structure as it is.

    Args:
        atoms: The structure; nothing is computed.

    Returns:
        Values by key; info goes before arrays, arrays before calculator results.

    Example:
        >>> sorted(stored_values(Atoms("H", info={"charge": 0})))
        ['charge', 'numbers', 'positions']
    """
    values: dict[str, Any] = {}
    calculator = atoms.calc
    if calculator is not None:
        changed: list[str] = getattr(calculator, "check_state", lambda _: [])(atoms)
        # Results of another or a moved structure are not labels of this one.
        if not changed:
            values.update({key: value for key, value in calculator.results.items() if value is not None})
    values.update(atoms.arrays)
    values.update(atoms.info)
    return values


def with_own_labels(atoms: Atoms, labels: StructureLabels, sources: Mapping[str, str]) -> Atoms:
    """A copy of a structure with its labels under the default names, in eV and A, and a mark that they are so.

    Args:
        atoms: The structure.
        labels: Its labels.
        sources: The keys that they were read from, which are left out.

    Returns:
        The copy; ``read_labels`` gives the same labels for it, whatever names and units it is asked for.

    Example:
        >>> copy = with_own_labels(Atoms("H", info={"dft": -0.5}), StructureLabels(-13.6, *[np.zeros((1, 3))] * 2), {})
        >>> read_labels([copy], LabelKeys(energy="dft", energy_unit="Ha"), require=["energy"])[0][0].energy.__round__(9)
        -13.6
    """
    copy = atoms.copy()
    foreign = {*sources.values(), *LABELS, "free_energy"}
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


def _as_asked(values: dict[str, Any], keys: LabelKeys, atoms: Atoms) -> dict[str, Any]:
    """The values, those of labels of our own under the names and in the units that are asked for."""
    if values.get(OUR_LABELS[0]) != OUR_LABELS[1]:
        return values
    own = {label: values.pop(key) for label, key in DEFAULT_KEYS.items() if key in values}
    for label, factor in (
        ("energy", keys.energy_factor),
        ("forces", keys.force_factor),
        ("stress", keys.stress_factor),
    ):
        if label in own:
            values[getattr(keys, label)] = np.asarray(own[label], dtype=np.float64) / factor
    if keys.virial is not None and "stress" in own:
        volume = abs(np.linalg.det(atoms.cell.array))
        values[keys.virial] = -np.asarray(own["stress"], dtype=np.float64) * volume / keys.energy_factor
    return values


def _count_keys(values: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many structures have each key."""
    present: dict[str, int] = {}
    for found in values:
        for key in found:
            present[key] = present.get(key, 0) + 1
    return present


def _resolve_keys(keys: LabelKeys, present: Mapping[str, int], require: Sequence[str], total: int) -> dict[str, str]:
    """The key each label is read from; a required label must have one."""
    sources: dict[str, str] = {}
    for label in LABELS:
        wanted = getattr(keys, label)
        if wanted in present and wanted != keys.virial:
            sources[label] = wanted
        elif wanted == DEFAULT_KEYS[label] and label in present and label != keys.virial:
            logger.info("no structure has %r; reading %s from %r", wanted, label, label)
            sources[label] = label
        elif label == "stress" and keys.virial in present:
            sources[label] = f"-{keys.virial}/volume"
        elif label in require:
            raise DataError(_missing_message(label, keys, present, total))
    if keys.virial is not None and keys.virial not in present:
        raise DataError(_missing_message("virial", keys, present, total))
    return sources


def missing_labels(structures: Sequence[Atoms], keys: LabelKeys) -> str:
    """What to say of structures without any energy and forces.

    Args:
        structures: The structures.
        keys: Where their labels were looked for.

    Returns:
        A sentence that lists the keys that there are.

    Example:
        >>> atoms = Atoms("H", info={"dft_E": -13.6})
        >>> missing_labels([atoms], LabelKeys())
        "none of 1 structures has the energy label 'REF_energy'. Keys found (in how many structures): dft_E (1)..."
    """
    present = _count_keys([stored_values(atoms) for atoms in structures])
    return _missing_message("energy", keys, present, len(structures))


def _missing_message(label: str, keys: LabelKeys, present: Mapping[str, int], total: int) -> str:
    """What was looked for, what there is, and which of it is meant most likely."""
    wanted = str(getattr(keys, label))
    others = sorted(set(present) - {"numbers", "positions"})
    near = difflib.get_close_matches(wanted, others, n=3, cutoff=0.5)
    near.sort(key=lambda key: key.lower().split("_")[-1][:1] != label[0])  # of dft_S and dft_E, the latter for energies
    near = near or [key for key in others if label.rstrip("s") in key.lower()][:1]
    hint = f"did you mean {keys.setting(label, near[0])}?" if near else f"name it, as {keys.setting(label, 'NAME')}"
    listing = ", ".join(f"{key} ({present[key]})" for key in others) or "none"
    found = f"Keys found (in how many structures): {listing}"
    return f"none of {total} structures has the {label} label {wanted!r}. {found}; {hint}"


def _all_labels(
    structures: Sequence[Atoms],
    values: Sequence[Mapping[str, Any]],
    keys: LabelKeys,
    sources: Mapping[str, str],
    places: Sequence[str],
) -> list[StructureLabels]:
    """Labels of all structures.

    Raises:
        DataError: Names all structures whose labels have a wrong shape.
    """
    labels, faults = [], []
    for atoms, found, place in zip(structures, values, places, strict=True):
        try:
            labels.append(_labels_of_one(atoms, found, keys, sources, place))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError(listed(faults))
    return labels


def _labels_of_one(
    atoms: Atoms, values: Mapping[str, Any], keys: LabelKeys, sources: Mapping[str, str], place: str
) -> StructureLabels:
    """Labels of one structure from the keys that were settled on."""
    labels = StructureLabels.empty(len(atoms))
    energy, forces, stress = labels.energy, labels.forces, labels.stress
    energy_value, forces_value, stress_value = (values.get(sources.get(label, "")) for label in LABELS)
    where = f"of {place}"
    if energy_value is not None:
        energy = scalar_value(energy_value, f"the energy {where}") * keys.energy_factor
    if forces_value is not None:
        forces = force_array(forces_value, len(atoms), f"the forces {where}") * keys.force_factor
    if has_stress(atoms):
        if stress_value is not None:
            stress = stress_matrix(stress_value, f"the stress {where}") * keys.stress_factor
        elif keys.virial is not None and keys.virial in values:
            virial = stress_matrix(values[keys.virial], f"the virial {where}") * keys.energy_factor
            stress = stress_from_virial(virial, atoms)
    return StructureLabels(energy, forces, stress)


def has_stress(atoms: Atoms) -> bool:
    """Whether a stress has a meaning: the structure is periodic in some direction and its cell has a volume.

    Args:
        atoms: The structure.

    Returns:
        The answer.

    Example:
        >>> has_stress(Atoms("H", cell=[50, 50, 50], pbc=False))
        False
    """
    return bool(atoms.pbc.any()) and abs(np.linalg.det(atoms.cell.array)) > 0


def _count_labels(
    structures: Sequence[Atoms],
    labels: Sequence[StructureLabels],
    values: Sequence[Mapping[str, Any]],
    sources: Mapping[str, str],
    places: Sequence[str],
) -> LabelCounts:
    """Count what is finite, and note what was there but is left out."""
    counted: dict[str, int] = {}
    notes: list[str] = []
    tests: dict[str, Callable[[StructureLabels], bool]] = {
        "energy": lambda one: bool(np.isfinite(one.energy)),
        "forces": lambda one: bool(np.isfinite(one.forces).any()),
        "stress": lambda one: bool(np.isfinite(one.stress).all()),
    }
    for label, test in tests.items():
        counted[label] = sum(test(one) for one in labels)
        given = sum(1 for found in values if sources.get(label, "") in found)
        meaningless = 0
        if label == "stress":
            meaningless = sum(
                1
                for atoms, found in zip(structures, values, strict=True)
                if sources.get(label) in found and not has_stress(atoms)
            )
            if meaningless:
                notes.append(f"{meaningless} stress labels of open structures left out")
        bad = given - meaningless - counted[label]
        if bad > 0 and not sources.get(label, "").startswith("-"):
            notes.append(f"{bad} {label} labels are NaN or infinite and left out")
    partial = [i for i, one in enumerate(labels) if 0 < np.isfinite(one.forces).sum() < one.forces.size]
    if partial:
        notes.append(
            f"{len(partial)} structures (the first is {places[partial[0]]}) have NaN force components, which are left "
            "out"
        )
        logger.warning("%s", notes[-1])
    return LabelCounts(
        len(structures),
        counted["energy"],
        counted["forces"],
        counted["stress"],
        sources=dict(sources),
        notes=tuple(notes),
    )
