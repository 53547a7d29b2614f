"""The table of many runs: a row for each structure, complete on disk after each run that ends."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError
from ik_e3nn_calculators.many.starts import Start

TABLE = "structures.csv"
WAITING = "waiting"
_FIRST, _LAST = ("structure", "folder", "source", "seed", "status"), "message"


class Table:
    """The table of some runs, whose status is at first "waiting".

    Args:
        folder: The folder of all runs.
        starts: The structures.
        columns: Names of the results.
    """

    def __init__(self, folder: Path, starts: Sequence[Start], columns: Sequence[str]) -> None:
        self.path = folder / TABLE
        self._columns = tuple(columns)
        self._rows: list[dict[str, Any]] = [
            {"structure": one.number, "folder": one.name, "source": one.source, "seed": one.seed, "status": WAITING}
            for one in starts
        ]

    @property
    def folders(self) -> list[Path]:
        """The folder of each structure."""
        return [self.path.parent / row["folder"] for row in self._rows]

    def check_same(self, before: Sequence[Mapping[str, str]]) -> None:
        """Refuse to continue other runs than those of an earlier table.

        Raises:
            DataError: A structure is another, or there are more or fewer.
        """
        advice = "give the same structures in the same order, or another output folder"
        if len(before) != len(self._rows):
            raise DataError(
                f"the runs in {self.path.parent} were of {len(before)} structures, and {len(self._rows)} are given; "
                f"{advice}"
            )
        for old, new in zip(before, self._rows, strict=True):
            for name in ("source", "seed", "folder"):
                if old[name] != str(new[name]):
                    raise DataError(
                        f"the runs in {self.path.parent} cannot be continued: the {name} of structure "
                        f"{new['structure']} was {old[name]!r}, and is {str(new[name])!r} now; {advice}"
                    )

    def set(self, number: int, status: str, results: Mapping[str, Any], message: str = "") -> None:
        """Set status, results and message of a structure, and write the table.

        Args:
            number: The structure.
            status: What has become of its run.
            results: Results by column; others are left out, and absent ones are empty.
            message: An error or advice, in one line.
        """
        kept = {name: value for name, value in results.items() if name in self._columns}
        self._rows[number] |= {**kept, "status": status, _LAST: " ".join(message.split())}
        self.write()

    def count(self, *status: str) -> int:
        """Number of structures with one of these statuses."""
        return sum(row["status"] in status for row in self._rows)

    def write(self) -> None:
        """Write the file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, (*_FIRST, *self._columns, _LAST), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        with written_at_once(self.path) as file:
            file.write(text.getvalue().encode())


def read_table(folder: Path) -> list[dict[str, str]]:
    """The rows of an earlier table; none if there is no table.

    Args:
        folder: The folder of all runs.

    Raises:
        DataError: The file is not such a table.
    """
    path = folder / TABLE
    if not path.exists():
        return []
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="replace"))))
    if not rows or not set(_FIRST) <= set(rows[0]):
        raise DataError(f"{path} is not a table of runs; move it away, or choose another output folder")
    return rows
