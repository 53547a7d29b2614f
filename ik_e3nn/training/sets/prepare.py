"""From the data section of a configuration to labeled sets, E0s and the model's scales."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from ik_e3nn.data import (
    EnergyReference,
    LabelCounts,
    LabelKeys,
    StructureDataset,
    StructureLabels,
    fit_energy_reference,
    read_labels,
)
from ik_e3nn.data.files.reading import read_located
from ik_e3nn.data.graphs.dataset import force_scale
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.data.labels.finding import missing_labels, with_own_labels
from ik_e3nn.data.structures.geometry import find_duplicates
from ik_e3nn.data.suspicions.units import suspicious_units
from ik_e3nn.errors import ConfigError, DataError, UnknownSpeciesError
from ik_e3nn.graph import has_bonds, search_cell, structure_number
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.config.schema import DataConfig, TrainConfig
from ik_e3nn.training.sets.common import warn_of_common
from ik_e3nn.training.sets.elements import listing, with_others

_log = logging.getLogger(__name__)

USUAL = {"charge": 0.0, "spin": 1.0}
ISOLATED = "isolated atoms"  # the name of that set
INPUT_OF = {"bonds": "bond_types", "charge": "total_charge", "spin": "spin"}


@dataclass(frozen=True)
class LabeledSet:
    """Structures with their labels.

    Args:
        structures: The structures.
        labels: Labels of each.
        counts: How many there are of each label.
        places: Where each structure is in the files, in words, for messages.
    """

    structures: list[Atoms]
    labels: list[StructureLabels]
    counts: LabelCounts
    places: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """What messages call the structures."""
        return self.places or [f"structure {number}" for number in range(len(self.structures))]

    def select(self, indices: Sequence[int]) -> LabeledSet:
        """Some of the structures, with new counts."""
        labels = [self.labels[index] for index in indices]
        counts = LabelCounts(
            len(labels),
            energy=sum(bool(np.isfinite(one.energy)) for one in labels),
            forces=sum(bool(np.isfinite(one.forces).any()) for one in labels),
            stress=sum(bool(np.isfinite(one.stress).all()) for one in labels),
            sources=self.counts.sources,
        )
        places = None if self.places is None else [self.places[index] for index in indices]
        return LabeledSet([self.structures[index] for index in indices], labels, counts, places)

    def labeled(self) -> list[Atoms]:
        """Copies of the structures with their labels under the default names, in eV and A."""
        return [
            with_own_labels(atoms, labels, self.counts.sources)
            for atoms, labels in zip(self.structures, self.labels, strict=True)
        ]

    def without_energies(self) -> LabeledSet:
        """The same with energies that are NaN; the counts are those of before."""
        return replace(self, labels=[replace(one, energy=np.nan) for one in self.labels])


@dataclass(frozen=True)
class TrainingData:
    """Everything that a run takes from its files.

    Args:
        sets: "train", "valid" and, where given, "test".
        reference: E0s; None without energies.
        force_rms: Root mean square of the training forces in eV/A; 0 without forces.
        species: Atomic numbers in the training set.
        cache: Folder for neighbor lists; None for memory.
        isolated: Single atoms, whose energies are E0s: those of their own files, and those among the training files.
    """

    sets: dict[str, LabeledSet]
    reference: EnergyReference | None
    force_rms: float
    species: list[int] = field(default_factory=list)
    cache: str | None = None
    isolated: Sequence[LabeledSet] = ()

    def dataset(self, name: str, model: InteratomicPotential, dtype: torch.dtype) -> StructureDataset:
        """Graphs of one set, with the model's cutoff and inputs."""
        chosen = self.sets[name]
        return StructureDataset(
            chosen.structures, chosen.labels, model.r_max, dtype=dtype, inputs=model.inputs, cache=self.cache
        )


ReferenceFit = Callable[[DataConfig, LabeledSet, Sequence[LabeledSet], list[int]], EnergyReference | None]
"""E0s from the data section, the training set, the sets of isolated atoms, and the elements of the training set."""


def prepare_data(config: TrainConfig, *, fit: ReferenceFit | None = None, known: Sequence[int] = ()) -> TrainingData:
    """Read, check and split the data, and fit the E0s.

    Args:
        config: The whole configuration.
        fit: How E0s are found, if not from the data alone.
        known: Elements that need not be in the training set.

    Returns:
        The sets, E0s and scales.

    Raises:
        DataError: A file is missing, a label with a weight is absent everywhere, or too few structures are left.
        UnknownSpeciesError: The validation or test set has elements that the training set lacks.
        ConfigError: ``data.E0s`` names something that is no element.
    """
    data = config.data
    keys = label_keys(data)
    everything = read_set(data.train, keys, require=config.loss.labels)
    alone = [atoms for atoms in everything.structures if is_isolated(atoms)]
    train = everything.select([i for i, atoms in enumerate(everything.structures) if not is_isolated(atoms)])
    if not train.structures:
        raise DataError("data.train holds single isolated atoms only; there is nothing to learn forces from.")
    if isinstance(data.valid, int | float):
        train, valid = _split(train, data.valid, config.run.seed)
    else:
        valid = read_set(data.valid, keys)
    sets = {"train": train, "valid": valid}
    if data.test is not None:
        sets["test"] = read_set(data.test, keys)
    species = sorted({int(number) for atoms in train.structures for number in atoms.numbers})
    _check_species(sets, [*species, *known])
    _log.info("labels found:\n%s", label_table({name: one.counts for name, one in sets.items()}, len(alone)))
    _check_valid(valid.counts, config.loss.labels)
    if "test" in sets:
        _check_test(sets["test"], keys, config.loss.labels)
    equal = find_duplicates([atoms for one in sets.values() for atoms in one.structures])
    warn_of_common({name: one.names for name, one in sets.items()}, equal, "structures")
    for name in [name for name in sets if name == "train" or isinstance(getattr(data, name), str | list)]:
        for sentence in suspicious_units(sets[name].structures, sets[name].labels, keys, sets[name].places):
            _log.warning("data.%s: %s", name, sentence)
    warn_unused_inputs([a for one in sets.values() for a in one.structures], config.model.get("inputs") or ())
    isolated = [read_set(data.isolated_atoms, keys)] if data.isolated_atoms is not None else []
    isolated.append(everything.select([i for i, atoms in enumerate(everything.structures) if is_isolated(atoms)]))
    reference = (fit or reference_from_data)(data, train, isolated, species)
    return TrainingData(sets, reference, force_scale(train.labels), species, data.cache, isolated)


def warn_unused_inputs(
    structures: Sequence[Atoms], inputs: Collection[str], keys: Collection[str] = ("bonds", "charge", "spin")
) -> None:
    """Say when structures differ in charge or spin, or have bonds, and the model is not told."""
    for key in [key for key in keys if INPUT_OF[key] not in inputs]:
        if key == "bonds":
            unused = any(has_bonds(atoms) for atoms in structures)
        else:  # a structure that does not say has the usual value
            unused = len({_number(atoms, key) for atoms in structures}) > 1
        if unused:
            _log.warning("the data carry %s and the model does not use them: its inputs lack %s", key, INPUT_OF[key])


def warn_unseen(structures: Sequence[Atoms], inputs: Collection[str]) -> None:
    """Say how many structures are charged or have unpaired electrons, which a trained model does not see."""
    unseen = [key for key in USUAL if INPUT_OF[key] not in inputs]
    odd = [n for n, atoms in enumerate(structures) if any(_number(atoms, key) != USUAL[key] for key in unseen)]
    if odd:
        _log.warning(
            "%d of %d structures are charged or have unpaired electrons (the first: structure %d), and the model does "
            "not see their %s",
            len(odd),
            len(structures),
            odd[0],
            " and ".join(unseen),
        )


def _number(atoms: Atoms, key: str) -> float:
    """Charge or multiplicity; the usual one where a structure does not say."""
    found = structure_number(atoms, key)
    return USUAL[key] if found is None else found


def label_keys(data: DataConfig) -> LabelKeys:
    """Names and units of the labels."""
    return LabelKeys(
        energy=data.energy_key,
        forces=data.forces_key,
        stress=data.stress_key,
        virial=data.virial_key,
        energy_unit=data.energy_unit,
        length_unit=data.length_unit,
        given_in="configuration",
    )


def label_table(counts: dict[str, LabelCounts], isolated: int = 0) -> str:
    """A table of how many structures of each set have each label.

    >>> print(label_table({"train": LabelCounts(9, energy=9, forces=8, stress=0)}))
    set    structures  energy  forces  stress
    train           9       9       8       0
    """
    lines = [f"{'set':<6} {'structures':>10} {'energy':>7} {'forces':>7} {'stress':>7}"]
    for name, one in counts.items():
        lines.append(f"{name:<6} {one.structures:>10} {one.energy:>7} {one.forces:>7} {one.stress:>7}")
    if isolated:
        lines.append(f"({isolated} isolated atoms in the training files are used for E0s only)")
    return "\n".join(lines)


def read_set(paths: str | list[str], keys: LabelKeys, require: Sequence[str] = ()) -> LabeledSet:
    """Structures with sound cells and labels of some files; labels that are required must be there."""
    structures, places = read_located(paths)
    for place, atoms in zip(places, structures, strict=True):
        try:
            search_cell(atoms.cell, atoms.pbc)
        except DataError as error:
            raise DataError(f"{place} ({atoms.get_chemical_formula()}): {error}") from error
    labels, counts = read_labels(structures, keys, require=require, places=places)
    return LabeledSet(structures, labels, counts, places)


def _split(train: LabeledSet, valid: float, seed: int) -> tuple[LabeledSet, LabeledSet]:
    """Set structures aside for validation, at random."""
    total = len(train.structures)
    count = valid if isinstance(valid, int) else max(1, round(valid * total))
    if count >= total:
        raise DataError(
            f"data.valid asks for {count} validation structures, but data.train has only {total} in all; "
            "give fewer, or a validation file."
        )
    order = np.random.default_rng(seed).permutation(total)
    return train.select(sorted(order[count:])), train.select(sorted(order[:count]))


def _check_species(sets: dict[str, LabeledSet], species: list[int]) -> None:
    for name, one in sets.items():
        strange = with_others(one.structures, species)
        if strange:
            extra = {int(number) for atoms in one.structures for number in atoms.numbers} - set(species)
            symbols = ", ".join(chemical_symbols[number] for number in sorted(extra))
            raise UnknownSpeciesError(
                f"data.{name} has {symbols}, which no training structure has ({listing(strange, one.names)}); add "
                "training structures with these elements or leave them out."
            )


def _check_valid(counts: LabelCounts, labels: Sequence[str]) -> None:
    for label in labels:
        if not getattr(counts, label):
            _log.warning("the validation set has no %s labels: the validation loss leaves them out", label)


def _check_test(test: LabeledSet, keys: LabelKeys, labels: Sequence[str]) -> None:
    """Refuse a test set without any label that is trained."""
    if not any(getattr(test.counts, label) for label in labels):
        missing = missing_labels(test.structures, keys, test.counts) or f"none of them has {' or '.join(labels)}"
        raise DataError(f"data.test has no labels to test on: {missing}")


def reference_from_data(
    data: DataConfig, train: LabeledSet, isolated: Sequence[LabeledSet], species: list[int]
) -> EnergyReference | None:
    """E0s: given, else of isolated atoms, else by least squares; None without energies."""
    given = {} if data.E0s == "fit" else {element_number(name): float(e0) for name, e0 in data.E0s.items()}
    absent = sorted(set(given) - set(species))
    if absent:
        names = ", ".join(chemical_symbols[number] for number in absent)
        _log.warning("data.E0s has a value of %s, which no training structure has; it is not used", names)
    if data.E0s != "fit" and len(given) < len(data.E0s):
        raise ConfigError(
            f"data.E0s names an element twice, by its symbol and its number: {', '.join(map(str, data.E0s))}"
        )
    structures = list(train.structures)
    energies = [one.energy for one in train.labels]
    for part in isolated:
        for atoms, one in zip(part.structures, part.labels, strict=True):
            if int(atoms.numbers[0]) in species:
                structures.append(atoms)
                energies.append(one.energy)
    if not np.isfinite(energies).any() and not given:
        _log.warning("there are no energies: E0s stay zero and predicted energies have no absolute meaning")
        return None
    return fit_energy_reference(structures, energies, given or None)


def element_number(name: str) -> int:
    """Atomic number of an element given by symbol or number.

    Raises:
        ConfigError: It is neither.

    >>> element_number("C"), element_number("8")
    (6, 8)
    """
    if name in atomic_numbers:
        return int(atomic_numbers[name])
    if name.isdigit() and 0 < int(name) < len(chemical_symbols):
        return int(name)
    raise ConfigError(f"data.E0s has the key {name!r}, which is neither an element's symbol nor its number.")
