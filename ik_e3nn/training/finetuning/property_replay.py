"""Old data of a base model of properties in a fine-tuning: some to learn again, some to see what is forgotten."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from ik_e3nn.data import PropertySet, read_properties, resolve_targets
from ik_e3nn.data.properties.reference import reference_values
from ik_e3nn.data.properties.set import known_rows
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.models import MolecularPropertyModel
from ik_e3nn.targets import Target
from ik_e3nn.training.config.finetune import OLD, REPLAY, MethodConfig
from ik_e3nn.training.config.properties import PropertyConfig
from ik_e3nn.training.finetuning.replay import check_known, chosen_of
from ik_e3nn.training.sets.property_prepare import reference_of

_log = logging.getLogger(__name__)


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
        What there is of ``REPLAY`` and ``OLD``, without bonds. They share no molecule, unless the files of
        ``finetune.old_domain`` hold some of those of ``finetune.replay``.

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
        chosen, rest = chosen_of(len(everything), method, count, config.run.seed)
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
    check_known(found.structures, base.species, setting, found.names)
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
        _log.warning("%s has no value of %s, which the base predicts: check the names", setting, absent)
    return found
