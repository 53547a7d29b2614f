"""Molecules from files with properties: conformers for tables of SMILES, or the geometries in the file."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from tqdm import tqdm

from ik_e3nn.data.bonds.completeness import check_hydrogens, has_odd_electrons
from ik_e3nn.data.files.reading import read_structures
from ik_e3nn.data.files.sdf import is_sdf, read_sdf_records
from ik_e3nn.data.files.smiles_table import is_table, read_table
from ik_e3nn.data.structures.molecules import conformers
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.targets import Target

_log = logging.getLogger(__name__)


class FileMolecule(NamedTuple):
    """One molecule of a file.

    Attributes:
        place: Its number in the file.
        where: Its number and file in words, for messages.
        atoms: The structure.
        source: Its values by name, from columns, data fields or ``info``.
    """

    place: int
    where: str
    atoms: Atoms
    source: Mapping[str, Any]


def molecules_of_file(
    path: Path, targets: Sequence[Target], seed: int, problems: list[str] | None, progress: bool
) -> list[FileMolecule]:
    """The usable molecules of one file; problems of the others are added to the list, or logged if it is None."""
    if is_table(path):
        return _molecules_of_table(path, targets, seed, problems, progress)
    found = [one for one in _molecules_of_structures(path) if _is_usable(one, problems)]
    if not found and not problems:
        raise DataError(f"no molecule of {path} can be used")
    odd = [one.where for one in found if has_odd_electrons(one.atoms)]
    if odd:
        _log.warning(
            "%d of %d molecules have an odd number of electrons (first: %s): radicals, ions whose charge is not given, "
            "or molecules that lack a hydrogen",
            *(len(odd), len(found), odd[0]),
        )
    return found


def _molecules_of_table(
    path: Path, targets: Sequence[Target], seed: int, problems: list[str] | None, progress: bool
) -> list[FileMolecule]:
    """One conformer for each SMILES of a table."""
    smiles, rows = read_table(path)
    _check_turning(path, rows[0], targets)
    found = []
    for number, text in enumerate(tqdm(smiles, desc="conformers", disable=not progress), start=1):
        where = f"row {number} of {path}"
        try:
            atoms = conformers(text, 1, seed)[0]
        except DataError as error:
            if problems is None:
                _log.warning("%s is left out: %s", where, error)
            else:
                problems.append(f"{where}: {error}")
            continue
        found.append(FileMolecule(number, where, atoms, rows[number - 1]))
    if not found and not problems:
        raise DataError(f"no row of {path} makes a molecule; check its SMILES")
    return found


def _molecules_of_structures(path: Path) -> list[FileMolecule]:
    """Molecules of a file with geometries."""
    if is_sdf(path):
        return [
            FileMolecule(number, f"molecule {number} of {path}", atoms, {"name": atoms.info.get("name"), **fields})
            for number, atoms, fields in read_sdf_records(path)
        ]
    # ASE stores values with names it knows, like "energy" and "dipole", in the calculator.
    return [
        FileMolecule(k, f"molecule {k} of {path}", atoms, {**getattr(atoms.calc, "results", {}), **atoms.info})
        for k, atoms in enumerate(read_structures(path))
    ]


def _is_usable(one: FileMolecule, problems: list[str] | None) -> bool:
    """Whether all positions are finite and no hydrogens are missing."""
    is_finite = bool(np.isfinite(one.atoms.positions).all())
    problem = "" if is_finite else "some positions are NaN or infinite"
    try:
        check_hydrogens(one.atoms)
    except DataError as error:
        problem = problem or str(error)
    if not problem:
        return True
    if problems is None:
        _log.warning("%s is left out: %s", one.where, problem)
    else:
        problems.append(f"{one.where}: {'' if is_finite else 'positions must be finite, but '}{problem}")
    return False


def _check_turning(path: Path, names: Collection[str], targets: Sequence[Target]) -> None:
    """Refuse vectors and tensors in tables of SMILES, whose conformers have arbitrary orientations."""
    for target in targets:
        if target.turns and not {target.name, f"{target.name}_0"}.isdisjoint(names):
            raise ConfigError(
                f"target {target.name!r} is a {target.kind}, which turns with the molecule, but {path} has SMILES, "
                "whose geometries are made in an arbitrary orientation: give the molecules with their geometries (SDF "
                "or extxyz), or the length of a dipole as a target of kind dipole_norm"
            )
