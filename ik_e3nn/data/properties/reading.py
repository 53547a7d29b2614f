"""Read properties of molecules from files: csv with SMILES, SDF, formats that ASE reads, and QM9."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.files.reading import expand_path
from ik_e3nn.data.files.sdf import is_sdf, read_sdf_records
from ik_e3nn.data.files.smiles_table import SMILES_COLUMNS, given_smiles, is_table, read_table
from ik_e3nn.data.labels.labeled_set import LabeledSet, joined
from ik_e3nn.data.properties.file_molecules import FileMolecule, molecules_of_file
from ik_e3nn.data.properties.qm9 import TARGETS, read_qm9, sdf_of
from ik_e3nn.data.properties.values import MISSING, value_of
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.listing import listed
from ik_e3nn.targets import Target, make_target, parse_target
from ik_e3nn.targets.unit import check_unit
from ik_e3nn.user_path import is_file, user_path

_log = logging.getLogger(__name__)

_SHOWN = 20  # problems named in one message
_IDS = ("id", "name")

Absent = Literal["error", "drop", "keep"]


def resolve_targets(given: Sequence[str] | Mapping[str, str | Mapping[str, str]]) -> tuple[Target, ...]:
    """Targets from a configuration: names of QM9, or the user's own names with "kind unit" or {kind: ..., unit: ...}.

    Raises:
        ConfigError: A name without a kind is not a target of QM9, or a unit contradicts the kind of its target.

    Example:
        >>> resolve_targets(["homo"])
        (Intensive(name='homo', unit='eV'),)
        >>> resolve_targets({"logS": "intensive log(mol/L)"})[0].unit
        'log(mol/L)'
    """
    if isinstance(given, Mapping):
        return tuple(_own_target(name, what) for name, what in given.items())
    unknown = [name for name in given if name not in TARGETS]
    if unknown or not given:
        raise ConfigError(
            f"targets: {', '.join(unknown) or 'none given'}; a list may name those of QM9 ({', '.join(TARGETS)}). For "
            "your own, give kind and unit, as in {solubility: intensive log(mol/L)}"
        )
    return tuple(TARGETS[name] for name in given)


def _own_target(name: str, what: str | Mapping[str, str]) -> Target:
    """A target from "kind unit" or a mapping."""
    if isinstance(what, str):
        target = parse_target(name, what)
    elif isinstance(what, Mapping) and "kind" in what and not set(what) - {"kind", "unit"}:
        target = make_target(name, what["kind"], what.get("unit") or "")
    else:
        raise ConfigError(
            f"target {name!r} is {what!r}, but it must be like 'intensive eV' or {{kind: intensive, unit: eV}}"
        )
    check_unit(target)
    return target


def read_properties(
    paths: str | Path | Sequence[str | Path],
    targets: Sequence[Target],
    *,
    seed: int = 0,
    skip: bool = False,
    absent: Absent = "error",
    progress: bool = False,
    advice: str = "or set data.on_failure to skip",
    faults: list[str] | None = None,
) -> LabeledSet:
    """Read molecules and their properties from files of any supported format.

    - ``.csv`` with a column ``smiles``: properties in columns of the targets' names; the geometry is a conformer
      from the SMILES, and so are the bonds;
    - ``.smi``: molecules as in a csv, without properties;
    - ``.sdf``, ``.mol``: properties in data fields; geometry and bonds of the file;
    - extxyz and other formats that ASE reads: properties in ``atoms.info``, geometry of the file, bonds of
      ``info["bonds"]``, if given;
    - QM9 (see ``read_qm9``): published values and geometry; bonds from SMILES, or of the SDF.

    A value that is missing, or "", "nan" or "NA", is NaN, for each property separately. A column "id" (or "name")
    names the molecules; otherwise they are named by file and number: rows of tables count from 1 below the header,
    structures of other files from 0. A data field or info "smiles" is used if every molecule of a file has it.

    Args:
        paths: File, glob, folder, or several.
        targets: The properties to read, under the names used in the files.
        seed: Seed of the conformers.
        skip: Leave out rows whose SMILES make no molecule, and molecules whose positions are not finite, with a
            warning instead of an error (not for QM9).
        absent: What happens to a property that has no value in any file: "error" raises; "drop" leaves it out, as long
            as another is left; "keep" keeps it, with all values missing.
        progress: Show a progress bar.
        advice: For the message: what else to do about a bad row than to correct or delete it.
        faults: If given, problems are added to this list instead of raised; unusable molecules are left out, and
            unusable values are missing.

    Returns:
        The molecules.

    Raises:
        DataError: Molecules cannot be used (all are named, with their rows), an id of a table occurs twice, or a
            property has no value in any file.
        ConfigError: A target is not in QM9, or its kind or unit is not that of QM9; or a table of SMILES has values
            of a vector or a tensor.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    sets: list[LabeledSet] = []
    names: set[str] = set()
    for item in given:
        if is_qm9(user_path(item)):
            if absent == "error":
                _check_in_qm9(targets)
            molecules = read_qm9(item)
            known = [target.name for target in targets if target in molecules.targets]
            sets.append(molecules.only(known).with_targets(targets))
            names.update(TARGETS)
            continue
        for file in expand_path(item):
            problems: list[str] = []
            found = molecules_of_file(file, targets, seed, None if skip else problems, progress)
            names |= {str(name) for one in found for name in one.source}
            sets.append(_as_set(file, found, tuple(targets), problems, advice if faults is None else None))
            if faults is not None:
                faults += problems
    whole = joined(sets)
    lacking = [name for name, count in whole.counts().items() if not count]
    if absent == "drop" and len(lacking) < len(targets):
        return whole.only([target.name for target in targets if target.name not in lacking])
    if lacking and absent != "keep":
        raise DataError(
            f"no molecule in {', '.join(map(str, given))} has a value of {', '.join(lacking)}; check the names of "
            f"columns, data fields or info keys: the files have {', '.join(sorted(names)):.500}"
        )
    return whole


def _check_in_qm9(targets: Sequence[Target]) -> None:
    """Refuse targets that QM9 does not have, or has with another kind or unit."""
    for target in targets:
        known = TARGETS.get(target.name)
        if known is None:
            raise ConfigError(f"QM9 has no {target.name!r}; its targets are {', '.join(TARGETS)}")
        if target != known:
            raise ConfigError(
                f"target {target.name!r} is given as {target.kind} {target.unit}, but QM9's is {known.kind} "
                f"{known.unit}: give the name alone, as in [homo, lumo]"
            )


def is_qm9(path: Path) -> bool:
    """Whether a path is in one of the formats that ``read_qm9`` reads.

    >>> is_qm9(Path("gdb9.sdf")), is_qm9(Path("mine.sdf"))
    (True, False)
    """
    if not is_file(path) and len(path.name) < 256 and path.is_dir():
        return sdf_of(path) is not None or any(path.glob("dsgdb9nsd_*.xyz"))
    return path.suffix == ".npz" or path.name == "gdb9.sdf" or path.name.startswith("dsgdb9nsd")


def numeric_names(path: Path) -> list[str]:
    """Columns of a table, or data fields of an SDF file, that hold numbers (at least half of their values).

    Args:
        path: The file.

    Returns:
        Their names, without ids and SMILES; an empty list for other files.
    """
    if is_table(path):
        rows: Sequence[Mapping[str, Any]] = read_table(path)[1]
    elif is_sdf(path):
        rows = [one.fields for one in read_sdf_records(path)]
    else:
        return []
    names = dict.fromkeys(name for row in rows for name in row if name and name not in (*_IDS, *SMILES_COLUMNS))
    return [name for name in names if _mostly_numbers([row.get(name) for row in rows])]


def _mostly_numbers(texts: Sequence[Any]) -> bool:
    """Whether there are values, and at least half of them are numbers."""
    given = [str(text).strip() for text in texts if text is not None and str(text).strip() not in MISSING]
    return bool(given) and 2 * sum(map(_is_number, given)) >= len(given)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_set(
    path: Path, found: Sequence[FileMolecule], targets: tuple[Target, ...], problems: list[str], advice: str | None
) -> LabeledSet:
    """Molecules of one file with their values; if advice is None, problems are listed and not raised.

    Raises:
        DataError: Some molecules cannot be used; the message names all problems of the file.
    """
    with_advice = bool(problems)
    values: dict[str, FloatArray] = {}
    for target in targets:
        column = []
        for one in found:
            try:
                column.append(value_of(one.source, target, one.where, one.atoms))
            except DataError as error:
                problems.append(str(error))
                column.append(np.full((len(one.atoms) if target.per_atom else 1, *target.shape), np.nan))
        values[target.name] = np.concatenate([np.zeros((0, *target.shape)), *column])
    if problems and advice is not None:
        shown = listed(problems, _SHOWN)
        count = f"{len(problems)} molecules of {path} cannot be used: " if len(problems) > 1 else ""
        which = "them" if count else "it"
        end = f"; correct or delete {which}" + (f", {advice}" if advice else "")
        raise DataError(f"{count}{shown}{end if with_advice or count else ''}")
    ids = [_id_of(one.source) or f"{path.name}:{one.place}" for one in found]
    twice = _repeated_ids(path, found) if is_table(path) else ""
    if twice and advice is not None:
        raise DataError(twice)
    problems += [twice] if twice else []
    places = [f"{one.where} ({name})" if (name := _id_of(one.source)) else one.where for one in found]
    smiles = given_smiles([one.source for one in found])
    return LabeledSet([one.atoms for one in found], targets, values, ids, smiles, places)


def _repeated_ids(path: Path, found: Sequence[FileMolecule]) -> str:
    """A message about ids that several rows share, or ""; splits and their hashes need unique ids."""
    rows: dict[str, list[int]] = {}
    for one in found:
        if _id_of(one.source):
            rows.setdefault(_id_of(one.source), []).append(one.place)
    twice = [f"{name!r} in rows {', '.join(map(str, places))}" for name, places in rows.items() if len(places) > 1]
    return f"{path} has ids that occur twice: {listed(twice, _SHOWN)}; give every row a different id" if twice else ""


def _id_of(source: Mapping[str, Any]) -> str:
    """The name of a molecule in its file, or ""; the number 0 is a name."""
    return next((str(source[key]) for key in _IDS if source.get(key) not in (None, "")), "")
