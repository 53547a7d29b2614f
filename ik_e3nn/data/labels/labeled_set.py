"""Structures with labels, as all readers return them and as training, evaluation and calibration use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import BoolArray, FloatArray, IntArray
from ik_e3nn.data.labels.own_labels import with_own_labels
from ik_e3nn.data.labels.values import StructureLabels
from ik_e3nn.errors import DataError
from ik_e3nn.targets import MECHANICS, Target, mechanics_of


@dataclass(frozen=True)
class LabeledSet:
    """Structures with values of some targets.

    Args:
        structures: The structures.
        targets: The targets.
        values: Values by name of the target, in its unit, NaN where missing: (M, *shape) for M structures, or
            (atoms of all structures, *shape) for a target with a value for each atom.
        ids: Identifiers of the structures in the source, if known; splits by hash use them.
        smiles: SMILES of each molecule, if the source gives them.
        places: Where each structure is in the files, in words, for messages.
        sources: Keys that energy, forces and stress were read from.
        notes: Sentences about values that were left out.
        doubts: Sentences about probable mistakes: labels that are not read, or that have two different values.

    Raises:
        DataError: The numbers of structures, values and ids differ, or a value has a wrong shape or is infinite.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> one = LabeledSet([Atoms("H2")], (Intensive("gap", "eV"),), {"gap": np.array([np.nan])})
        >>> one.counts()
        {'gap': 0}
    """

    structures: list[Atoms]
    targets: tuple[Target, ...]
    values: dict[str, FloatArray]
    ids: list[str] = field(default_factory=list)
    smiles: list[str] | None = None
    places: list[str] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (("ids", self.ids or None), ("SMILES", self.smiles), ("places", self.places)):
            if names is not None and len(names) != len(self):
                raise DataError(f"{len(self)} structures, but {len(names)} {what}")
        for target in self.targets:
            values, rows = self.values[target.name], int(self._ends[-1]) if target.per_atom else len(self)
            if values.shape != (rows, *target.shape):
                raise DataError(
                    f"{target.name} is a {target.kind}: values must be {(rows, *target.shape)}; got {values.shape}"
                )
            infinite = np.isinf(values).reshape(rows, target.width).any(axis=1)
            if infinite.any():
                row = int(infinite.argmax())
                number = self.atom_owners[row] if target.per_atom else row
                raise DataError(
                    f"{self.names[number]}: {target.name} is infinite; correct it, or leave it empty (NaN) if it is "
                    "not known"
                )

    @classmethod
    def of_labels(
        cls,
        structures: Sequence[Atoms],
        labels: Sequence[StructureLabels] | None = None,
        *,
        places: list[str] | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> LabeledSet:
        """Structures with energy, forces and stress; all NaN without labels.

        Raises:
            DataError: The numbers of structures and labels, or of atoms and forces, differ.
        """
        if labels is None:
            labels = [StructureLabels.empty(len(atoms)) for atoms in structures]
        if len(labels) != len(structures):
            raise DataError(f"{len(structures)} structures, but labels for {len(labels)}")
        values = {
            "energy": np.array([one.energy for one in labels], dtype=np.float64),
            "forces": np.concatenate([np.zeros((0, 3)), *(one.forces for one in labels)]),
            "stress": np.array([one.stress for one in labels], dtype=np.float64).reshape(-1, 3, 3),
        }
        return cls(list(structures), MECHANICS, values, places=places, sources=sources or {})

    def __len__(self) -> int:
        return len(self.structures)

    @cached_property
    def _ends(self) -> IntArray:
        """Row of the first atom of each structure, and the number of all atoms, (M + 1,)."""
        return np.cumsum([0, *(len(atoms) for atoms in self.structures)])

    @property
    def sizes(self) -> IntArray:
        """Number of atoms of each structure, (M,)."""
        return np.diff(self._ends)

    @cached_property
    def atom_owners(self) -> IntArray:
        """Structure of every atom, (atoms of all structures,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def names(self) -> list[str]:
        """Names of the structures in messages: their places, their ids, or their numbers."""
        if self.places is not None:
            return self.places
        if self.ids:
            return [f"molecule {name}" for name in self.ids]
        return [f"structure {number}" for number in range(len(self))]

    @property
    def labels(self) -> list[StructureLabels]:
        """Energy, forces and stress of each structure."""
        columns = self.values["energy"], self.by_structure("forces"), self.values["stress"]
        return [StructureLabels(float(energy), *others) for energy, *others in zip(*columns, strict=True)]

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, sorted."""
        return sorted({int(number) for atoms in self.structures for number in atoms.numbers})

    def by_structure(self, name: str) -> list[FloatArray]:
        """Values of a target, one array for each structure."""
        values = self.values[name]
        if not self._target(name).per_atom:
            return list(values)
        return [values[start:end] for start, end in pairwise(self._ends)]

    def _target(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)

    def value(self, index: int) -> dict[str, FloatArray]:
        """Values of one structure by target: (1, *shape), or (N, *shape) if every atom has a value."""
        start, end = self._ends[index : index + 2]
        rows = {True: slice(start, end), False: slice(index, index + 1)}
        return {target.name: self.values[target.name][rows[target.per_atom]] for target in self.targets}

    def known(self, name: str) -> BoolArray:
        """Which structures have a value of a target, (M,); a value for one of their atoms is enough.

        Example:
            >>> LabeledSet.of_labels([Atoms("H2")]).known("forces").tolist()
            [False]
        """
        values = self.values[name]
        if not self._target(name).per_atom:
            return known_rows(values)
        labeled = np.isfinite(values).any(axis=tuple(range(1, values.ndim)))
        return np.bincount(self.atom_owners[labeled], minlength=len(self)) > 0

    def owners(self, target: Target) -> IntArray:
        """Structure of every row of a target's values."""
        return self.atom_owners if target.per_atom else np.arange(len(self))

    def counts(self) -> dict[str, int]:
        """Number of structures with a value, by target."""
        return {target.name: int(self.known(target.name).sum()) for target in self.targets}

    def text(self) -> str:
        """One line for the log: numbers of values, the keys that they were read from, and notes on values left out.

        Example:
            >>> LabeledSet.of_labels([Atoms("H")], sources={"energy": "REF_energy"}).text()
            'labels of 1 structures: energy 0 (REF_energy), forces 0, stress 0'
        """
        keys = {name: f" ({key})" for name, key in self.sources.items()}
        counts = ", ".join(f"{name} {count}{keys.get(name, '')}" for name, count in self.counts().items())
        return "; ".join([f"labels of {len(self)} structures: {counts}", *self.notes])

    def select(self, indices: Sequence[int] | IntArray) -> LabeledSet:
        """Some of the structures, in the order given."""
        chosen, ends = [int(index) for index in indices], self._ends
        atoms = np.concatenate([np.zeros(0, int), *(np.arange(ends[index], ends[index + 1]) for index in chosen)])
        rows = {target.name: atoms if target.per_atom else chosen for target in self.targets}

        def some(names: list[str] | None) -> list[str] | None:
            return None if names is None else [names[index] for index in chosen]

        return replace(
            self,
            structures=[self.structures[index] for index in chosen],
            values={name: self.values[name][rows[name]] for name in rows},
            ids=[self.ids[index] for index in chosen] if self.ids else [],
            smiles=some(self.smiles),
            places=some(self.places),
        )

    def only(self, names: Sequence[str]) -> LabeledSet:
        """The same structures with some of the targets.

        Raises:
            DataError: There is no such target.
        """
        known = {target.name: target for target in self.targets}
        missing = [name for name in names if name not in known]
        if missing:
            raise DataError(f"there is no target {', '.join(missing)}; there are {', '.join(known)}")
        return replace(
            self, targets=tuple(known[name] for name in names), values={name: self.values[name] for name in names}
        )

    def with_targets(self, targets: Sequence[Target]) -> LabeledSet:
        """The same structures with other targets; values of new targets are NaN.

        Raises:
            DataError: A target has the name of a target of this set, but another kind or unit.

        Example:
            >>> from ik_e3nn.targets import Intensive
            >>> LabeledSet([Atoms("H2")], (), {}).with_targets([Intensive("gap", "eV")]).values
            {'gap': array([nan])}
        """
        mine = {target.name: target for target in self.targets}
        for target in targets:
            if mine.get(target.name, target) != target:
                raise DataError(f"the set has values of {mine[target.name]}, but {target} is expected under this name")
        rows = {True: int(self._ends[-1]), False: len(self)}
        values = {
            target.name: self.values[target.name]
            if target in self.targets
            else np.full((rows[target.per_atom], *target.shape), np.nan)
            for target in targets
        }
        return replace(self, targets=tuple(targets), values=values)

    def with_mechanics(self) -> LabeledSet:
        """The same set with energy, forces and stress among the targets; NaN if the set has none."""
        there = mechanics_of(self.targets)
        return self.with_targets([*self.targets, *(one for one in MECHANICS if one.name not in there)])

    def labeled(self) -> list[Atoms]:
        """Copies of the structures with their id, SMILES and labels, as the readers find them.

        Example:
            >>> from ik_e3nn.targets import Intensive
            >>> one = LabeledSet([Atoms("H2")], (Intensive("gap", "eV"),), {"gap": np.array([9.0])}, ["a"])
            >>> one.labeled()[0].info
            {'id': 'a', 'gap': 9.0}
        """
        mechanics = mechanics_of(self.targets)
        if mechanics:
            copies = [
                with_own_labels(atoms, labels, self.sources)
                for atoms, labels in zip(self.structures, self.with_mechanics().labels, strict=True)
            ]
        else:
            copies = [atoms.copy() for atoms in self.structures]
        for index, copy in enumerate(copies):
            if self.ids:
                copy.info.setdefault("id", self.ids[index])
            if self.smiles is not None:
                copy.info["smiles"] = self.smiles[index]
            for target in self.targets:
                if target.name in mechanics:
                    continue
                place = copy.arrays if target.per_atom else copy.info
                place.pop(target.name, None)
                value = self.value(index)[target.name]
                if np.isfinite(value).any():
                    place[target.name] = value if target.per_atom else value[0].tolist()
        return copies


def known_rows(values: FloatArray) -> BoolArray:
    """Which rows of values (M, *shape) are known, (M,).

    >>> known_rows(np.array([1.0, np.nan])).tolist()
    [True, False]
    """
    return np.asarray(np.isfinite(values).all(axis=tuple(range(1, values.ndim))))


def joined(sets: Sequence[LabeledSet]) -> LabeledSet:
    """Join several sets of the same targets; the sources and notes are taken from the first.

    Raises:
        DataError: Their targets differ.
    """
    first = sets[0]
    for other in sets[1:]:
        if other.targets != first.targets:
            raise DataError(f"sets with different targets: {first.targets} and {other.targets}")

    def together(lists: Sequence[list[str] | None]) -> list[str] | None:
        return None if any(one is None for one in lists) else [name for one in lists for name in one or []]

    return replace(
        first,
        structures=[atoms for one in sets for atoms in one.structures],
        values={name: np.concatenate([one.values[name] for one in sets]) for name in first.values},
        ids=together([one.ids or None for one in sets]) or [],
        smiles=together([one.smiles for one in sets]),
        places=[name for one in sets for name in one.names],
    )
