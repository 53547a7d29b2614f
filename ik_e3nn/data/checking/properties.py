"""Recognize tables of properties, and choose the columns to check."""

from __future__ import annotations

from collections.abc import Sequence

from ik_e3nn.data.files.reading import expand_path
from ik_e3nn.data.files.sdf import is_sdf
from ik_e3nn.data.files.smiles_table import is_table
from ik_e3nn.data.properties.qm9 import TARGETS
from ik_e3nn.data.properties.reading import is_qm9, numeric_names
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


def targets_of(data: str | Sequence[str], names: Sequence[str] | None) -> list[Target]:
    """The properties to check: the named ones, or those of QM9, or all columns of numbers in all files."""
    places = [user_path(one) for one in ([data] if isinstance(data, str) else data)]
    if all(is_qm9(place) for place in places):
        unknown = [name for name in names or () if name not in TARGETS]
        if unknown:
            raise DataError(f"QM9 has no {unknown[0]!r}; its targets are {', '.join(TARGETS)}")
        return [TARGETS[name] for name in names or TARGETS]
    if not names:
        files = [file for place in places if not is_qm9(place) for file in expand_path(place)]
        names = list(dict.fromkeys(name for file in files for name in numeric_names(file)))
    if not names:
        raise DataError(
            f"no column of {', '.join(map(str, places))} has numbers; name the columns to check with --targets"
        )
    return [Intensive(name) for name in names]
