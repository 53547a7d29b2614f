"""The base model's own data in a fine-tuning: some to learn again, some to see what is forgotten."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.data import LabelKeys
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.training.config.finetune import MethodConfig
from ik_e3nn.training.sets.elements import listing, with_others
from ik_e3nn.training.sets.prepare import LabeledSet, read_set

_log = logging.getLogger(__name__)

MOST_OLD = 1000  # structures to measure the old domain on


def read_old_data(
    method: MethodConfig, keys: LabelKeys, shift: Mapping[int, float], *, count: int, seed: int
) -> tuple[LabeledSet | None, LabeledSet | None]:
    """Structures to replay, and others of the old domain to measure errors on.

    Args:
        method: Which files, and how much of them.
        keys: Names and units of the labels of the new data; ``method.old_labels`` replaces some.
        shift: New less old E0 (eV) of every element that the base knows; energies are moved by them.
        count: Number of new structures.
        seed: Seed of the choice.

    Returns:
        The replayed set and the old domain, which share no structure of ``method.replay``; None where there is none.

    Raises:
        UnknownSpeciesError: The files hold an element that the base does not know.
        DataError: They cannot be read, or have no labels.
    """
    replayed = old = None
    own: dict[str, Any] = {name.removesuffix("_key"): key for name, key in method.old_labels.items()}
    keys = dataclasses.replace(keys, **own, given_in="old labels")
    if method.replay is not None:
        everything = _moved(_labeled(method.replay, keys, "finetune.replay"), shift, "finetune.replay")
        chosen, rest = chosen_of(len(everything.structures), method, count, seed)
        replayed, old = everything.select(chosen), everything.select(rest) if rest else None
    if method.old_domain is not None:
        old = _moved(_labeled(method.old_domain, keys, "finetune.old_domain"), shift, "finetune.old_domain")
    return replayed, old


def join_labeled(first: LabeledSet, second: LabeledSet) -> LabeledSet:
    """Two sets in one."""
    counts = dataclasses.replace(
        first.counts,
        **{
            name: getattr(first.counts, name) + getattr(second.counts, name)
            for name in ("structures", "energy", "forces", "stress")
        },
    )
    return LabeledSet(
        first.structures + second.structures, first.labels + second.labels, counts, first.names + second.names
    )


def _labeled(files: str | list[str], keys: LabelKeys, setting: str) -> LabeledSet:
    """Structures of the old domain, with labels and without single atoms."""
    data = read_set(files, keys)
    data = data.select([i for i, atoms in enumerate(data.structures) if not is_isolated(atoms)])
    if not (data.counts.energy or data.counts.forces or data.counts.stress):
        raise DataError(
            f"{setting} has no labels: nothing but single atoms has {keys.energy}, {keys.forces} or {keys.stress}; "
            "finetune.old_labels says what they are called, as in {energy_key: REF_energy}."
        )
    return data


def _moved(data: LabeledSet, shift: Mapping[int, float], setting: str) -> LabeledSet:
    """With energies that belong to the new E0s."""
    check_known(data.structures, shift, setting, data.names)
    labels = [
        dataclasses.replace(one, energy=one.energy + sum(shift[int(z)] for z in atoms.numbers))
        for atoms, one in zip(data.structures, data.labels, strict=True)
    ]
    return dataclasses.replace(data, labels=labels)


def chosen_of(total: int, method: MethodConfig, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Which structures are replayed, and which of the others measure the old domain."""
    order = np.random.default_rng([seed, 1]).permutation(total)
    wanted = method.replay_count(count)
    if wanted > total:
        _log.warning("finetune.replay holds %d structures; %d were asked for", total, wanted)
    return sorted(order[:wanted].tolist()), sorted(order[wanted : wanted + MOST_OLD].tolist())


def check_known(structures: Sequence[Atoms], species: Iterable[int], setting: str, places: Sequence[str]) -> None:
    """Refuse elements that the base does not know."""
    strange = with_others(structures, {*species})
    if strange:
        unknown = sorted({symbol for symbols in strange.values() for symbol in symbols.split(", ")})
        raise UnknownSpeciesError(
            f"{setting} has {', '.join(unknown)} in {len(strange)} of {len(structures)} structures, "
            f"which the base does not know and cannot have learned: leave them out ({listing(strange, places)})."
        )
