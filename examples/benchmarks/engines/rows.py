"""The table of measurements with simulation engines, results/engines.json."""

import json
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent / "results" / "engines.json"
COLUMNS = (
    "engine", "system", "ranks", "dtype", "atoms", "energy_error_eV", "force_error_eV_per_A", "pressure_error_GPa",
    "ms_per_step", "ase_ms_per_step", "share_not_model", "machine", "commit",
)  # fmt: skip


def replace_rows(engine: str, rows: Sequence[dict[str, Any]], table: Path = TABLE) -> None:
    """Write the rows of an engine in place of its earlier ones; the rows of other engines stay.

    Args:
        engine: Name of the engine.
        rows: Values by ``COLUMNS``; absent ones are null. Engine, machine and commit are added.
        table: The file.

    Raises:
        KeyError: A row has a column that the table lacks.
    """
    unknown = {name for row in rows for name in row} - set(COLUMNS)
    if unknown:
        raise KeyError(f"the table has no columns {sorted(unknown)}; it has {', '.join(COLUMNS)}")
    facts = {"engine": engine, "machine": machine(), "commit": commit()}
    new = [{name: (row | facts).get(name) for name in COLUMNS} for row in rows]
    kept = [row for row in json.loads(table.read_text()) if row["engine"] != engine] if table.exists() else []
    table.write_text(json.dumps(sorted(kept + new, key=lambda row: row["engine"]), indent=1) + "\n")


def machine() -> str:
    """The processor and its number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {max(len(names), 1)} cores"


def commit() -> str:
    """The commit of this checkout."""
    words = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
