"""The report of a check, as text and as JSON."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from ik_e3nn.data.labels.energy_reference import EnergyReference
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.outliers import Column
from ik_e3nn.data.structures.geometry import CLOSE_RATIO, Contact
from ik_e3nn.targets import mechanics_of

_SHOWN, _FAULTS = 8, 20


class Outlier(NamedTuple):
    """A structure with an unusual value.

    Attributes:
        structure: Number of the structure.
        what: Name of the value, with its unit.
        value: The value.
        score: Distance from the other values in robust standard deviations.
    """

    structure: int
    what: str
    value: float
    score: float


@dataclass(frozen=True)
class CheckReport:
    """The contents of a data set, and its problems.

    Args:
        data: The structures with their labels.
        columns: Values compared between structures: one column for each target, and more for forces.
        reference: E0, or None without energies.
        duplicates: Groups of equal structures.
        contacts: Shortest distance of each pair of species.
        faults: Problems of structures and values that cannot be used.
        doubts: Probable mistakes: wrong units, labels that are not read.
        notes: Further remarks.
        files: Files written; none unless an output is given.

    Example:
        >>> from ase import Atoms
        >>> report = CheckReport(LabeledSet.of_labels([Atoms("H")]), [], None, [], [], [], [], [], [])
        >>> report.text().splitlines()[0]
        '1 structures of 1 to 1 atoms (mean 1.0): H 1'
    """

    data: LabeledSet
    columns: list[Column]
    reference: EnergyReference | None
    duplicates: list[list[int]]
    contacts: list[Contact]
    faults: list[str]
    doubts: list[str]
    notes: list[str]
    files: list[str]

    @cached_property
    def species(self) -> dict[str, int]:
        """Number of atoms of each element."""
        return dict(Counter(symbol for atoms in self.data.structures for symbol in atoms.symbols).most_common())

    @cached_property
    def periodicity(self) -> dict[str, int]:
        """Number of structures by pbc, as in "TTT"."""
        return dict(Counter("".join("FT"[int(flag)] for flag in atoms.pbc) for atoms in self.data.structures))

    @cached_property
    def config_types(self) -> dict[str, int]:
        """Number of structures by ``config_type``."""
        return dict(Counter(str(atoms.info.get("config_type", "none")) for atoms in self.data.structures))

    @property
    def outliers(self) -> list[Outlier]:
        """Structures with unusual values, the worst of each column first."""
        return [
            Outlier(number, one.what, float(one.values[number]), float(one.scores[number]))
            for one in self.columns
            for number in one.outliers
        ]

    @property
    def is_usable(self) -> bool:
        """Whether all structures and values can be used; the others are in ``faults``."""
        return not self.faults

    @property
    def is_clean(self) -> bool:
        """Whether labels and no problems were found."""
        close = any(contact.ratio < CLOSE_RATIO for contact in self.contacts)
        labeled = any(self.data.counts().values())
        return labeled and not (self.outliers or self.duplicates or self.faults or close or self.doubts)

    def text(self) -> str:
        """The report as text.

        Returns:
            Lines of text.
        """
        lines = [f"{len(self.data)} structures"]
        if len(self.data):
            sizes = self.data.sizes
            atoms = f"{sizes.min()} to {sizes.max()} atoms (mean {sizes.mean():.1f})"
            lines[0] += f" of {atoms}: {counts_text(self.species)}"
        lines += [one.text() for one in self.columns if np.isfinite(one.values).any()]
        if mechanics_of(self.data.targets):
            kinds = f"periodicity: {counts_text(self.periodicity)}; config_type: {counts_text(self.config_types)}"
            lines += [kinds, self.data.text()]
        if self.reference is not None:
            values = {symbol: f"{value:.4f}" for symbol, value in _by_symbol(self.reference.values).items()}
            lines.append(f"E0 (eV): {counts_text(values)}; from {self.reference.source}")
        lines += [*self._problem_lines(), *self.doubts, *self.notes]
        lines.append("nothing suspicious" if self.is_clean else "please check the problems named above")
        if self.files:
            lines.append(f"written: {', '.join(self.files)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report for JSON; NaN is null, and structures are named by their places in the files.

        Returns:
            A dictionary of plain values.
        """
        data, names, sizes = self.data, self.data.names, self.data.sizes
        reference = None
        if self.reference is not None:
            reference = dataclasses.asdict(self.reference) | {"values": _by_symbol(self.reference.values)}
        return dict(
            without_nan({
                "structures": len(data),
                "species": self.species,
                "sizes": [int(sizes.min()), float(sizes.mean()), int(sizes.max())] if len(data) else [],
                "periodicity": self.periodicity,
                "config_types": self.config_types,
                "counts": data.counts(),
                "sources": dict(data.sources),
                "reference": reference,
                "columns": {one.what: one.statistics for one in self.columns},
                "outliers": [one._asdict() | {"name": names[one.structure]} for one in self.outliers],
                "duplicates": [[names[number] for number in group] for group in self.duplicates],
                "contacts": [dataclasses.asdict(one) for one in self.contacts],
                "faults": self.faults,
                "doubts": self.doubts,
                "notes": [*data.notes, *self.notes],
                "is_clean": self.is_clean,
            })
        )  # fmt: skip

    def _problem_lines(self) -> list[str]:
        """Lines about unusable data, outliers, duplicates and contacts."""
        names = self.data.names
        lines = [f"cannot be used: {fault}" for fault in self.faults[:_FAULTS]]
        if len(self.faults) > _FAULTS:
            every = "all are in the JSON file" if self.files else "-o NAME writes all of them to NAME.json"
            lines.append(f"and {len(self.faults) - _FAULTS} more that cannot be used; {every}")
        for one in self.columns:
            far = [f"{names[number]}: {one.values[number]:.4g}{_off(one.scores[number])}" for number in one.outliers]
            if far:
                lines.append(f"{len(far)} outliers in {one.what}: {', '.join(far[:_SHOWN])}{more_text(far)}")
        if self.duplicates:
            listing = "; ".join(" = ".join(names[number] for number in group[:4]) for group in self.duplicates[:_SHOWN])
            count = len(self.duplicates)
            lines.append(
                f"{count} structures occur several times, by SMILES or geometry: {listing}{more_text(self.duplicates)}"
            )
        listing = ", ".join(
            f"{one.pair} {one.distance:.2f} A in {names[one.structure]}"
            + (" (TOO CLOSE)" if one.ratio < CLOSE_RATIO else "")
            for one in self.contacts[:_SHOWN]
        )
        if listing:
            lines.append(f"closest contacts: {listing}{more_text(self.contacts)}")
        return lines


def counts_text(values: Mapping[str, object]) -> str:
    """Names with counts or values, at most twelve.

    >>> counts_text({"H": 2, "O": 1})
    'H 2, O 1'
    """
    shown = ", ".join(f"{name} {value}" for name, value in list(values.items())[:12])
    return shown + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def more_text(items: Sequence[Any]) -> str:
    """The number of items that are not shown.

    >>> more_text([0] * 10)
    ' and 2 more'
    """
    return f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""


def _off(score: float) -> str:
    """The distance of an outlier from the other values, if it is finite."""
    return f" ({abs(score):.2g} robust standard deviations off)" if np.isfinite(score) else ""


def _by_symbol(values: Mapping[int, float]) -> dict[str, float]:
    """E0 by symbol instead of number."""
    return {chemical_symbols[number]: value for number, value in values.items()}


def without_nan(value: Any) -> Any:
    """Nested values with None in place of NaN and infinity, which JSON cannot hold.

    >>> without_nan({"a": [float("nan"), 1.0]})
    {'a': [None, 1.0]}
    """
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
