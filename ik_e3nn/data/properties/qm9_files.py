"""Readers of the published formats of QM9, in the units of the files."""

from __future__ import annotations

import csv
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.files.reading import expand_path
from ik_e3nn.data.files.sdf import read_sdf_records
from ik_e3nn.errors import DataError
from ik_e3nn.npz_file import read_npz

NAMES = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
UNITS = ("D", "a0^3", "Ha", "Ha", "Ha", "a0^2", "Ha", "Ha", "Ha", "Ha", "Ha", "cal/mol/K")
CSV_NAMES = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")


class RawQM9(NamedTuple):
    """Molecules with the twelve targets in the published units.

    Attributes:
        structures: The molecules.
        numbers: Their numbers in dsgdb9nsd, from 1.
        values: (M, 12), in the order of ``NAMES``.
        smiles: SMILES, or None if the format has none.
    """

    structures: list[Atoms]
    numbers: list[int]
    values: FloatArray
    smiles: list[str] | None


def read_arrays(path: Path) -> RawQM9:
    """QM9 from one npz file of arrays, see ``ik_e3nn.data.read_qm9``.

    Raises:
        DataError: The file is damaged, arrays are missing or do not fit together, or targets or units differ from
            ``NAMES`` and ``UNITS``.
    """
    wanted = ("Z", "R", "offsets", "index", "targets", "target_names", "target_units")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an npz file (numpy.savez), or is truncated")
    arrays = read_npz(path)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks the array(s) {', '.join(missing)}")
    found = list(zip(map(str, arrays["target_names"]), map(str, arrays["target_units"]), strict=False))
    if found != list(zip(NAMES, UNITS, strict=True)):
        raise DataError(f"{path} must have the targets {list(zip(NAMES, UNITS, strict=True))}; got {found}")
    _check_shapes(path, arrays)
    ends = arrays["offsets"]
    numbers, positions = arrays["Z"].astype(int), arrays["R"].astype(np.float64)
    structures = [Atoms(numbers=numbers[a:b], positions=positions[a:b]) for a, b in pairwise(ends)]
    smiles = [s.decode() if isinstance(s, bytes) else str(s) for s in arrays["smiles"]] if "smiles" in arrays else None
    return RawQM9(structures, arrays["index"].tolist(), arrays["targets"].astype(np.float64), smiles)


def _check_shapes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays of different numbers of molecules or atoms."""
    atoms, molecules = arrays["Z"].size, arrays["index"].size
    expected = {
        "Z": (atoms,),
        "R": (atoms, 3),
        "offsets": (molecules + 1,),
        "index": (molecules,),
        "targets": (molecules, len(NAMES)),
        "smiles": (molecules,),
    }
    for name, array in arrays.items():
        if name in expected and array.shape != expected[name]:
            raise DataError(
                f"{path}: {name} must be of shape {expected[name]} for {atoms} atoms (Z) in {molecules} molecules "
                f"(index); got {array.shape}"
            )
    ends = arrays["offsets"]
    if ends[0] != 0 or ends[-1] != atoms or (np.diff(ends.astype(int)) < 1).any():
        raise DataError(f"{path}: offsets must rise from 0 to the number of atoms, {atoms}; got {ends}")


def read_sdf_table(path: Path) -> RawQM9:
    """QM9 from ``gdb9.sdf``, with bonds, and the table ``gdb9.sdf.csv`` beside it.

    Raises:
        DataError: The table does not exist, lacks columns, or has another number of rows than the SDF has molecules; or
            a row belongs to another molecule than the one at its place in the SDF, or has values that are no numbers.
    """
    table = path.with_name(f"{path.name}.csv")
    if not table.exists():
        raise DataError(f"{table.name}, which holds the properties, must be beside {path}, but does not exist")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin the file with a byte-order mark
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text ({error}); save it as UTF-8") from error
    missing = [name for name in ("mol_id", *CSV_NAMES) if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{table} lacks the column(s) {', '.join(missing)}")
    records = read_sdf_records(path)
    last = records[-1].number + 1
    if last > len(rows):
        raise DataError(f"{path} has at least {last} molecules, but {table.name} has only {len(rows)} rows")
    if last < len(rows):
        raise DataError(
            f"{path} ends after molecule {last}, or cannot be read after it, but {table.name} has {len(rows)} rows; "
            "one of the two is truncated"
        )
    for record in records:
        title, row = str(record.atoms.info.get("name", "")), rows[record.number]
        if title.startswith("gdb_") and title != row["mol_id"]:
            raise DataError(
                f"molecule {record.number + 1} of {path} is {title}, but row {record.number + 1} of {table.name} is "
                f"{row['mol_id']}; both must have the same molecules in the same order"
            )
    chosen = [rows[record.number] for record in records]  # molecules that RDKit cannot read are left out
    index, values = [], []
    for record, row in zip(records, chosen, strict=True):
        try:
            index.append(int(row["mol_id"].removeprefix("gdb_")))
            values.append([float(row[name]) for name in CSV_NAMES])
        except (TypeError, ValueError) as error:  # a row that is too short has None
            raise DataError(
                f"row {record.number + 1} of {table} must have a number in every column: {error}"
            ) from error
    return RawQM9([record.atoms for record in records], index, np.array(values), None)


def read_xyz(path: Path) -> RawQM9:
    """QM9 from the published ``dsgdb9nsd_*.xyz``: one file, or a folder, a glob or an archive of them.

    Raises:
        DataError: No such files are found, or one is damaged.
    """
    found = [parse_xyz(name, text) for name, text in _xyz_texts(path)]
    if not found:
        raise DataError(f"{path} has neither an npz file, nor gdb9.sdf, nor any dsgdb9nsd_*.xyz")
    structures, index, values, smiles = zip(*found, strict=True)
    return RawQM9(list(structures), list(index), np.array(values), list(smiles))


def parse_xyz(name: str, text: str) -> tuple[Atoms, int, list[float], str]:
    r"""One of the published files: structure, number, twelve targets and the SMILES of the relaxed geometry.

    Raises:
        DataError: The file is damaged.

    Example:
        >>> text = "1\ngdb 7\t1 2 3 0.5 6.3 -0.3 0.1 0.4 35.4 0.04 -40.5 -40.4 -40.3 -40.2 6.5\n"
        >>> text += "H\t0.1\t2.0*^-6\t0.3\t0.0\n1000.0\n[H]\t[H]\nInChI\n"
        >>> atoms, number, values, smiles = parse_xyz("a.xyz", text)
        >>> number, values[0], values[-1], atoms.positions.tolist()
        (7, 0.5, 6.5, [[0.1, 2e-06, 0.3]])
    """
    try:
        lines = text.replace("*^", "e").splitlines()
        count = int(lines[0])
        words = lines[1].split()
        rows = [line.split() for line in lines[2 : 2 + count]]
        atoms = Atoms([row[0] for row in rows], [[float(x) for x in row[1:4]] for row in rows])
        values = [float(word) for word in words[5:17]]
        smiles = lines[3 + count].split()[-1]
        if len(values) != len(NAMES) or len(atoms) != count:
            raise ValueError(f"{len(values)} values, {len(atoms)} atoms")
        return atoms, int(words[1]), values, smiles
    except (IndexError, ValueError, KeyError) as error:
        reason = "it ends too early" if isinstance(error, IndexError) else error
        raise DataError(f"{name} is not a file of dsgdb9nsd: {reason}") from error


def _xyz_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Names and contents of the files, in sorted order."""
    if path.is_file() and path.name.endswith((".tar.bz2", ".tar", ".tar.gz")):
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.name.endswith(".xyz") else None
                    if stream is not None:
                        yield member.name, _text(member.name, stream.read())
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{path} is damaged ({error}); copy it again") from error
        return
    for file in sorted(path.glob("dsgdb9nsd_*.xyz")) if path.is_dir() else expand_path(path):
        yield file.name, _text(file.name, file.read_bytes())


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a file of dsgdb9nsd: it is not text") from error
