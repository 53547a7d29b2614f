"""JSON and Markdown page of the measurements on a GPU."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HEADER = (
    "model", "parameters", "model alone, ms", "step, ms", "atoms x steps/s", "largest system, atoms",
    "training, edges/s",
)  # fmt: skip


def write(rows: Sequence[dict[str, Any]], machine: dict[str, str], output: Path) -> None:
    """Write the results, and the page into the folder above them."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    lines = [
        "# Speed on a GPU",
        "",
        f"Made by `gpu_speed.py` on {machine['device']}, torch {machine['torch']}. NVE dynamics of "
        f"{rows[0].get('atoms', 0):,} atoms of silicon through ASE, float32: medians of single steps, each until the "
        "device has finished. The largest system is the largest of a series of crystals.",
        "",
        "| " + " | ".join(_HEADER) + " |",
        "|---" + "|---:" * (len(_HEADER) - 1) + "|",
        *(_line(row) for row in rows),
    ]
    (output.parent.parent / f"{output.stem}.md").write_text("\n".join(lines) + "\n")


def _line(row: dict[str, Any]) -> str:
    """A row of the table; a failed measurement has its error."""
    name = f"{row['model']}, {row['form']}"
    if "error" in row:
        return f"| {name} | {row['error']} |" + " |" * (len(_HEADER) - 2)
    speed = row["atoms"] / row["step_s"]
    cells = [
        f"{row['parameters']:,}", f"{1e3 * row['model_s']:.2f}", f"{1e3 * row['step_s']:.2f}", f"{speed:,.0f}",
        f"{row['largest']['atoms']:,}", _training(row.get("training")),
    ]  # fmt: skip
    return f"| {name} | " + " | ".join(cells) + " |"


def _training(found: dict[str, Any] | None) -> str:
    """Edges a second, the error, or nothing."""
    if found is None:
        return ""
    return str(found["error"]) if "error" in found else f"{found['train_edges_per_s']:,.0f}"
