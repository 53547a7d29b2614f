"""Refuse sites with partial occupancy or several elements: they are averages over many cells, not single structures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.errors import DataError

# ASE stores occupancies of CIF files in ``info``, by kind of site; of PDB and electron microscopy files in ``arrays``.
OCCUPANCY_KEYS = ("occupancy", "occupancies")
FULL = 0.99  # rounded occupancies of full sites are larger


def check_occupancy(atoms: Atoms) -> None:
    """Refuse a structure with sites that are occupied in part or by several elements.

    Args:
        atoms: The structure; it is only read.

    Raises:
        DataError: There are such sites; the message names the first ones.

    Example:
        >>> check_occupancy(Atoms("C", info={"occupancy": {"0": {"C": 0.6, "N": 0.4}}}))
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: sites are occupied in part or by several elements: C 0.6 + N 0.4 at atom 0; ...
    """
    found = [*_of_kinds(atoms), *_of_atoms(atoms)]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise DataError(
            f"sites are occupied in part or by several elements: {', '.join(found[:3])}{more}; a calculation needs "
            "whole atoms. Make an ordered structure first: choose one element for every site and one position for "
            "every split atom (ik_e3nn.data.read_structures does so for alternate locations in PDB and mmCIF files); "
            'then delete "occupancy" from atoms.info and atoms.arrays'
        )


def _of_kinds(atoms: Atoms) -> list[str]:
    """Descriptions of partially occupied sites of a CIF file."""
    stored = atoms.info.get("occupancy")
    if not isinstance(stored, Mapping):
        return []
    partial = {str(kind): sites for kind, sites in stored.items() if _is_partial(sites)}
    if not partial:
        return []
    kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms))).tolist()
    present = {kind: kinds.index(kind) for kind in dict.fromkeys(kinds) if str(kind) in partial}
    return [f"{_words(partial[str(kind)])} at atom {first}" for kind, first in present.items()]


def _is_partial(site: Any) -> bool:
    """Whether one site does not hold exactly one whole atom."""
    return isinstance(site, Mapping) and bool(site) and (len(site) > 1 or _number(*site.values()) < FULL)


def _words(site: Mapping[str, Any]) -> str:
    return " + ".join(f"{symbol} {_number(value):g}" for symbol, value in site.items())


def _number(value: Any) -> float:
    """An occupancy; if a CIF file leaves it open, it is 1."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 1.0


def _of_atoms(atoms: Atoms) -> list[str]:
    """Descriptions of partially occupied atoms of other files; many programs write 0 for an unknown occupancy."""
    for key in OCCUPANCY_KEYS:
        values = atoms.arrays.get(key)
        if values is not None and values.ndim == 1 and values.dtype.kind in "iuf":
            partial = np.flatnonzero((values > 0) & (values < FULL)).tolist()
            return [f"{atoms.symbols[index]} {values[index]:g} at atom {index}" for index in partial]
    return []
