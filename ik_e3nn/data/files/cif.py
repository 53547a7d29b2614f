"""CIF files of crystals, read by ASE, with checks that ASE does not make: occupancies, disorder and lost atoms."""

import io
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.cif import CIFBlock, parse_cif

from ik_e3nn.errors import DataError, locating
from ik_e3nn.graph import check_occupancy

_OCCUPANCY = "_atom_site_occupancy"


def read_cif(text: str, path: Path) -> list[Atoms]:
    """All structures of a CIF file.

    Args:
        text: The file's text.
        path: Its name, for messages.

    Returns:
        One structure for every data block that has atoms.

    Raises:
        DataError: A site is partially occupied or shared by several elements, or there are no atoms.

    Example:
        >>> from ase.build import bulk
        >>> stream = io.BytesIO()
        >>> bulk("Cu", cubic=True).write(stream, format="cif")
        >>> read_cif(stream.getvalue().decode(), Path("copper.cif"))[0].get_chemical_formula()
        'Cu4'
    """
    structures = []
    for block in parse_cif(io.BytesIO(text.encode("latin1", errors="replace"))):
        if block.has_structure():
            with locating(f"block {block.name!r} of {path}"):
                structures.append(_structure(block))
    if not structures:
        raise DataError(f"{path} cannot be read: no data block has atoms with coordinates")
    return structures


def _structure(block: CIFBlock) -> Atoms:
    """One data block as a structure."""
    sites = block.get_unsymmetrized_structure()
    _check_groups(block)
    given = block.get(_OCCUPANCY)
    given = given if isinstance(given, list) else [given] * len(sites)
    # With occupancies, ASE reads a site that is listed twice only once. A missing occupancy (. or ?) means 1.
    values = [1.0 if value is None or isinstance(value, str) else float(value) for value in given]
    atoms = CIFBlock(block.name, {**block, _OCCUPANCY: values}).get_atoms()
    check_occupancy(atoms)
    _check_complete(atoms, sites)
    del atoms.info["occupancy"]
    return atoms


def _check_groups(block: CIFBlock) -> None:
    """Refuse sites of several disorder groups, which are never present together, even if occupancies are missing."""
    given = block.get("_atom_site_disorder_group")
    words = {str(value) for value in (given if isinstance(given, list) else [given])} - {"None", ".", "?", "0"}
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise DataError(
            f"sites are occupied in part: they have the disorder groups {', '.join(sorted(words))}, of "
            "which only one is present at a time (_atom_site_disorder_group); keep the sites of one group"
        )


def _check_complete(atoms: Atoms, sites: Atoms) -> None:
    """Refuse two elements on sites that symmetry makes equivalent, of which ASE would keep only the first."""
    if "spacegroup_kinds" not in atoms.arrays:
        return
    places = atoms.get_scaled_positions()
    for index in sorted(set(range(len(sites))) - set(atoms.arrays["spacegroup_kinds"].tolist())):
        apart = places - sites.get_scaled_positions()[index]
        nearest = int(np.abs(apart - np.rint(apart)).max(axis=1).argmin())
        if atoms.numbers[nearest] != sites.numbers[index]:
            raise DataError(
                f"the symmetry puts {sites.symbols[index]} (site {index}) where {atoms.symbols[nearest]} is; correct "
                "the coordinates or the space group"
            )
