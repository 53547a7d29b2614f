"""The base model's own data in a fine-tuning: some to learn again, some to see what is forgotten."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ik_e3nn.data import LabelKeys, PropertySet, read_properties, resolve_targets
from ik_e3nn.data.energy_reference import is_isolated
from ik_e3nn.data.property_reference import reference_values
from ik_e3nn.data.property_set import known_rows
from ik_e3nn.errors import ConfigError, DataError, UnknownSpeciesError
from ik_e3nn.graph import Target
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.models import MolecularPropertyModel
from ik_e3nn.training.finetune_config import MethodConfig
from ik_e3nn.training.prepare import LabelledSet, read_set
from ik_e3nn.training.property_config import PropertyConfig
from ik_e3nn.training.property_prepare import reference_of

_log = logging.getLogger(__name__)

REPLAY, OLD = "replay", "old domain"
MOST_OLD = 1000  # structures to measure the old domain on


def read_old_data(
    method: MethodConfig, keys: LabelKeys, shift: Mapping[int, float], *, count: int, seed: int
) -> tuple[LabelledSet | None, LabelledSet | None]:
    """Structures to replay, and others of the old domain to measure errors on.

    Args:
        method: Which files, and how much of them.
        keys: Names and units of the labels of the new data; `method.old_labels` replaces some.
        shift: New less old E0 (eV) of every element that the base knows; energies are moved by them.
        count: Number of new structures.
        seed: Seed of the choice.

    Returns:
        The replayed set and the old domain, which share no structure of `method.replay`; None where there is none.

    Raises:
        UnknownSpeciesError: The files hold an element that the base does not know.
        DataError: They cannot be read, or have no labels.
    """
    replayed = old = None
    own: dict[str, Any] = {name.removesuffix("_key"): key for name, key in method.old_labels.items()}
    keys = dataclasses.replace(keys, **own)
    if method.replay is not None:
        everything = _moved(_labelled(method.replay, keys, "finetune.replay"), shift, "finetune.replay")
        chosen, rest = _chosen(len(everything.structures), method, count, seed)
        replayed, old = everything.select(chosen), everything.select(rest) if rest else None
    if method.old_domain is not None:
        old = _moved(_labelled(method.old_domain, keys, "finetune.old_domain"), shift, "finetune.old_domain")
    return replayed, old


def read_old_properties(
    config: PropertyConfig, method: MethodConfig, base: MolecularPropertyModel, *, count: int
) -> dict[str, PropertySet]:
    """Molecules to replay, and others of the old domain, with the properties of the base that they have values of.

    Args:
        config: The new properties, and how files are read.
        method: Which files, and how much of them.
        base: The base model.
        count: Number of new molecules.

    Returns:
        What there is of "replay" and "old domain", which share no molecule of `finetune.replay`; without bonds.

    Raises:
        UnknownSpeciesError: The files hold an element that the base does not know.
        DataError: They cannot be read, have no value of any of the properties, or lack an input of the base.
        ConfigError: All names of the base's properties are those of others now.
    """
    sets: dict[str, PropertySet] = {}
    if method.replay is None and method.old_domain is None:
        return sets
    new = {target.name: target for target in resolve_targets(config.data.targets)}
    targets = [target for target in base.targets if new.get(target.name, target) == target]
    lost = ", ".join(target.name for target in base.targets if target not in targets)
    if not targets:
        raise ConfigError(
            f"data.targets has something else under the names of all that the base predicts ({lost}), so that nothing "
            "could be learned again or measured; give yours other names, or leave finetune.replay and "
            "finetune.old_domain out."
        )
    if lost:
        _log.warning("old values of %s are left out: data.targets has something else under this name", lost)
    if method.replay is not None:
        everything = _with_values(method.replay, config, base, targets, "finetune.replay")
        chosen, rest = _chosen(len(everything), method, count, config.run.seed)
        sets[REPLAY] = everything.select(chosen)
        if rest:
            sets[OLD] = everything.select(rest)
    if method.old_domain is not None:
        sets[OLD] = _with_values(method.old_domain, config, base, targets, "finetune.old_domain")
    return sets


def moved_values(molecules: PropertySet, old: MolecularPropertyModel, new: MolecularPropertyModel) -> PropertySet:
    """Molecules with the values that belong to other references: what the models say of them is off by as much.

    Where the old model has no reference of an element, it has predicted nothing, and there is no value to keep.

    Args:
        molecules: Molecules with properties that both models have.
        old: The model to whose references the values belong.
        new: A model that began as the old one and has other references.
    """
    values = dict(molecules.values)
    for target in molecules.targets:
        before, after = (
            reference_values(molecules, model.species, target, reference_of(model, target)) for model in (old, new)
        )
        moved = values[target.name] + (after - before)
        lost = int(known_rows(values[target.name]).sum() - known_rows(moved).sum())
        if lost:
            _log.warning("%d old values of %s are left out: the base has no reference of an element", lost, target.name)
        values[target.name] = moved
    return dataclasses.replace(molecules, values=values)


def join_labelled(first: LabelledSet, second: LabelledSet) -> LabelledSet:
    """Two sets in one."""
    counts = dataclasses.replace(
        first.counts,
        **{
            name: getattr(first.counts, name) + getattr(second.counts, name)
            for name in ("structures", "energy", "forces", "stress")
        },
    )
    return LabelledSet(first.structures + second.structures, first.labels + second.labels, counts)


def _labelled(files: str | list[str], keys: LabelKeys, setting: str) -> LabelledSet:
    """Structures of the old domain, with labels and without single atoms."""
    data = read_set(files, keys)
    data = data.select([i for i, atoms in enumerate(data.structures) if not is_isolated(atoms)])
    if not (data.counts.energy or data.counts.forces or data.counts.stress):
        raise DataError(
            f"{setting} has no labels: nothing but single atoms has {keys.energy}, {keys.forces} or {keys.stress}; "
            "finetune.old_labels says what they are called, as in {energy_key: REF_energy}."
        )
    return data


def _moved(data: LabelledSet, shift: Mapping[int, float], setting: str) -> LabelledSet:
    """With energies that belong to the new E0s."""
    _check_known(data.structures, shift, setting)
    labels = [
        dataclasses.replace(one, energy=one.energy + sum(shift[int(z)] for z in atoms.numbers))
        for atoms, one in zip(data.structures, data.labels, strict=True)
    ]
    return dataclasses.replace(data, labels=labels)


def _with_values(
    files: str | list[str],
    config: PropertyConfig,
    base: MolecularPropertyModel,
    targets: Sequence[Target],
    setting: str,
) -> PropertySet:
    """Molecules of the old domain that have a value of something."""
    skip, run = config.data.on_failure == "skip", config.run
    found = read_properties(files, targets, seed=run.seed, skip=skip, drop_absent=True, progress=run.progress)
    found = found.select(np.flatnonzero(np.any([known_rows(one) for one in found.values.values()], axis=0)))
    _check_known(found.structures, base.species, setting)
    for name, key in NUMBER_KEYS.items():
        lacking = sum(atoms.info.get(key) is None for atoms in found.structures)
        if name in base.body.inputs and lacking:
            raise DataError(
                f"{setting}: {lacking} of {len(found)} molecules have no {key!r}, which the base needs; add it, or "
                "leave them out."
            )
    counts = ", ".join(f"{name} {count}" for name, count in found.counts().items())
    _log.info("%s: %d molecules with values: %s", setting, len(found), counts)
    absent = ", ".join(target.name for target in targets if target not in found.targets)
    if absent:
        _log.warning(
            "%s has no value of %s, which the base predicts: it is not learned again; check the names", setting, absent
        )
    return found


def _chosen(total: int, method: MethodConfig, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Which structures are replayed, and which of the others measure the old domain."""
    order = np.random.default_rng([seed, 1]).permutation(total)
    wanted = method.replay_count(count)
    if wanted > total:
        _log.warning("finetune.replay holds %d structures; %d were asked for", total, wanted)
    return sorted(order[:wanted].tolist()), sorted(order[wanted : wanted + MOST_OLD].tolist())


def _check_known(structures: Sequence[Atoms], species: Iterable[int], setting: str) -> None:
    """Refuse elements that the base does not know."""
    strange = [{*atoms.numbers.tolist()} - {*species} for atoms in structures]
    unknown, count = set().union(*strange), sum(map(bool, strange))
    if unknown:
        raise UnknownSpeciesError(
            f"{setting} has {', '.join(chemical_symbols[z] for z in sorted(unknown))} in {count} of {len(structures)} "
            "structures, which the base does not know and cannot have learned: leave them out."
        )
