"""Tables of molecules as SMILES."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ik_e3nn.errors import DataError

SMILES_COLUMNS = ("smiles", "SMILES", "Smiles", "canonical_smiles")


def is_table(path: Path) -> bool:
    """Whether a file name has the suffix of a table of SMILES.

    >>> is_table(Path("mine.CSV")), is_table(Path("mine.xyz"))
    (True, False)
    """
    return path.suffix.lower() in (".csv", ".smi", ".smiles")


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """SMILES and rows of a ``.csv`` file with a SMILES column, or of a ``.smi`` file of SMILES and names.

    Raises:
        DataError: There is no SMILES column, or no row; a name occurs twice; a row is longer than the header; the file
            is not UTF-8.
    """
    if not path.is_file():  # reading a pipe could block forever
        raise DataError(f"{path} is not a file but a folder, a pipe or a device")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    if path.suffix.lower() != ".csv":
        words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        rows = [{"smiles": word[0], **({"name": word[1]} if len(word) > 1 else {})} for word in words]
    else:
        reader = csv.DictReader(StringIO(text, newline=""))
        names = [name.strip() for name in reader.fieldnames or ()]
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise DataError(f"{path} has several columns named {', '.join(twice)}; rename or delete all but one")
        reader.fieldnames = names
        rows = list(reader)
    if not rows:
        raise DataError(f"{path} has no rows")
    column = next((name for name in SMILES_COLUMNS if name in rows[0]), None)
    if column is None:
        names = [name for name in rows[0] if name is not None]
        is_other = any(mark in " ".join(names[:1]) for mark in ";\t")
        hint = "; columns must be separated by commas, and numbers must have a decimal point" if is_other else ""
        raise DataError(f"{path} has no column {' or '.join(SMILES_COLUMNS)}; its columns are {', '.join(names)}{hint}")
    for number, row in enumerate(rows):
        if None in row:
            raise DataError(
                f"row {number + 1} of {path} has more values than the header has names: quote values that have commas"
            )
    return [(row[column] or "").strip() for row in rows], rows


def given_smiles(sources: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """SMILES of molecules from their columns, data fields or info; None unless every molecule has a SMILES.

    >>> given_smiles([{"smiles": "CO"}, {"smiles": False}])  # ASE takes the letters F and T for false and true
    ['CO', 'F']
    """
    found = []
    for source in sources:
        text = next((source[name] for name in SMILES_COLUMNS if name in source), None)
        if isinstance(text, bool | np.bool_):
            text = "T" if text else "F"
        if not isinstance(text, str) or not text.strip():
            return None
        found.append(text.strip())
    return found
