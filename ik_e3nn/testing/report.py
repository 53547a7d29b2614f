"""The results of a check of a potential."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PropertyResult:
    """One property of a potential, measured.

    Attributes:
        name: Name of the property.
        value: The largest violation found.
        tolerance: The largest violation allowed.
        unit: Unit of both.
        worst: The structure with this violation, by its number in the list and its formula; empty if there is none.

    Example:
        >>> PropertyResult("forces by finite differences", 3e-8, 1e-6, "eV/A").passed
        True
    """

    name: str
    value: float
    tolerance: float
    unit: str
    worst: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance; NaN is not."""
        return self.value <= self.tolerance


@dataclass(frozen=True)
class PotentialReport:
    """All measured properties of one potential.

    Attributes:
        rows: One result for each property.

    Example:
        >>> report = PotentialReport((PropertyResult("batch: energy", 0.1, 1e-9, "eV/atom", "#0 H2O"),))
        >>> report.passed, report["batch: energy"].value
        (False, 0.1)
        >>> "FAILED" in str(report)
        True
    """

    rows: tuple[PropertyResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every property is within its tolerance, and there is at least one."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def failures(self) -> tuple[PropertyResult, ...]:
        """The properties that are not within their tolerances."""
        return tuple(row for row in self.rows if not row.passed)

    def __getitem__(self, name: str) -> PropertyResult:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no property {name!r} was measured; there are {[row.name for row in self.rows]}")

    def __str__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=0)
        lines = [
            f"{row.name:{width}}  {row.value:9.2e}  (allowed {row.tolerance:.1e})  {row.unit:8}  "
            f"{'passed' if row.passed else 'FAILED'}  {row.worst}".rstrip()
            for row in self.rows
        ]
        return "\n".join(lines)
