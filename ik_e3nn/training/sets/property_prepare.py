"""From the data section of a configuration to sets of molecules with bonds and properties."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from ik_e3nn.data import (
    PropertyDataset,
    PropertySet,
    paper_split,
    random_split,
    read_properties,
    resolve_targets,
    with_bonds,
)
from ik_e3nn.data.graphs.splits import fingerprint
from ik_e3nn.data.properties.placeholders import property_placeholders
from ik_e3nn.data.properties.reference import PropertyReference, completed, fit_references
from ik_e3nn.data.properties.set import known_rows
from ik_e3nn.data.structures.same_molecules import same_molecules
from ik_e3nn.errors import ConfigError, DataError, UnknownSpeciesError
from ik_e3nn.models import MolecularPropertyModel
from ik_e3nn.targets import Target
from ik_e3nn.training.config.properties import PropertyConfig, PropertyDataConfig
from ik_e3nn.training.sets.common import warn_of_common
from ik_e3nn.training.sets.elements import listing, with_others

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PropertyData:
    """What a run takes from its files.

    Args:
        sets: "train", "valid" and, where asked for, "test"; in a fine-tuning old data too.
        split_hash: Fingerprint of which molecule is in which set, old data apart.
        bonds: Where the bonds come from, by set; see ``BondReport``.
    """

    sets: dict[str, PropertySet]
    split_hash: str
    bonds: dict[str, dict[str, int]]

    def datasets(self, model: MolecularPropertyModel, dtype: torch.dtype) -> dict[str, PropertyDataset]:
        """Graphs of all sets, of the model's kind."""
        options: dict[str, Any] = {"dtype": dtype, "inputs": model.body.inputs}
        return {n: PropertyDataset(s, model.edges, model.r_max, **options) for n, s in self.sets.items()}

    def summary(self) -> dict[str, Any]:
        """What to keep of them beside a result."""
        counts = {name: {"molecules": len(one), **one.counts()} for name, one in self.sets.items()}
        return {"sets": counts, "split_hash": self.split_hash, "bonds": self.bonds}


def prepare_properties(config: PropertyConfig, *, known: Collection[int] = ()) -> PropertyData:
    """Read, split and check the data, and give every molecule its bonds.

    Args:
        config: The whole configuration.
        known: Elements that need not be in the training set.

    Returns:
        The sets.

    Raises:
        DataError: Files or values are missing, or bonds cannot be found.
        UnknownSpeciesError: The validation or test set has elements that the training set lacks.
    """
    data, progress = config.data, config.run.progress
    targets = resolve_targets(data.targets)
    options: dict[str, Any] = {"seed": config.run.seed, "skip": data.on_failure == "skip", "progress": progress}
    whole = read_properties(data.train, targets, **options)
    sets = split_sets(whole, data, config.run.seed)
    for name in ("valid", "test"):
        files = getattr(data, name)
        if isinstance(files, str | list):
            sets[name] = read_properties(files, targets, **options)
    own = {name: sets[name] for name in ("valid", "test") if isinstance(getattr(data, name), str | list)}
    for name, one in {"train": whole, **own}.items():
        for sentence in property_placeholders(one):
            _log.warning("data.%s: %s", name, sentence)
    sources: dict[str, dict[str, int]] = {}
    if config.model.get("edges", "bonds") != "radius":
        sets, sources = bonded(sets, config)
    _check_species(sets, known)
    smiles = [text for one in sets.values() for text in one.smiles or [""] * len(one)]
    equal = same_molecules([atoms for one in sets.values() for atoms in one.structures], smiles)
    warn_of_common({name: one.names for name, one in sets.items()}, equal, "molecules, by SMILES or geometry,")
    result = PropertyData(sets, fingerprint({name: one.ids for name, one in sets.items()}), sources)
    _log.info("molecules with values:\n%s\nsplit %s", _table(sets), result.split_hash)
    return result


def bonded(sets: dict[str, PropertySet], config: PropertyConfig) -> tuple[dict[str, PropertySet], dict[str, Any]]:
    """The same sets with bonds, and where those come from, by set.

    Raises:
        DataError: Bonds cannot be found.
    """
    data, found, sources = config.data, {}, {}
    for name, one in sets.items():
        found[name], report = with_bonds(one, data.bonds, data.on_failure, progress=config.run.progress)
        sources[name] = report.sources
    return found, sources


def split_sets(whole: PropertySet, data: PropertyDataConfig, seed: int) -> dict[str, PropertySet]:
    """The parts that are set aside from the training files.

    Raises:
        DataError: Too few molecules, or fewer than ``data.train_size`` are left to train on.
        ConfigError: The paper's split with fractions or files.
    """
    sizes = {name: getattr(data, name) for name in ("valid", "test")}
    if data.split == "paper":
        wrong = [name for name, size in sizes.items() if size is not None and not isinstance(size, int)]
        if wrong:
            raise ConfigError(f"data.{wrong[0]} must be a number of molecules with data.split 'paper'")
        split = paper_split(len(whole), data.train_size, valid=sizes["valid"], test=sizes["test"])
        parts = {name: indices for name, indices in vars(split).items() if name != "test" or data.test is not None}
        return {name: whole.select(indices) for name, indices in parts.items()}
    inside = {name: size for name, size in sizes.items() if isinstance(size, int | float)}
    chosen = {"train": np.arange(len(whole))}
    if inside:
        split = random_split(len(whole), inside.get("valid", 0), inside.get("test", 0), seed=seed)
        chosen = {name: getattr(split, name) for name in ("train", *inside)}
    left = len(chosen["train"])
    if data.train_size is not None and data.train_size > left:
        raise DataError(f"data.train_size is {data.train_size}, but {left} molecules are left to train on")
    chosen["train"] = chosen["train"][: data.train_size]
    return {name: whole.select(indices) for name, indices in chosen.items()}


def set_references(model: MolecularPropertyModel, train: PropertySet, kept: Collection[Target] = ()) -> None:
    """Fit the references and scales of a model's properties to a training set.

    What an element adds to a property that sums over atoms is NaN where no molecule to train on that has a value of the
    property has the element, which is said.

    Args:
        model: The model.
        train: Molecules with values of properties of the model; what it has of others stays.
        kept: Properties that have their references and scales; only what is NaN in them is fitted.
    """
    scales = model.scales
    for target, new in zip(train.targets, fit_references(train, model.species), strict=True):
        column = model.targets.index(target)
        one = completed(train, model.species, target, reference_of(model, target)) if target in kept else new
        scales.per_atom[column] = torch.from_numpy(one.per_atom)
        scales.per_square[column] = torch.from_numpy(one.per_square)
        scales.shift[column], scales.scale[column] = one.shift, one.scale
    for name, elements in without_reference(model).items():
        _log.warning(
            "no molecule to train on that has a value of %s has %s: what they add to it is not known, and it is NaN "
            "for molecules that have them", name, " or ".join(elements),
        )  # fmt: skip


def without_reference(model: MolecularPropertyModel) -> dict[str, list[str]]:
    """Elements for which the reference of a target is not known, by target."""
    missing = model.scales.per_atom.isnan()
    return {
        target.name: [chemical_symbols[z] for z, unknown in zip(model.species, row, strict=True) if unknown]
        for target, row in zip(model.targets, missing.tolist(), strict=True)
        if any(row)
    }


def reference_of(model: MolecularPropertyModel, target: Target) -> PropertyReference:
    """The reference that a model has of a property."""
    scales, column = model.scales, model.targets.index(target)
    per_atom, per_square = (one[column].cpu().numpy().copy() for one in (scales.per_atom, scales.per_square))
    return PropertyReference(per_atom, per_square, float(scales.shift[column]), float(scales.scale[column]))


def _check_species(sets: dict[str, PropertySet], others: Collection[int]) -> None:
    """Refuse elements to validate or test with that no molecule to train on has, with a value of the same target."""
    train = sets["train"]
    with_value = {target.name: _of_known(train, target) for target in train.targets if target.by_element}
    for name, one in sets.items():
        pairs = [("", one, train.species)]
        pairs += [
            (f" with a value of {target.name}", _of_known(one, target), with_value[target.name].species)
            for target in one.targets
            if target.by_element
        ]
        for what, here, known in pairs:
            strange = with_others(here.structures, {*known, *others})
            if strange:
                extra = sorted({*here.species} - {*known, *others})
                raise UnknownSpeciesError(
                    f"data.{name} has {', '.join(chemical_symbols[z] for z in extra)}{what}, which no molecule to "
                    f"train on has ({listing(strange, here.names)}); add such molecules, leave them out, or divide "
                    "the data otherwise (run.seed)"
                )


def _of_known(molecules: PropertySet, target: Target) -> PropertySet:
    """The molecules that have a value."""
    return molecules.select(np.flatnonzero(known_rows(molecules.values[target.name])))


def _table(sets: dict[str, PropertySet]) -> str:
    """How many molecules of each set have each property."""
    names = [target.name for target in sets["train"].targets]
    lines = ["  ".join([f"{'set':<6}", "molecules", *(f"{name:>8}" for name in names)])]
    for name, one in sets.items():
        counts = one.counts()
        lines.append("  ".join([f"{name:<6}", f"{len(one):>9}", *(f"{counts[target]:>8}" for target in names)]))
    return "\n".join(lines)
