"""From files to structures with the values of targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ik_e3nn.data import LabeledSet, LabelKeys, read_labels, read_properties
from ik_e3nn.data.files.reading import read_located
from ik_e3nn.data.properties.values import stated_value
from ik_e3nn.errors import locating
from ik_e3nn.graph import search_cell
from ik_e3nn.targets import MECHANICS, Target, mechanics_of
from ik_e3nn.training.config.schema import DataConfig, TrainConfig

Files = str | list[str]


def read_data(files: Files, config: TrainConfig, *, require: Sequence[str] = ()) -> LabeledSet:
    """Read structures with the labels that a configuration asks for.

    Args:
        files: The files.
        config: The configuration.
        require: Which of energy, forces and stress must be present.

    Raises:
        DataError: A file is missing or cannot be read, or labels are absent or impossible.
    """
    if mechanics_of(config.targets):
        return read_set(files, label_keys(config.data), require, targets=config.targets)
    run, skip = config.run, config.data.on_failure == "skip"
    return read_properties(files, config.targets, seed=run.seed, skip=skip, progress=run.progress)


def read_set(
    files: Files, keys: LabelKeys, require: Sequence[str] = (), *, targets: Sequence[Target] = MECHANICS
) -> LabeledSet:
    """Read structures from files, and check their cells and labels.

    Args:
        files: The files.
        keys: Names and units of energies, forces and stresses.
        require: Which of these must be present.
        targets: The targets to read; values of properties are in ``info`` and ``arrays``.

    Raises:
        DataError: A file cannot be read, or labels are absent or impossible.
    """
    structures, places = read_located(files)
    for place, atoms in zip(places, structures, strict=True):
        with locating(f"{place} ({atoms.get_chemical_formula()})"):
            search_cell(atoms.cell, atoms.pbc)
    data = read_labels(structures, keys, require=require, places=places)
    if tuple(targets) == MECHANICS:
        return data
    values = dict(data.values)
    others = [target for target in targets if target.field is None]
    for target in others:
        found = [stated_value(atoms, target, place) for atoms, place in zip(structures, places, strict=True)]
        values[target.name] = np.concatenate(found)
    ids = [_id_of(atoms, place) for atoms, place in zip(structures, places, strict=True)]
    whole = replace(data, targets=(*MECHANICS, *others), values=values, ids=ids)
    return whole.only([target.name for target in targets])


def _id_of(atoms: Atoms, place: str) -> str:
    """What a structure is called: its own id, or its place in the file, whatever folder that is in."""
    number, _, path = place.removeprefix("structure ").partition(" of ")
    return str(atoms.info.get("id", f"{Path(path).name}:{number}"))


def label_keys(data: DataConfig) -> LabelKeys:
    """Names and units of the labels."""
    return LabelKeys.of(data, "configuration")
