"""What a check has found, as text and as JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ik_e3nn.data.labels.energy_reference import EnergyReference
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.outliers import Outlier
from ik_e3nn.data.structures.geometry import CLOSE_RATIO, Contact

_SHOWN = 8


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds and what is odd about it.

    Args:
        data: The structures with their labels.
        species: Number of atoms of each element.
        periodicity: Number of structures by pbc, as in "TTT".
        config_types: Number of structures by ``config_type``.
        reference: E0, or None without energies.
        residuals: Energy relative to E0 per atom, (n,), in eV; NaN where missing.
        force_rms: RMS of the force components in eV/A.
        largest_forces: Largest force of each structure, (n,), in eV/A; NaN where missing.
        outliers: Structures with unusual labels.
        duplicates: Groups of equal structures.
        contacts: Shortest distance of each pair of species.
        broken: What is wrong with structures that cannot be used, by number.
        notes: Further sentences.
        files: Files written.
        doubts: What is probably not meant: units that do not fit, labels that are not read.

    Example:
        >>> from ase import Atoms
        >>> none = np.zeros(0)
        >>> report = CheckReport(
        ...     LabeledSet.of_labels([Atoms("H")]), {"H": 1}, {}, {}, None, none, 0.0, none, [], [], [], {}, [], []
        ... )
        >>> report.text().splitlines()[0]
        '1 structures of 1 to 1 atoms (mean 1.0): H 1'
    """

    data: LabeledSet
    species: dict[str, int]
    periodicity: dict[str, int]
    config_types: dict[str, int]
    reference: EnergyReference | None
    residuals: NDArray[np.float64]
    force_rms: float
    largest_forces: NDArray[np.float64]
    outliers: list[Outlier]
    duplicates: list[list[int]]
    contacts: list[Contact]
    broken: dict[int, str]
    notes: list[str]
    files: list[str]
    doubts: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found that a training should not see."""
        close = any(contact.ratio < CLOSE_RATIO for contact in self.contacts)
        labeled = self.data.known("energy").any() or self.data.known("forces").any()
        return bool(labeled) and not (self.outliers or self.duplicates or self.broken or close or self.doubts)

    def text(self) -> str:
        """The report for people.

        Returns:
            Several lines.
        """
        count, sizes = len(self.data), self.data.sizes
        atoms = f"{sizes.min()} to {sizes.max()} atoms (mean {sizes.mean():.1f})"
        lines = [f"{count} structures of {atoms}: {counts_text(self.species)}"]
        lines.append(f"periodicity: {counts_text(self.periodicity)}; config_type: {counts_text(self.config_types)}")
        lines.append(self.data.text())
        lines.extend(self._label_lines())
        lines.extend(self._problem_lines())
        lines.extend(self.doubts)
        lines.extend(self.notes)
        lines.append("nothing suspicious" if self.is_clean else "please look at what is named above")
        if self.files:
            lines.append(f"written: {', '.join(self.files)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report for programs; NaN is null.

        Returns:
            A dictionary for JSON.
        """
        values: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("data", "residuals", "largest_forces", "files")
        }
        values["is_clean"] = self.is_clean
        values["energy_per_atom_relative_to_E0_eV"] = _statistics(self.residuals)
        values["largest_force_eV_per_A"] = _statistics(self.largest_forces)
        values["counts"] = {"structures": len(self.data), **self.data.counts(), "sources": dict(self.data.sources)}
        values["notes"] = [*self.data.notes, *self.notes]
        if self.reference is not None:
            values["reference"] = dataclasses.asdict(self.reference) | {"values": _by_symbol(self.reference.values)}
        values["outliers"] = [dataclasses.asdict(one) for one in self.outliers]
        values["contacts"] = [dataclasses.asdict(one) for one in self.contacts]
        values["broken"] = {str(number): problem for number, problem in self.broken.items()}
        return without_nan(values)

    def _label_lines(self) -> list[str]:
        """E0, energies and forces."""
        lines = []
        if self.reference is not None:
            values = {symbol: f"{value:.4f}" for symbol, value in _by_symbol(self.reference.values).items()}
            lines.append(f"E0 (eV): {counts_text(values)}; from {self.reference.source}")
        rest = self.residuals[np.isfinite(self.residuals)]
        if len(rest):
            spread = f"standard deviation {rest.std():.4f}, from {rest.min():.4f} to {rest.max():.4f}"
            lines.append(f"energy per atom relative to E0 (eV): mean {rest.mean():.4f}, {spread}")
        if np.isfinite(self.largest_forces).any():
            lines.append(f"forces (eV/A): RMS {self.force_rms:.4f}, largest {np.nanmax(self.largest_forces):.3f}")
        return lines

    def _problem_lines(self) -> list[str]:
        """Broken structures, outliers, duplicates and contacts."""
        lines = [
            f"structure {number} cannot be used: {problem}" for number, problem in list(self.broken.items())[:_SHOWN]
        ]
        for what in dict.fromkeys(one.what for one in self.outliers):
            group = [one for one in self.outliers if one.what == what]
            listing = ", ".join(f"structure {one.structure}: {one.value:.4g}" for one in group[:_SHOWN])
            lines.append(f"{len(group)} outliers in the {what}: {listing}{more_text(group)}")
        if self.duplicates:
            listing = ", ".join("=".join(map(str, group[:4])) for group in self.duplicates[:_SHOWN])
            lines.append(f"{len(self.duplicates)} groups of equal structures: {listing}{more_text(self.duplicates)}")
        listing = ", ".join(
            f"{one.pair} {one.distance:.2f} A in structure {one.structure}"
            + (" (TOO CLOSE)" if one.ratio < CLOSE_RATIO else "")
            for one in self.contacts[:_SHOWN]
        )
        if listing:
            lines.append(f"closest contacts: {listing}{more_text(self.contacts)}")
        return lines


def counts_text(values: Mapping[str, object]) -> str:
    """Names with counts or values, not too many."""
    shown = ", ".join(f"{name} {value}" for name, value in list(values.items())[:12])
    return shown + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def more_text(items: list[Any]) -> str:
    """How many items are not shown."""
    return f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""


def _by_symbol(values: dict[int, float]) -> dict[str, float]:
    """E0 by symbol instead of number."""
    return {chemical_symbols[number]: value for number, value in values.items()}


def _statistics(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Mean, standard deviation and range of the finite values; None without any."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return dict.fromkeys(("mean", "std", "min", "max"))
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "min": float(finite.min()),
        "max": float(finite.max()),
    }


def without_nan(value: Any) -> Any:
    """Nested values with NaN and infinity as None, which JSON can hold."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
