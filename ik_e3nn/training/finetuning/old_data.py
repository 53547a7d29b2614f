"""Old data in a fine-tuning: some are learned again, others measure what is forgotten."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ik_e3nn.data import LabeledSet, read_properties
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.data.properties.reference import reference_values
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, StoredModel
from ik_e3nn.targets import Target, mechanics_of
from ik_e3nn.training.config.finetune import OLD, REPLAY, FinetuneConfig, MethodConfig
from ik_e3nn.training.finetuning.references import energies_of
from ik_e3nn.training.sets.elements import check_species
from ik_e3nn.training.sets.reading import Files, label_keys, read_set
from ik_e3nn.training.sets.references import reference_of

_log = logging.getLogger(__name__)

MOST_OLD = 1000  # most structures on which the old domain is measured


def read_old_data(config: FinetuneConfig, base: StoredModel, *, count: int) -> dict[str, LabeledSet]:
    """Read structures to replay and structures that measure the old domain, with values of the base's targets.

    Args:
        config: The configuration.
        base: The base model.
        count: Number of new structures.

    Returns:
        The sets ``REPLAY`` and ``OLD``, if there are data for them, without bonds. They share no structure unless the
        files of ``finetune.old_domain`` and ``finetune.replay`` do.

    Raises:
        UnknownSpeciesError: The files contain an element that the base does not know.
        DataError: The files cannot be read, have no value of any of the targets, or lack an input of the base.
        ConfigError: The new targets use the names of all targets of the base for something else.
    """
    method, sets = config.finetune, dict[str, LabeledSet]()
    if method.replay is None and method.old_domain is None:
        return sets
    new = {target.name: target for target in config.targets}
    targets = [target for target in base.targets if new.get(target.name, target) == target]
    lost = ", ".join(target.name for target in base.targets if target not in targets)
    if not targets:
        raise ConfigError(
            f"data.targets uses the names of all targets of the base ({lost}) for other targets, so that old data "
            "cannot be replayed or measured; give yours other names, or leave finetune.replay and "
            "finetune.old_domain out."
        )
    if lost:
        _log.warning("old values of %s are left out: data.targets uses this name for another target", lost)
    if method.replay is not None:
        everything = _read(method.replay, config, base, targets, "finetune.replay")
        chosen, rest = chosen_of(len(everything), method, count, config.run.seed)
        sets[REPLAY] = everything.select(chosen)
        if rest:
            sets[OLD] = everything.select(rest)
    if method.old_domain is not None:
        sets[OLD] = _read(method.old_domain, config, base, targets, "finetune.old_domain")
    return sets


def moved_values(data: LabeledSet, old: StoredModel, new: StoredModel) -> LabeledSet:
    """Shift values from the references of one model to those of another, so that both models have the same errors.

    Values of structures with an element for which the old model has no reference are left out.

    Args:
        data: Structures with targets that both models have.
        old: The model to whose references the values belong.
        new: The model that started from the old one and has other references.
    """
    values = dict(data.values)
    for target in data.targets:
        if not target.reference:
            continue
        before, after = (_reference(data, target, model) for model in (old, new))
        moved = dataclasses.replace(data, values=values | {target.name: values[target.name] + (after - before)})
        lost = data.counts()[target.name] - moved.counts()[target.name]
        if lost:
            _log.warning("%d old values of %s are left out: the base has no reference of an element", lost, target.name)
        values = moved.values
    return dataclasses.replace(data, values=values)


def _reference(data: LabeledSet, target: Target, model: StoredModel) -> Any:
    """The reference of a target in a model, for each structure: (M, *shape)."""
    if target.field is None:
        return reference_values(data, model.species, target, reference_of(cast(MolecularPropertyModel, model), target))
    energies = energies_of(cast(InteratomicPotential, model.potential))
    return np.array([sum(energies[int(z)] for z in atoms.numbers) for atoms in data.structures])


def _read(
    files: Files, config: FinetuneConfig, base: StoredModel, targets: Sequence[Target], setting: str
) -> LabeledSet:
    """Read structures that have a value of one of the targets, without isolated atoms."""
    run, mechanics = config.run, mechanics_of(targets)
    if mechanics:
        own: dict[str, Any] = {name.removesuffix("_key"): key for name, key in config.finetune.old_labels.items()}
        keys = dataclasses.replace(label_keys(config.data), **own, given_in="old labels")
        found = read_set(files, keys, targets=targets)
        found = found.select([k for k, atoms in enumerate(found.structures) if not is_isolated(atoms)])
        if not any(found.counts().values()):
            raise DataError(
                f"{setting} has no labels: no structure, isolated atoms aside, has {keys.energy}, "
                f"{keys.forces} or {keys.stress}; "
                "name the labels with finetune.old_labels, as in {energy_key: REF_energy}."
            )
    else:
        skip = config.data.on_failure == "skip"
        found = read_properties(files, targets, seed=run.seed, skip=skip, absent="drop", progress=run.progress)
        found = found.select(np.flatnonzero(np.any([found.known(one.name) for one in found.targets], axis=0)))
    advice = f"; leave them out of {setting}, as the base cannot have learned them"
    check_species(found.structures, base.species, found.names, advice=advice)
    for name, key in NUMBER_KEYS.items():
        lacking = sum(atoms.info.get(key) is None for atoms in found.structures)
        if name in base.inputs and lacking:
            raise DataError(
                f"{setting}: {lacking} of {len(found)} structures have no {key!r}, which the base needs; add it, or "
                "leave them out."
            )
    counts = found.counts()
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    _log.info("%s: %d structures with values: %s", setting, len(found), shown)
    absent = [target.name for target in targets if not counts.get(target.name) and target.name not in mechanics]
    if absent:
        _log.warning("%s has no value of %s, which the base predicts: check the names", setting, ", ".join(absent))
    return found


def chosen_of(total: int, method: MethodConfig, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Choose the structures to replay, and others to measure the old domain on."""
    order = np.random.default_rng([seed, 1]).permutation(total)
    wanted = method.replay_count(count)
    if wanted > total:
        _log.warning("finetune.replay has %d structures, but %d were asked for", total, wanted)
    return sorted(order[:wanted].tolist()), sorted(order[wanted : wanted + MOST_OLD].tolist())
