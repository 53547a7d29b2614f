"""Find, count and convert the labels of a data set; labels that are left out are reported."""

import difflib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.data.labels.energy_reference import isolation_doubts
from ik_e3nn.data.labels.gaps import contradicting_values, unread_labels
from ik_e3nn.data.labels.keys import DEFAULT_KEYS, LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.own_labels import as_asked, has_stress, stored_values
from ik_e3nn.data.labels.placeholders import label_placeholders
from ik_e3nn.data.labels.values import StructureLabels, force_array, scalar_value, stress_from_virial, stress_matrix
from ik_e3nn.errors import DataError
from ik_e3nn.listing import listed

logger = logging.getLogger(__name__)

LABELS = ("energy", "forces", "stress")


def read_labels(
    structures: Sequence[Atoms],
    keys: LabelKeys | None = None,
    require: Sequence[str] = ("energy", "forces"),
    places: Sequence[str] | None = None,
) -> LabeledSet:
    """Labels of all structures, in eV, eV/A and eV/A^3; NaN where missing.

    The key of a label is decided once for the whole data set. Values come from info, arrays or stored calculator
    results; forces on constrained atoms are read without the constraints. The stress of a structure that is not
    periodic or has no volume is meaningless and left out.

    Args:
        structures: The structures.
        keys: Names and units of the labels.
        require: Labels that at least one structure must have.
        places: What messages call each structure, as given by ``read_located``; its number by default.

    Returns:
        The structures with their labels, the keys that these were read from, and notes and doubts about them.

    Raises:
        DataError: No structure has a required label, or a value has the wrong shape.

    Example:
        >>> data = read_labels([Atoms("H", info={"REF_energy": -13.6})], require=["energy"])
        >>> data.values["energy"].tolist(), data.counts()
        ([-13.6], {'energy': 1, 'forces': 0, 'stress': 0})
    """
    unknown = set(require) - set(LABELS)
    if unknown:
        raise DataError(f"unknown label(s) {sorted(unknown)}; labels are {', '.join(LABELS)}")
    keys = keys or LabelKeys()
    values = [as_asked(stored_values(atoms), keys, atoms) for atoms in structures]
    sources = _resolve_keys(keys, Counter(key for found in values for key in found), require, len(structures))
    names = list(places) if places is not None else [f"structure {number}" for number in range(len(structures))]
    labels = _all_labels(structures, values, keys, sources, names)
    data = LabeledSet.of_labels(structures, labels, places=names, sources=sources)
    read = [str(keys.virial) if key.startswith("-") else key for key in sources.values()]
    doubts = [*unread_labels(values, data, keys), *contradicting_values(data, keys)]
    doubts += [*label_placeholders(data, values, read), *isolation_doubts(structures, names)]
    data = replace(data, notes=_left_out(data, values), doubts=tuple(doubts))
    logger.info("%s", data.text())
    for sentence in doubts:
        logger.warning("%s", sentence)
    for label in require:
        if not data.known(label).any():
            raise DataError(f"the {label} labels ({sources[label]!r}) are there, but none of them is finite")
    return data


def _resolve_keys(keys: LabelKeys, present: Mapping[str, int], require: Sequence[str], total: int) -> dict[str, str]:
    """The key that each label is read from; a required label must have one."""
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
    """The message for structures without any energies and forces.

    Args:
        structures: The structures.
        keys: Where their labels were looked for.

    Returns:
        A sentence that lists the keys that the structures have.

    Example:
        >>> atoms = Atoms("H", info={"dft_E": -13.6})
        >>> missing_labels([atoms], LabelKeys())
        "none of 1 structures has the energy label 'REF_energy'. Keys found (in how many structures): dft_E (1)..."
    """
    present = Counter(key for atoms in structures for key in stored_values(atoms))
    return _missing_message("energy", keys, present, len(structures))


def _missing_message(label: str, keys: LabelKeys, present: Mapping[str, int], total: int) -> str:
    """The message with the key that is missing, the keys that were found, and the most likely one of them."""
    wanted = str(getattr(keys, label))
    others = sorted(set(present) - {"numbers", "positions"})
    free = [key for key in others if key not in vars(keys).values()]  # the other labels have their keys
    near = difflib.get_close_matches(wanted, free, n=3, cutoff=0.5)
    near.sort(key=lambda key: key.lower().split("_")[-1][:1] != label[0])  # for energies, prefer dft_E to dft_S
    near = near or [key for key in free if label.rstrip("s") in key.lower()][:1]
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
        DataError: Labels have a wrong shape; the message names all structures concerned.
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
    """Labels of one structure, read from the chosen keys."""
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


def _left_out(data: LabeledSet, values: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Sentences about labels that are meaningless or not finite and therefore left out."""
    notes = []
    for label, count in data.counts().items():
        source = data.sources.get(label, "")
        given = [atoms for atoms, found in zip(data.structures, values, strict=True) if source in found]
        meaningless = sum(not has_stress(atoms) for atoms in given) if label == "stress" else 0
        if meaningless:
            notes.append(f"{meaningless} stress labels of open structures left out")
        bad = len(given) - meaningless - count
        if bad > 0 and not source.startswith("-"):
            notes.append(f"{bad} {label} labels are NaN or infinite and left out")
    partial = [k for k, one in enumerate(data.by_structure("forces")) if 0 < np.isfinite(one).sum() < one.size]
    if partial:
        notes.append(
            f"{len(partial)} structures (the first is {data.names[partial[0]]}) have NaN force components, which are "
            "left out"
        )
        logger.warning("%s", notes[-1])
    return tuple(notes)
