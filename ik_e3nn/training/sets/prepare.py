"""From the data section of a configuration to sets of structures with labels."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ik_e3nn.data import LabeledSet, StructureDataset, paper_split, random_split, with_bonds
from ik_e3nn.data.graphs.splits import fingerprint
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.data.labels.labeled_set import joined
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import SURROUNDINGS, Connectivity, fields
from ik_e3nn.models import StoredModel
from ik_e3nn.targets import mechanics_of
from ik_e3nn.training.config.schema import DataConfig, TrainConfig
from ik_e3nn.training.sets.checks import check_sets, check_single_atoms
from ik_e3nn.training.sets.reading import label_keys, read_data, read_set

_log = logging.getLogger(__name__)

ISOLATED = "isolated atoms"  # name of their set


@dataclass(frozen=True)
class TrainingData:
    """All data of a run.

    Args:
        sets: "train", "valid" and, if given, "test"; in a fine-tuning old data too.
        isolated: Isolated atoms, from their own files and from the training files; their energies are E0s.
        split_hash: Fingerprint of which molecule is in which set, without old data; empty if molecules have no ids.
        bonds: Numbers of molecules by the source of their bonds, for each set; see ``BondReport``.
        cache: Folder for neighbor lists; None keeps them in memory.
    """

    sets: dict[str, LabeledSet]
    isolated: LabeledSet
    split_hash: str = ""
    bonds: dict[str, dict[str, int]] = field(default_factory=dict)
    cache: str | None = None

    def dataset(self, name: str, model: StoredModel, dtype: torch.dtype) -> StructureDataset:
        """Graphs of one set, as the model reads them; the caller warns of missing bonds in all sets together."""
        inputs = model.inputs - {fields.BOND_TYPES}
        options: dict[str, Any] = {"dtype": dtype, "inputs": inputs, "cache": self.cache}
        return StructureDataset(self.sets[name], model.r_max, edges=model.edges, **options)

    def summary(self) -> dict[str, Any]:
        """The facts about the data that a model file keeps."""
        kept = {
            name: {"structures": len(one), **one.counts(), "sources": dict(one.sources), "notes": list(one.notes)}
            for name, one in self.sets.items()
        }
        return {"sets": kept, "split_hash": self.split_hash, "bonds": self.bonds}


def prepare_data(
    config: TrainConfig,
    *,
    edges: Connectivity | None = None,
    known: Collection[int] = (),
    inputs: Collection[str] = (),
) -> TrainingData:
    """Read, check and split the data, and find bonds if the graphs are made of them.

    Args:
        config: The whole configuration.
        edges: The kind of graphs that the model uses; None for a potential.
        known: Elements that need not be in the training set.
        inputs: Inputs of the model, beside those of the configuration.

    Returns:
        The sets.

    Raises:
        DataError: A file is missing, a label with a weight is missing everywhere, bonds cannot be found, or too few
            structures are left.
        UnknownSpeciesError: The validation or test set has elements that the training set lacks.
    """
    data = config.data
    whole = read_data(data.train, config, require=config.trained)
    with_energies = "energy" in mechanics_of(config.targets)
    if with_energies and not {*inputs, *(config.model.get("inputs") or ())}.isdisjoint(SURROUNDINGS):
        check_single_atoms(whole)
    alone = [with_energies and is_isolated(atoms) for atoms in whole.structures]
    rest, atoms = (whole.select(np.flatnonzero(np.equal(alone, wanted))) for wanted in (False, True))
    if not len(rest):
        raise DataError("data.train contains only isolated atoms, which have no forces to learn; add other structures.")
    sets = split_sets(rest, data, config.run.seed)
    for name in ("valid", "test"):
        files = getattr(data, name)
        if isinstance(files, str | list):
            sets[name] = read_data(files, config)
    bonds: dict[str, dict[str, int]] = {}
    if edges in ("bonds", "both"):
        sets, bonds = bonded(sets, config)
    check_sets(sets, rest, config, known, isolated=len(atoms))
    if data.isolated_atoms is not None:
        own = read_set(data.isolated_atoms, label_keys(data)).with_targets(atoms.targets)
        atoms = joined([own, atoms])
    ids = {name: one.ids for name, one in sets.items()}
    split_hash = fingerprint(ids) if all(ids.values()) else ""
    if split_hash:
        _log.info("split %s", split_hash)
    return TrainingData(sets, atoms, split_hash, bonds, data.cache)


def bonded(
    sets: Mapping[str, LabeledSet], config: TrainConfig
) -> tuple[dict[str, LabeledSet], dict[str, dict[str, int]]]:
    """The same sets with bonds, and for each set the number of molecules by the source of their bonds.

    Raises:
        DataError: Bonds cannot be found.
    """
    data, found, sources = config.data, {}, {}
    for name, one in sets.items():
        found[name], report = with_bonds(one, data.bonds, data.on_failure, progress=config.run.progress)
        sources[name] = report.sources
    return found, sources


def split_sets(whole: LabeledSet, data: DataConfig, seed: int) -> dict[str, LabeledSet]:
    """The training files, split into the training set and the sets to set aside.

    Raises:
        DataError: Too few structures, or fewer than ``data.train_size`` are left to train on.
        ConfigError: The paper's split is given fractions or files.
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
        raise DataError(f"data.train_size is {data.train_size}, but only {left} structures are left to train on")
    chosen["train"] = chosen["train"][: data.train_size]
    return {name: whole.select(indices) for name, indices in chosen.items()}
