"""The table of a run: one CSV row for each logged step."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.atomic import naming
from ik_e3nn_calculators.frames import cut_file


class CsvLog:
    """A CSV file that is appended to row by row and is complete on disk after each.

    Args:
        path: The file; the header is written with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, float | int]) -> None:
        """Write one row; the first one fixes the columns.

        Args:
            row: Values by column name.
        """
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        with naming(self.path), self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(row)
            writer.writerow([value if isinstance(value, int) else f"{value:.9f}" for value in row.values()])

    def mark(self) -> int:
        """Number of bytes, to come back to."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, mark: int) -> None:
        """Drop everything after a mark."""
        cut_file(self.path, mark)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The whole table, one array for each column.

        Returns:
            Arrays by column name; empty if nothing was logged.
        """
        if self.mark() == 0:
            return {}
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
