"""The molecules to predict, each with its row of the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms
from tqdm import tqdm

from ik_e3nn.data import conformers, read_structures
from ik_e3nn.data.files.reading import expand_path
from ik_e3nn.data.files.sdf import SDFRecord, Unreadable, is_sdf, scan_sdf
from ik_e3nn.data.files.smiles_table import given_smiles, is_table, read_table
from ik_e3nn.errors import DataError
from ik_e3nn.targets import Target

PROBLEM = "problem"


@dataclass
class Asked:
    """The molecules to predict: rows of the table, and geometries with the row that each belongs to.

    Args:
        rows: Columns of the input, for each row.
        structures: Geometries.
        smiles: SMILES of the geometries, if the input has them.
        owners: Row of each geometry.
        problems: Errors and doubts, by row.
    """

    rows: list[dict[str, Any]]
    structures: list[Atoms] = field(default_factory=list)
    smiles: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)


def read_asked(data: str, targets: Sequence[Target], *, count: int = 1, seed: int = 0, progress: bool = False) -> Asked:
    """Read rows and geometries from the input, whose columns must not have the names of predictions.

    Args:
        data: File of SMILES or structures.
        targets: The targets to predict.
        count: Conformers of each SMILES.
        seed: Seed of the conformers.
        progress: Show a progress bar.

    Raises:
        DataError: The input cannot be read, or one of its columns has the name of a prediction.
    """
    paths = expand_path(data)
    tables = [path for path in paths if is_table(path)]
    if tables and len(paths) > 1:
        raise DataError(
            f"data is {len(paths)} files with {tables[0]} among them, but only one table of SMILES can be predicted at "
            "a time; give one file, or join them."
        )
    if not tables:
        asked = _read_structures(paths)
        _check_names(asked.rows, targets)
        return asked
    smiles, table = read_table(paths[0])
    _check_names(table, targets)
    asked = Asked([dict(row) for row in table])
    for number, text in enumerate(tqdm(smiles, desc="conformers", disable=not progress)):
        try:
            found = conformers(text, count, seed)
        except DataError as error:
            asked.problems[number] = str(error)
            continue
        asked.structures += found
        asked.smiles += [text] * len(found)
        asked.owners += [number] * len(found)
    return asked


def _read_structures(paths: Sequence[Path]) -> Asked:
    """A row for every structure, and for every record of an SDF file with its data, even if it cannot be read."""
    asked = Asked([])
    for path in paths:
        found: Iterable[SDFRecord | Unreadable] = (
            scan_sdf(path)
            if is_sdf(path)
            else (SDFRecord(number, atoms, {}) for number, atoms in enumerate(read_structures(path)))
        )
        for one in found:
            row = len(asked.rows)
            if isinstance(one, Unreadable):
                asked.rows.append({"molecule": str(row)})
                asked.problems[row] = one.problem
                continue
            asked.rows.append({"molecule": str(one.atoms.info.get("name", row)), **one.fields})
            asked.structures.append(one.atoms)
            asked.owners.append(row)
    rows = (asked.rows[owner] for owner in asked.owners)
    sources = [{**atoms.info, **row} for atoms, row in zip(asked.structures, rows, strict=True)]
    asked.smiles = given_smiles(sources) or []
    return asked


def _check_names(rows: Sequence[Mapping[str, Any]], targets: Sequence[Target]) -> None:
    """Raise if predictions would replace columns of the input."""
    columns = {name for row in rows for name in row}
    taken = columns & {PROBLEM, *(name for target in targets for name in column_names(target))}
    if taken:
        raise DataError(
            f"the input has a column {', '.join(sorted(taken))}, which is the name of a column of predictions; rename "
            "it, say to measured_..., so that nothing is replaced."
        )


def column_names(target: Target) -> list[str]:
    """Names of the columns of one target.

    >>> from ik_e3nn.targets import Dipole, Intensive
    >>> column_names(Intensive("gap", "eV")), column_names(Dipole("mu", "D"))
    (['gap_eV'], ['mu_x_D', 'mu_y_D', 'mu_z_D'])
    """
    unit = f"_{target.unit}" if target.unit else ""
    axes = {(): [""], (3,): ["_x", "_y", "_z"]}.get(target.shape)
    if axes is None:
        axes = [f"_{a}{b}" for a in "xyz" for b in "xyz"]
    return [f"{target.name}{axis}{unit}" for axis in axes]
