"""Values of properties in the forms found in files: numbers, text, lists, or one column for each component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray
from ik_e3nn.errors import DataError
from ik_e3nn.targets import Target

MISSING = ("", "nan", "NaN", "NA", "N/A", "n/a", "None", "null")


def stated_value(atoms: Atoms, target: Target, where: str) -> FloatArray:
    """The value of a target in the ``info``, ``arrays`` or stored results of a structure, NaN if it is missing.

    Args:
        atoms: The structure.
        target: The target.
        where: Name of the structure in messages.

    Returns:
        (1, *shape), or (N, *shape) for a per-atom target.

    Raises:
        DataError: The value has a wrong shape, is infinite, or is impossible for the target.
    """
    return value_of({**getattr(atoms.calc, "results", {}), **atoms.info}, target, where, atoms)


def value_of(source: Mapping[str, Any], target: Target, where: str, atoms: Atoms) -> FloatArray:
    """The value of one molecule, NaN if missing; vectors may be text, lists or columns ``mu_0``, ``mu_1``, ..."""
    shape = (len(atoms) if target.per_atom else 1, *target.shape)
    found = source.get(target.name)
    if target.per_atom:  # ASE moves columns with names it knows, such as charges, to the results
        found = atoms.arrays.get(target.name, found)
    if found is None and target.shape and not target.per_atom:
        parts = [source.get(f"{target.name}_{k}") for k in range(target.width)]
        found = None if any(part is None for part in parts) else parts
    if found is None or (isinstance(found, str) and found.strip() in MISSING):
        return np.full(shape, np.nan)
    words = found.replace(",", " ").split() if isinstance(found, str) else found
    try:
        numbers = [np.nan if str(one).strip() in MISSING else float(one) for one in np.ravel(np.array(words, object))]
        values = np.array(numbers).reshape(shape)
    except (TypeError, ValueError) as error:
        expected = "a number" if target.width == 1 else f"{target.width} numbers"
        each = " for every atom" if target.per_atom else ""
        raise DataError(f"{where}: {target.name} must be {expected}{each} or empty; got {found!r:.60}") from error
    if np.isinf(values).any():
        raise DataError(
            f"{where}: {target.name} is infinite; got {found!r:.60}; correct it, or leave it empty if it is not known"
        )
    if fault := target.fault(values if target.per_atom else values[0], atoms):
        raise DataError(f"{where}: {target.name} {fault}; got {found!r:.60}")
    return values
