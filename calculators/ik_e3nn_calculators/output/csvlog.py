"""The table of a run: one CSV row for each logged step."""

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.atomic import naming
from ik_e3nn.errors import DataError
from ik_e3nn_calculators.output.frames import cut_file
from ik_e3nn_calculators.output.kept import Kept


class CsvLog:
    """A CSV file that grows row by row and is complete on disk after each row.

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
        """The length of the file in bytes, for ``cut``."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, mark: int) -> Kept:
        """Drop everything after a mark, and an incomplete last row.

        Raises:
            DataError: A remaining row cannot be read.
        """
        cut_file(self.path, mark)
        if self.path.exists():
            cut_file(self.path, self.path.read_bytes().rfind(b"\n") + 1)
        steps = self.columns().get("step", np.zeros(0)).tolist()
        first, last = (int(steps[0]), int(steps[-1])) if steps else (None, None)
        return Kept(first, last, whole=self.mark() == mark)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The whole table, one array for each column.

        Returns:
            Arrays by column name; empty if nothing was logged.

        Raises:
            DataError: A row is damaged; the message names its line, where the header is line 1.
        """
        if self.mark() == 0:
            return {}
        header, *lines = self.path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n")
        names = header.split(",")
        rows = [self._numbers(line, names, number) for number, line in enumerate(lines, 2)]
        return dict(zip(names, np.array(rows).T, strict=True)) if rows else {}

    def check_columns(self, names: Collection[str]) -> None:
        """Check that existing rows have the expected columns.

        Raises:
            DataError: The columns differ, so the header is damaged.
        """
        found = list(self.columns())
        if found and found != list(names):
            raise self._damaged(1, f"the columns are {', '.join(found)}, expected {', '.join(names)}")

    def _numbers(self, line: str, names: Sequence[str], number: int) -> list[float]:
        values = line.split(",")
        if len(values) != len(names):
            raise self._damaged(number, f"it has {len(values)} values for {len(names)} columns")
        try:
            return [float(value) for value in values]
        except ValueError as error:
            raise self._damaged(number, str(error)) from error

    def _damaged(self, number: int, what: str) -> DataError:
        return DataError(
            f"{self.path} is damaged in line {number} ({what}): restore a copy, repair that line, or move the file "
            "away to do without its rows"
        )
