"""Checks of the sets of a training before it starts: errors and warnings."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
from ase import Atoms

from ik_e3nn.data import LabeledSet
from ik_e3nn.data.labels.energy_reference import is_isolated, is_marked
from ik_e3nn.data.labels.finding import missing_labels
from ik_e3nn.data.labels.placeholders import property_placeholders
from ik_e3nn.data.structures.same_molecules import same_molecules
from ik_e3nn.data.suspicions.units import suspicious_units
from ik_e3nn.elements import unknown_symbols
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.graph import has_bonds, structure_number
from ik_e3nn.graph.bonds.charges import USUAL, check_possible
from ik_e3nn.targets import Target, mechanics_of
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.sets.elements import listing, with_others
from ik_e3nn.training.sets.reading import label_keys

_log = logging.getLogger(__name__)

INPUT_OF = {"bonds": "bond_types", "charge": "total_charge", "spin": "spin"}


def check_sets(
    sets: Mapping[str, LabeledSet], whole: LabeledSet, config: TrainConfig, known: Collection[int], isolated: int
) -> None:
    """Raise for sets that cannot be used, and warn of probable mistakes.

    Args:
        sets: "train", "valid" and, if given, "test".
        whole: The training files before anything was set aside.
        config: The configuration.
        known: Elements that need not be in the training set.
        isolated: Number of isolated atoms among the training files.

    Raises:
        DataError: The test set has none of the trained labels.
        UnknownSpeciesError: The validation or test set has elements that the training set lacks.
    """
    check_elements(sets, known)
    _log.info("values found:\n%s", value_table(sets, isolated))
    if config.trained:
        properties = [target.name for target in config.targets if target.field is None]
        _check_valid(sets["valid"], [*config.trained, *properties])
        if "test" in sets:
            _check_test(sets["test"], config)
    smiles = [text for one in sets.values() for text in one.smiles or [""] * len(one)]
    equal = same_molecules([atoms for one in sets.values() for atoms in one.structures], smiles)
    warn_of_common({name: one.names for name, one in sets.items()}, equal)
    for name, one in {**sets, "train": whole}.items():
        if name == "train" or isinstance(getattr(config.data, name), str | list):
            for sentence in doubts_of(one, config):
                _log.warning("data.%s: %s", name, sentence)


def check_single_atoms(data: LabeledSet) -> None:
    """Raise for single atoms of which nothing says whether they are isolated or beside the surroundings of a model.

    Args:
        data: Training structures of a model that knows surroundings.

    Raises:
        DataError: Names the first one.
    """
    pairs = zip(data.names, data.structures, strict=True)
    unclear = [(name, atoms) for name, atoms in pairs if is_isolated(atoms) and not is_marked(atoms)]
    if unclear:
        name, atoms = unclear[0]
        raise DataError(
            f"{name} is a single atom ({atoms.get_chemical_formula()}), and nothing says whether it is isolated or "
            f'beside the surroundings of the model; there are {len(unclear)} like this. Set info["config_type"] to '
            "IsolatedAtom if its energy is that of an isolated atom, which is used for E0; if it is beside the "
            'surroundings, give their info["surface_origin"], which is [0, 0, 0] by default, in all structures'
        )


def doubts_of(data: LabeledSet, config: TrainConfig) -> list[str]:
    """Sentences about suspicious labels: values in other units, or placeholders."""
    units = suspicious_units(data, label_keys(config.data)) if mechanics_of(data.targets) else []
    return units + property_placeholders(data)


def check_elements(sets: Mapping[str, LabeledSet], others: Collection[int]) -> None:
    """Raise for elements in the validation or test set that no training structure with the same labels has.

    Args:
        sets: The sets.
        others: Elements that need not be in the training set.

    Raises:
        UnknownSpeciesError: Names the elements and the structures.
    """
    train = sets["train"]
    by_element = [one for one in train.targets if one.by_element and one.field is None]
    with_value = {target.name: _of_known(train, target) for target in by_element}
    for name, one in sets.items():
        pairs = [("", one, train.species)]
        pairs += [
            (f" with a value of {target.name}", _of_known(one, target), with_value[target.name].species)
            for target in by_element
        ]
        for what, here, known in pairs:
            strange = with_others(here.structures, {*known, *others})
            if strange:
                raise UnknownSpeciesError(
                    f"data.{name} has {unknown_symbols(here.species, {*known, *others})}{what}, which no training "
                    f"structure has ({listing(strange, here.names)}); add such structures to data.train, leave these "
                    "out, or split the data differently (run.seed)"
                )


def warn_of_common(names: Mapping[str, Sequence[str]], groups: Sequence[Sequence[int]]) -> None:
    """Warn if sets share structures, because errors on training structures do not show how good a model is on others.

    Args:
        names: Names of the structures of each set, for the message.
        groups: Groups of equal structures, numbered through all sets in order.
    """
    owners = [(name, place) for name, places in names.items() for place in places]
    for first, second in combinations(names, 2):
        shared = [group for group in groups if {first, second} <= {owners[index][0] for index in group}]
        if shared:
            pair = [next(owners[k][1] for k in shared[0] if owners[k][0] == name) for name in (first, second)]
            _log.warning(
                "%d structures (by SMILES or geometry) are both in data.%s and in data.%s, whose errors will look "
                "better than they are (the first: %s)",
                *(len(shared), first, second, " and ".join(dict.fromkeys(pair))),
            )


def warn_unused_inputs(
    structures: Sequence[Atoms], inputs: Collection[str], keys: Collection[str] = ("bonds", "charge", "spin")
) -> None:
    """Warn if structures differ in charge or spin, or have bonds, and the model does not use that."""
    for key in [key for key in keys if INPUT_OF[key] not in inputs]:
        if key == "bonds":
            unused = any(has_bonds(atoms) for atoms in structures)
        else:  # a structure without the number has the usual value
            unused = len({_number(atoms, key) for atoms in structures}) > 1
        if unused:
            _log.warning("the data have %s, but the model does not use them: its inputs lack %s", key, INPUT_OF[key])


def warn_unseen(structures: Sequence[Atoms], inputs: Collection[str], names: Sequence[str]) -> None:
    """Warn of structures that are charged or have unpaired electrons, if the model does not use that.

    Raises:
        DataError: The charge, spin or bonds of a structure are impossible; the message has its name.
    """
    for name, atoms in zip(names, structures, strict=True):
        try:
            check_possible(atoms)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    odd = [number for number, atoms in enumerate(structures) if unseen_of(atoms, inputs)]
    if odd:
        _log.warning(
            "%d of %d structures are charged or have unpaired electrons (the first: structure %d), and the model does "
            "not see their %s",
            len(odd),
            len(structures),
            odd[0],
            " and ".join(key for key in USUAL if INPUT_OF[key] not in inputs),
        )


def unseen_of(atoms: Atoms, inputs: Collection[str]) -> list[str]:
    """Which of charge and spin are unusual in a structure and are not inputs of the model.

    >>> unseen_of(Atoms("Na", info={"charge": 1}), ["spin"])
    ['charge']
    """
    return [key for key, usual in USUAL.items() if INPUT_OF[key] not in inputs and _number(atoms, key) != usual]


def _number(atoms: Atoms, key: str) -> float:
    """Charge or multiplicity of a structure; the usual value if it is not given."""
    found = structure_number(atoms, key)
    return USUAL[key] if found is None else found


def value_table(sets: Mapping[str, LabeledSet], isolated: int = 0) -> str:
    """A table of how many structures of each set have each label.

    >>> print(value_table({"train": LabeledSet.of_labels([Atoms("H")] * 9)}))
    set    structures  energy  forces  stress
    train           9       0       0       0
    """
    names = [target.name for target in sets["train"].targets]
    lines = [" ".join([f"{'set':<6}", "structures", *(f"{name:>7}" for name in names)])]
    for name, one in sets.items():
        counts = one.counts()
        lines.append(" ".join([f"{name:<6}", f"{len(one):>10}", *(f"{counts[target]:>7}" for target in names)]))
    if isolated:
        lines.append(f"({isolated} isolated atoms in the training files are used for E0s only)")
    return "\n".join(lines)


def _check_valid(valid: LabeledSet, labels: Sequence[str]) -> None:
    counts = valid.counts()
    for label in labels:
        if not counts[label]:
            _log.warning("the validation set has no %s labels: the validation loss leaves them out", label)


def _check_test(test: LabeledSet, config: TrainConfig) -> None:
    """Raise if the test set has none of the trained labels."""
    counts = test.counts()
    if not any(
        count for name, count in counts.items() if name in config.trained or name not in mechanics_of(test.targets)
    ):
        others = counts.get("energy") or counts.get("forces")
        missing = f"none of them has {' or '.join(config.trained)}" if others else ""
        missing = missing or missing_labels(test.structures, label_keys(config.data))
        raise DataError(f"data.test has no labels to test on: {missing}")


def _of_known(data: LabeledSet, target: Target) -> LabeledSet:
    """The structures with a value of a target."""
    return data.select(np.flatnonzero(data.known(target.name)))
