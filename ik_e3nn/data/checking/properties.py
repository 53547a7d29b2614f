"""Look at a table of molecules and properties before training on it: ``ik-e3nn data check mine.csv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ik_e3nn.data.checking.property_report import PropertyCheckReport, PropertySummary
from ik_e3nn.data.checking.property_values import FloatArray, column_doubts, mixed_units, spread_of, total_energy_unit
from ik_e3nn.data.files.reading import expand_path
from ik_e3nn.data.files.sdf import is_sdf
from ik_e3nn.data.files.smiles_table import is_table
from ik_e3nn.data.labels.labeled_set import LabeledSet, known_rows
from ik_e3nn.data.labels.outliers import Outlier
from ik_e3nn.data.labels.placeholders import property_placeholders, without_placeholders
from ik_e3nn.data.properties.qm9 import TARGETS
from ik_e3nn.data.properties.reading import is_qm9, numeric_names, read_properties
from ik_e3nn.data.structures.same_molecules import same_molecules
from ik_e3nn.errors import DataError
from ik_e3nn.targets import Intensive, Target
from ik_e3nn.user_path import user_path


def is_property_data(data: str | Sequence[str]) -> bool:
    """Whether data are tables of properties: csv, QM9, or SDF with numbers in its data fields."""
    given = [data] if isinstance(data, str) else list(data)
    places = [user_path(one) for one in given]
    if any(is_qm9(place) or is_table(place) for place in places):
        return True
    files = [file for place in places for file in expand_path(place)]
    return any(is_table(file) for file in files) or (
        all(is_sdf(file) for file in files) and bool(numeric_names(files[0]))
    )


def check_properties(data: str | Sequence[str], targets: Sequence[str] | None, files: list[str]) -> PropertyCheckReport:
    """Everything that is found out about molecules and their properties.

    Args:
        data: Files, as of ``read_properties``.
        targets: Names of the properties; all columns of numbers by default.
        files: Files that the report will be written to.

    Returns:
        The report.

    Raises:
        DataError: There is nothing to look at.
    """
    faults: list[str] = []
    wanted = _targets(data, targets)
    given = data if isinstance(data, str) else list(data)
    molecules = read_properties(given, wanted, progress=True, drop_absent=not targets, faults=faults)
    smiles = molecules.smiles or [""] * len(molecules)
    duplicates = same_molecules(molecules.structures, smiles)
    stand_ins = property_placeholders(molecules)
    molecules = without_placeholders(molecules)
    columns = {target.name: _column(molecules, target) for target in molecules.targets}
    scalars = {name: values for name, values in columns.items() if not _target(molecules, name).shape}
    summaries, outliers, doubts = [], [], []
    for name, values in columns.items():
        spread = spread_of(values, molecules.structures)
        found = [Outlier(k, name, float(values[k]), float(spread.scores[k])) for k in spread.outliers]
        outliers += found
        known = values[np.isfinite(values)]
        summaries.append(
            PropertySummary(
                name, len(known), len(values) - len(known), *_quantiles(known), spread.deviation, spread.is_sum
            )
        )
        unit = mixed_units(values, spread)
        if unit:
            doubts.append(f"{name}: {len(found)} outliers, and {unit}: two units in one column")
    notes = [
        f"{name} has values like all-electron total energies in {unit}"
        for name, values in scalars.items()
        if (unit := total_energy_unit(values, molecules.structures))
    ]
    return PropertyCheckReport(
        molecules=len(molecules),
        species=dict(Counter(s for atoms in molecules.structures for s in atoms.symbols).most_common()),
        sizes=[len(atoms) for atoms in molecules.structures],
        summaries=summaries,
        outliers=outliers,
        duplicates=duplicates,
        names=molecules.names,
        faults=faults,
        doubts=[*stand_ins, *doubts, *column_doubts(scalars), *_contradictions(duplicates, molecules)],
        notes=notes,
        values=columns,
        files=files,
    )


def _targets(data: str | Sequence[str], names: Sequence[str] | None) -> list[Target]:
    """The properties to look at: those named, those of QM9, or all columns of numbers of all files."""
    places = [user_path(one) for one in ([data] if isinstance(data, str) else data)]
    if all(is_qm9(place) for place in places):
        return [TARGETS[name] for name in names or TARGETS if _known(name)]
    if not names:
        files = [file for place in places if not is_qm9(place) for file in expand_path(place)]
        names = list(dict.fromkeys(name for file in files for name in numeric_names(file)))
    if not names:
        raise DataError(f"no column of {', '.join(map(str, places))} has numbers; name those to look at with --targets")
    return [Intensive(name) for name in names]


def _known(name: str) -> bool:
    """Whether QM9 has a target."""
    if name not in TARGETS:
        raise DataError(f"QM9 has no {name!r}; its targets are {', '.join(TARGETS)}")
    return True


def _target(molecules: LabeledSet, name: str) -> Target:
    return next(target for target in molecules.targets if target.name == name)


def _column(molecules: LabeledSet, target: Target) -> FloatArray:
    """One number a molecule: the value, or the length of a vector or a tensor; NaN where missing."""
    values = molecules.values[target.name]
    if not target.shape:
        return values
    lengths = np.linalg.norm(values.reshape(len(values), -1), axis=1)
    return np.where(known_rows(values), lengths, np.nan)


def _quantiles(known: FloatArray) -> tuple[float, float, float]:
    """Least, median and largest value."""
    return tuple(map(float, np.quantile(known, [0.0, 0.5, 1.0]))) if len(known) else (np.nan,) * 3  # type: ignore[return-value]


def _contradictions(duplicates: Sequence[Sequence[int]], molecules: LabeledSet) -> list[str]:
    """Sentences about molecules that occur twice with values that differ by more than a robust deviation."""
    sentences = []
    for target in molecules.targets:
        values = _column(molecules, target)
        size = spread_of(values, molecules.structures).deviation
        wrong = []
        for group in duplicates:
            known = values[list(group)][np.isfinite(values[list(group)])]
            if len(known) > 1 and np.ptp(known) > max(size, 1e-9):
                wrong.append(group)
        if wrong:
            first = " and ".join(molecules.names[k] for k in wrong[0][:2])
            sentences.append(
                f"{len(wrong)} molecules that occur several times have values of {target.name} that are far apart, "
                f"first {first}"
            )
    return sentences
