"""What a check of molecules and properties has found, as text, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.data.checking.plot import histogram
from ik_e3nn.data.checking.report import counts_text, more_text, without_nan
from ik_e3nn.data.labels.outliers import Outlier
from ik_e3nn.pictures import picture

_SHOWN, _PANELS = 8, 23


@dataclass(frozen=True)
class PropertySummary:
    """The values of one property.

    Args:
        name: Its name.
        known: Number of values.
        missing: Number of molecules without one.
        least: Smallest value.
        median: Median.
        largest: Largest value.
        deviation: Robust standard deviation, without what composition says if that is nearly all.
        is_sum: Whether composition says nearly all.
    """

    name: str
    known: int
    missing: int
    least: float
    median: float
    largest: float
    deviation: float
    is_sum: bool

    def text(self) -> str:
        """One line."""
        kind = " beside a sum over atoms, which says nearly all: its kind may be extensive" if self.is_sum else ""
        gaps = f", {self.missing} missing" if self.missing else ""
        return (
            f"{self.name}: {self.known} values{gaps}; median {self.median:.4g}, from {self.least:.4g} to "
            f"{self.largest:.4g}; robust standard deviation {self.deviation:.3g}{kind}"
        )


@dataclass(frozen=True)
class PropertyCheckReport:
    """What a set of molecules with properties holds and what is odd about it.

    Args:
        molecules: How many can be used.
        species: Number of atoms of each element.
        sizes: Number of atoms of each molecule.
        summaries: The values of each property.
        outliers: Values far from the others.
        duplicates: Groups of equal molecules.
        names: What messages call the molecules.
        faults: What is wrong with molecules and values that cannot be used.
        doubts: What is probably not meant.
        notes: Further sentences.
        values: The values by name, (n,) each; lengths of vectors.
        files: Files written.

    Example:
        >>> PropertyCheckReport(0, {}, [], [], [], [], [], [], [], [], {}, []).text().splitlines()
        ['0 molecules', 'please look at what is named above']
    """

    molecules: int
    species: dict[str, int]
    sizes: list[int]
    summaries: list[PropertySummary]
    outliers: list[Outlier]
    duplicates: list[list[int]]
    names: list[str]
    faults: list[str]
    doubts: list[str]
    notes: list[str]
    values: dict[str, NDArray[np.float64]]
    files: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found that a training should not see."""
        values = any(one.known for one in self.summaries)
        return values and not (self.outliers or self.duplicates or self.faults or self.doubts)

    def text(self) -> str:
        """The report for people."""
        sizes = self.sizes
        lines = [f"{self.molecules} molecules"]
        if sizes:
            lines[0] += (
                f" of {min(sizes)} to {max(sizes)} atoms (mean {np.mean(sizes):.1f}): {counts_text(self.species)}"
            )
        lines += [one.text() for one in self.summaries]
        lines += [f"cannot be used: {fault}" for fault in self.faults[:20]]
        if len(self.faults) > 20:
            lines.append(f"and {len(self.faults) - 20} more that cannot be used; all are in the JSON file")
        for name in dict.fromkeys(one.what for one in self.outliers):
            found = [one for one in self.outliers if one.what == name]
            listed = ", ".join(
                f"{self.names[one.structure]}: {one.value:.4g} ({abs(one.score):.2g} robust standard deviations off)"
                for one in found[:_SHOWN]
            )
            lines.append(f"{len(found)} outliers in {name}: {listed}{more_text(found)}")
        if self.duplicates:
            listed = "; ".join(" = ".join(self.names[k] for k in group[:4]) for group in self.duplicates[:_SHOWN])
            count = len(self.duplicates)
            lines.append(
                f"{count} molecules occur several times, by SMILES or geometry: {listed}{more_text(self.duplicates)}"
            )
        lines += [*self.doubts, *self.notes]
        lines.append("nothing suspicious" if self.is_clean else "please look at what is named above")
        if self.files:
            lines.append(f"written: {', '.join(self.files)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report for programs; NaN is null, and molecules are called by their places."""
        left_out = ("names", "values", "sizes", "files")
        result = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in left_out
        }
        result["is_clean"] = self.is_clean
        result["summaries"] = [dataclasses.asdict(one) for one in self.summaries]
        result["outliers"] = [
            {
                "molecule": self.names[one.structure],
                "number": one.structure,
                "property": one.what,
                "value": one.value,
                "score": one.score,
            }
            for one in self.outliers
        ]
        result["duplicates"] = [[self.names[k] for k in group] for group in self.duplicates]
        return dict(without_nan(result))

    def plot(self, path: Path) -> None:
        """A panel for each property (with outliers at the edges) and one of sizes."""
        names = list(self.values)[:_PANELS]
        columns = min(3, len(names) + 1)
        rows = ceil((len(names) + 1) / columns)
        with picture(path, rows, columns, height=2.2 * rows + 0.3) as (figure, grid):
            figure.suptitle(f"{self.molecules} molecules")
            axes = grid.ravel()
            far = {name: {one.structure for one in self.outliers if one.what == name} for name in names}
            for one, name in zip(axes, names, strict=False):
                kept = _without(self.values[name], far[name])
                hidden = f"value (outliers not shown: {len(far[name])})" if far[name] else "value"
                histogram(one, kept, name, hidden, "molecules")
            sizes = np.asarray(self.sizes, dtype=np.float64)
            histogram(axes[len(names)], sizes, "sizes", "atoms per molecule", "molecules", whole=True)
            for one in axes[len(names) + 1 :]:
                one.set_axis_off()


def _without(values: NDArray[np.float64], numbers: Sequence[int] | set[int]) -> NDArray[np.float64]:
    """The values but for some."""
    return np.delete(values, sorted(numbers))
