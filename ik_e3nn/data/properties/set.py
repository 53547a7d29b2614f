"""Molecules with properties: what every reader of properties gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn.targets import Target

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PropertySet:
    """Molecules with their properties.

    Args:
        structures: The molecules.
        targets: The properties.
        values: By the targets' names, (M, *shape) in the targets' units; NaN where missing.
        ids: What the source calls each molecule; the hash of a split is made of them.
        smiles: SMILES of each molecule, where the source gives them.
        places: Where each molecule is in the files, in words, for messages.

    Raises:
        DataError: Numbers of structures, values and ids do not agree, or a value has a wrong shape or is infinite.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> one = PropertySet([Atoms("H2")], (Intensive("gap", "eV"),), {"gap": np.array([np.nan])}, ["a"])
        >>> one.counts()
        {'gap': 0}
    """

    structures: list[Atoms]
    targets: tuple[Target, ...]
    values: dict[str, FloatArray]
    ids: list[str]
    smiles: list[str] | None = None
    places: list[str] | None = None

    def __post_init__(self) -> None:
        count = len(self.structures)
        if len(self.ids) != count or (self.smiles is not None and len(self.smiles) != count):
            raise DataError(f"{count} structures, but {len(self.ids)} ids and {len(self.smiles or self.ids)} SMILES")
        for target in self.targets:
            shape = self.values[target.name].shape
            if shape != (count, *target.shape):
                raise DataError(
                    f"{target.name} is a {target.kind}: values must be {(count, *target.shape)}; got {shape}"
                )
            infinite = np.isinf(self.values[target.name]).reshape(count, target.width).any(axis=1)
            if infinite.any():
                raise DataError(
                    f"molecule {self.ids[int(infinite.argmax())]}: {target.name} is infinite; correct it, or leave it "
                    "empty (NaN) if it is not known"
                )

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def names(self) -> list[str]:
        """What messages call the molecules: their places, or their ids where those are not known."""
        return [f"molecule {name}" for name in self.ids] if self.places is None else self.places

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> PropertySet:
        """Some of the molecules, in the order given."""
        chosen = [int(index) for index in indices]
        return PropertySet(
            [self.structures[index] for index in chosen],
            self.targets,
            {name: array[chosen] for name, array in self.values.items()},
            [self.ids[index] for index in chosen],
            None if self.smiles is None else [self.smiles[index] for index in chosen],
            None if self.places is None else [self.places[index] for index in chosen],
        )

    def only(self, names: Sequence[str]) -> PropertySet:
        """The same molecules with some of the targets.

        Raises:
            DataError: There is no such target.
        """
        known = {target.name: target for target in self.targets}
        missing = [name for name in names if name not in known]
        if missing:
            raise DataError(f"there is no target {', '.join(missing)}; there are {', '.join(known)}")
        values = {name: self.values[name] for name in names}
        return replace(self, targets=tuple(known[name] for name in names), values=values)

    def with_targets(self, targets: Sequence[Target]) -> PropertySet:
        """The same molecules with other targets; values of those that they have not are NaN.

        Example:
            >>> from ik_e3nn.targets import Intensive
            >>> one = PropertySet([Atoms("H2")], (), {}, ["a"])
            >>> one.with_targets([Intensive("gap", "eV")]).values
            {'gap': array([nan])}
        """
        values = {
            target.name: self.values[target.name]
            if target in self.targets
            else np.full((len(self), *target.shape), np.nan)
            for target in targets
        }
        return replace(self, targets=tuple(targets), values=values)

    def counts(self) -> dict[str, int]:
        """Number of molecules with a value, by target."""
        return {target.name: int(known_rows(self.values[target.name]).sum()) for target in self.targets}

    def matrix(self) -> FloatArray:
        """All values side by side, (M, sum of widths), as in a graph's ``targets``."""
        parts = [self.values[target.name].reshape(len(self), target.width) for target in self.targets]
        return np.concatenate(parts, 1) if parts else np.zeros((len(self), 0))

    def labeled(self) -> list[Atoms]:
        """Copies of the structures with id, SMILES and known values in ``info``, as ``read_properties`` finds them.

        Example:
            >>> from ik_e3nn.targets import Intensive
            >>> one = PropertySet([Atoms("H2")], (Intensive("gap", "eV"),), {"gap": np.array([9.0])}, ["a"])
            >>> one.labeled()[0].info
            {'id': 'a', 'gap': 9.0}
        """
        copies = []
        for index, atoms in enumerate(self.structures):
            copy = atoms.copy()
            copy.info["id"] = self.ids[index]
            if self.smiles is not None:
                copy.info["smiles"] = self.smiles[index]
            for name, array in self.values.items():
                copy.info.pop(name, None)
                if np.isfinite(array[index]).all():
                    copy.info[name] = array[index].tolist()
            copies.append(copy)
        return copies

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, sorted."""
        return sorted({int(number) for atoms in self.structures for number in atoms.numbers})


def known_rows(values: FloatArray) -> NDArray[np.bool_]:
    """Which molecules have a value, (M,).

    >>> known_rows(np.array([1.0, np.nan])).tolist()
    [True, False]
    """
    return np.asarray(np.isfinite(values.reshape(len(values), -1)).all(axis=1))


def joined(sets: Sequence[PropertySet]) -> PropertySet:
    """Several sets of the same targets as one.

    Raises:
        DataError: Their targets differ.
    """
    first = sets[0]
    for other in sets[1:]:
        if other.targets != first.targets:
            raise DataError(f"files with different targets: {first.targets} and {other.targets}")
    values: Mapping[str, FloatArray] = {
        target.name: np.concatenate([one.values[target.name] for one in sets]) for target in first.targets
    }
    smiles = [text for one in sets for text in one.smiles or []]
    return PropertySet(
        [atoms for one in sets for atoms in one.structures],
        first.targets,
        dict(values),
        [name for one in sets for name in one.ids],
        smiles if all(one.smiles is not None for one in sets) else None,
        [name for one in sets for name in one.names],
    )
