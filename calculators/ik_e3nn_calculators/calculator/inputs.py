"""The inputs of a model besides atoms: charge, spin, bonds and surface, with checks that they are usable."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.elements import symbols_of, unknown_symbols
from ik_e3nn.errors import DataError, MissingInputError, UnknownSpeciesError
from ik_e3nn.graph import SURROUNDINGS
from ik_e3nn.graph.bonds.record import RECORD
from ik_e3nn.graph.build import SURFACE_FIELDS

# The keys of ``Atoms.info`` behind each input that a model may declare.
INFO_KEYS = {"total_charge": "charge", "spin": "spin", "bond_types": "bonds", **{key: key for key in SURFACE_FIELDS}}
_NUMBERS = {"total_charge": "total charge in e", "spin": "spin multiplicity 2S+1"}

Snapshot = dict[str, NDArray[np.float64] | None]


def check_structure(atoms: Atoms, species: Sequence[int]) -> None:
    """Refuse a structure that a model for ``species`` cannot evaluate.

    Args:
        atoms: The structure; it is not changed.
        species: Atomic numbers that the model knows.

    Raises:
        DataError: There are no atoms, or positions or cell are not finite.
        UnknownSpeciesError: An element is not among ``species``; the message names it and the known elements.

    Example:
        >>> check_structure(Atoms("CO"), [6])
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.UnknownSpeciesError: the structure holds O, but the model knows only C; ...
    """
    if len(atoms) == 0:
        raise DataError("the structure has no atoms")
    unknown = unknown_symbols(atoms.numbers, species)
    if unknown:
        raise UnknownSpeciesError(
            f"the structure holds {unknown}, but the model knows only {symbols_of(species)}; "
            "train or fine-tune a model on these elements"
        )
    check_finite(atoms)


def check_finite(atoms: Atoms) -> None:
    """Refuse NaN or infinite positions and cells.

    Raises:
        DataError: Positions or cell are not finite; the message names the first such atoms.
    """
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if bad.size:
        named = ", ".join(f"{index} ({atoms.symbols[index]})" for index in bad[:5].tolist())
        raise DataError(f"positions are NaN or infinite for {bad.size} of {len(atoms)} atoms, the first: {named}")
    if not np.isfinite(atoms.cell.array).all():
        raise DataError(f"the cell is NaN or infinite: {atoms.cell.array.tolist()}")


def input_snapshot(atoms: Atoms, declared: Collection[str]) -> Snapshot:
    """Copy the declared inputs, to notice later changes, even in-place ones.

    Args:
        atoms: The structure.
        declared: Names of inputs of a model.

    Returns:
        One flat array for each declared input, or None if the structure does not have it; a surface, wire or site gives
        its three vectors, and bonds also give the record of bonds that the atoms carry.

    Raises:
        DataError: A value is not made of numbers.

    Example:
        >>> input_snapshot(Atoms("H", info={"charge": 1}), ["total_charge", "spin"])
        {'spin': None, 'total_charge': array([1.])}
    """
    snapshot: Snapshot = {}
    names = set(declared).difference(SURROUNDINGS).union(SURFACE_FIELDS if set(declared) & set(SURROUNDINGS) else ())
    for name in sorted(names):
        value = atoms.info.get(INFO_KEYS[name])
        if name == "bond_types":
            snapshot[RECORD] = None if RECORD not in atoms.arrays else atoms.arrays[RECORD].copy()
            # An empty list comes back from some files as an empty string.
            value = [] if isinstance(value, str) and not value.strip() else value
        try:
            snapshot[name] = None if value is None else np.array(value, dtype=np.float64).ravel()
        except (TypeError, ValueError) as error:
            raise DataError(f"atoms.info[{INFO_KEYS[name]!r}] must hold numbers, got {value!r}") from error
    return snapshot


def same_inputs(first: Snapshot, second: Snapshot) -> bool:
    """Whether two snapshots are equal, including absent inputs.

    Example:
        >>> same_inputs({"spin": np.ones(1)}, {"spin": None})
        False
    """
    if first.keys() != second.keys():
        return False
    return all(_equal(first[name], second[name]) for name in first)


def scalar_inputs(snapshot: Snapshot) -> dict[str, float]:
    """The declared numbers of a structure: total charge (e) and spin (2S+1).

    Raises:
        MissingInputError: The model declares an input that the structure does not have.
        DataError: An input is not one finite number.

    Example:
        >>> scalar_inputs({"total_charge": np.array([-1.0])})
        {'total_charge': -1.0}
    """
    values: dict[str, float] = {}
    for name in sorted(snapshot.keys() & _NUMBERS.keys()):
        value = snapshot[name]
        key = INFO_KEYS[name]
        if value is None:
            raise MissingInputError(
                f"the model needs the {_NUMBERS[name]}, but the structure does not carry it; "
                f"set atoms.info[{key!r}], or write {key}=... in the comment line of the extxyz file"
            )
        if value.shape != (1,) or not np.isfinite(value).all():
            raise DataError(f"atoms.info[{key!r}] must be one finite number ({_NUMBERS[name]}), got {value.tolist()}")
        values[name] = float(value[0])
    return values


def has_volume(atoms: Atoms) -> bool:
    """Whether a stress is defined: periodic in some direction, with three independent cell vectors.

    Example:
        >>> has_volume(Atoms("H")), has_volume(Atoms("H", cell=[3, 3, 9], pbc=(True, True, False)))
        (False, True)
    """
    cell = atoms.cell.array
    return bool(atoms.pbc.any() and np.isfinite(cell).all()) and bool(np.linalg.slogdet(cell)[0])


def _equal(first: Any, second: Any) -> bool:
    """Equality of two optional arrays."""
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(first, second))
