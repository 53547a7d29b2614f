"""Conversion of a structure's data to a form that an extxyz file stores without loss."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from ik_e3nn.errors import DataError

logger = logging.getLogger(__name__)

EXTXYZ_SUFFIXES = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")


def is_extxyz(path: object) -> bool:
    """Whether a file name has the suffix of an extxyz file.

    >>> is_extxyz("a.xyz.gz"), is_extxyz("A.EXTXYZ"), is_extxyz("a.traj")
    (True, True, False)
    """
    return str(path).lower().endswith(EXTXYZ_SUFFIXES)


def require_extxyz(path: object) -> None:
    """Refuse other formats, because none that ASE writes stores all labels, arrays and entries of ``info``.

    Raises:
        DataError: The name does not have the suffix of an extxyz file.

    Example:
        >>> require_extxyz("labeled.xyz")
    """
    if not is_extxyz(path):
        raise DataError(
            f"output must be an extxyz file, ending in .xyz or .extxyz (or .gz); got {str(path)!r}, a format that does "
            "not store all labels. Write extxyz and convert it with ase.io.read and ase.io.write"
        )


def storable(structures: Sequence[Atoms]) -> list[Atoms]:
    """Copies of structures that ``ase.io.write`` stores as extxyz and ``ase.io.read`` reads with the same values.

    Text that would be read as a number or would break the line, nested lists and None are written as JSON; lists that
    do not form an array are read back as JSON text. Tensors of atoms are written as rows. An entry of ``info`` or an
    array takes precedence over a calculator result of the same name, as when labels are read. Values that an extxyz
    file cannot store (objects, complex numbers, names with "=") are left out with a warning.

    Args:
        structures: The structures; they are only read.

    Returns:
        One copy each.

    Example:
        >>> atoms = Atoms("H", info={"note": "", "smiles": "F/C=C" + chr(92) + "F", "charge": 1})
        >>> copy = storable([atoms])[0]
        >>> copy.info["note"], copy.info["charge"], len(copy.info["smiles"]) - len(atoms.info["smiles"])
        ('_JSON ""', 1, 1)
    """
    lost: dict[str, int] = {}
    result = [_storable(atoms, lost) for atoms in structures]
    for name, count in lost.items():
        logger.warning("%s of %d structures is left out: an extxyz file cannot hold it", name, count)
    return result


def _storable(atoms: Atoms, lost: dict[str, int]) -> Atoms:
    """A copy of one structure; values that are left out are counted in ``lost``."""
    if not isinstance(atoms, Atoms):
        raise TypeError(f"a structure must be ase.Atoms, got {type(atoms).__name__}")
    copy = atoms.copy()
    copy.info, copy.calc = {}, _results(atoms)
    for key, value in atoms.info.items():
        found = _entry(value) if _is_name(key) else None
        if found is None:
            lost[f"info[{key!r}]"] = lost.get(f"info[{key!r}]", 0) + 1
        else:
            copy.info[key] = found[0]
    for name, array in atoms.arrays.items():
        column = _column(array) if _is_name(name) and not any(mark in name for mark in ": ") else None
        if column is None:
            lost[f"arrays[{name!r}]"] = lost.get(f"arrays[{name!r}]", 0) + 1
            del copy.arrays[name]
        else:
            copy.arrays[name] = column
    return copy


def _results(atoms: Atoms) -> SinglePointCalculator | None:
    """The calculator results of a structure that are in neither ``info`` nor an array."""
    results = dict(getattr(atoms.calc, "results", {}))
    kept = {key: value for key, value in results.items() if key not in atoms.info and key not in atoms.arrays}
    changed: list[str] = getattr(atoms.calc, "check_state", lambda _: [])(atoms)
    if not kept or changed:
        return None
    calculator = SinglePointCalculator(atoms)
    calculator.results = kept
    return calculator


def _is_name(name: object) -> bool:
    """Whether a name can be written."""
    return isinstance(name, str) and bool(name) and not any(mark in name for mark in "\"'\\={}[]\n\r\t")


def _entry(value: Any) -> tuple[Any] | None:
    """An entry of ``info`` in the form that ASE's writer needs, or None if it cannot be written."""
    if isinstance(value, str):
        return (_text(value),)
    if isinstance(value, np.ndarray | np.generic) and (value.dtype.kind not in "ifb" or not value.size):
        value = value.tolist()
    if isinstance(value, bool | int | float | np.ndarray | np.generic):
        return (value,)
    try:
        text = json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        return None
    if isinstance(value, list | tuple):
        if value and all(type(one) in (int, float) for one in value):
            return (np.array(value),)  # the usual form of a list of numbers
        if not _is_even(value):
            return (_text(text),)  # ASE's reader fails for lists that are no array
    return (_escaped(f"_JSON {text}"),)


def _is_even(value: Any) -> bool:
    """Whether a nested list forms an array."""
    try:
        np.array(value)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python objects for JSON."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "ifbU":
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def _text(value: str) -> str:
    """Text that is read back as the same text."""
    words = value.split()
    plain = all(word.isprintable() and word.isascii() for word in words) and " ".join(words) == value
    risky = not words or all(map(_is_special, words)) or value[0] in "_{[" or value[-1] in "}]" or "," in value
    return _escaped(f"_JSON {json.dumps(value)}" if risky or not plain else value)


def _is_special(word: str) -> bool:
    """Whether ASE reads a word as a number or a truth value."""
    if word.lower() in ("t", "f", "true", "false"):
        return True
    try:
        float(word)
    except ValueError:
        return False
    return True


def _escaped(text: str) -> str:
    """The text with doubled backslashes: ASE's reader removes single ones, but its writer does not double them."""
    return text.replace("\\", "\\\\")


def _column(array: NDArray[Any]) -> NDArray[Any] | None:
    """An array as columns, or None if it cannot be written."""
    if array.dtype.kind in "ifb":
        return array if 0 < array.ndim <= 2 and array.size else array.reshape(len(array), -1) if array.size else None
    words = array.ravel().tolist()
    is_text = array.ndim == 1 and all(isinstance(word, str) and len(word.split()) == 1 for word in words)
    return np.array([word.strip() for word in words]) if is_text else None
