"""JSON, Markdown page and plot of the benchmark with a full budget."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from full_budget.sets import SETS
from ik_e3nn.pictures import picture

Row = dict[str, Any]
ERRORS = (
    "force_rmse_meV_per_A",
    "force_mae_meV_per_A",
    "energy_rmse_meV_per_atom",
    "energy_mae_meV_per_atom",
)

_INTRODUCTION = """# Errors after hours of training

Made by `full_budget.py`; all figures are in `results/{name}.json`. Every model was trained on one core with the
defaults of `ik-e3nn train`, a cutoff of 5 A and compiled steps, for the time in the table (of the processor, without
compilation). Learning rate and loss follow the time, so that every row is a training of its own, not a point of a
longer one. Published errors are for the same training frames; their authors trained on GPUs.

Errors are those of the test frames: of force components in meV/A, and of energies in meV for a whole molecule, or
meV/atom for sets of different structures.

![error against time](results/{name}.png)"""


def add(row: Row, output: Path) -> None:
    """Add a row to the JSON file, in place of an earlier one for the same training, and write the page and the plot.

    Args:
        row: Result of a training.
        output: The JSON file; the page is in the folder above it, the plot beside it.
    """
    rows: list[Row] = json.loads(output.read_text()) if output.exists() else []
    rows = [old for old in rows if _key(old) != _key(row)] + [row]
    rows.sort(key=_key)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    parts = [_INTRODUCTION.format(name=output.stem)]
    for name in dict.fromkeys(row["set"] for row in rows):
        title = SETS[name].title
        parts += [
            f"## {title[0].upper()}{title[1:]}",
            f"{SETS[name].split}.",
            _table([r for r in rows if r["set"] == name]),
        ]
    (output.parent.parent / f"{output.stem}.md").write_text("\n\n".join(parts) + "\n")
    plot(rows, output.with_suffix(".png"))


def _key(row: Row) -> tuple[int, str, int, float]:
    """What tells trainings apart, in the order of the page."""
    return list(SETS).index(row["set"]), row["preset"], row["seed"], round(row["core_hours"], 1)


def _table(rows: Sequence[Row]) -> str:
    """The rows of one set, and published errors, of the kind that is published."""
    chosen = SETS[rows[0]["set"]]
    unit, atoms = ("meV/atom", 1) if chosen.atoms is None else ("meV", chosen.atoms)
    names = ["model", "core-hours"]
    names += [f"F {kind} (meV/A)" for kind in ("RMSE", "MAE")] + [f"E {kind} ({unit})" for kind in ("RMSE", "MAE")]
    lines = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    for row in rows:
        errors = [row[name] * (atoms if name.startswith("energy") else 1) for name in ERRORS]
        cells = [f"ours, {row['preset']}, seed {row['seed']}", f"{row['core_hours']:.2f}"]
        lines.append("| " + " | ".join([*cells, *(f"{error:.3g}" for error in errors)]) + " |")
    for one in chosen.published:
        places = [0, 2] if chosen.kind == "rmse" else [1, 3]
        cells = ["", "", "", ""]
        cells[places[0]], cells[places[1]] = f"{one.force:g}", f"{one.energy:g}"
        lines.append(f"| {one.model} (published) | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Validation error of forces against time, one panel for each set, with the published errors on test frames."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    with picture(path, 1, len(names), height=2.8) as (figure, [panels]):
        for axes, name in zip(panels, names, strict=True):
            kind, published = SETS[name].kind, SETS[name].published
            key = f"force_{kind}_meV_per_A"
            for row in (row for row in rows if row["set"] == name):
                curve = [point for point in row["curve"] if point["core_hours"] > 0]
                color = {"small": "C0", "medium": "C1", "large": "C2"}[row["preset"]]
                label = f"ours, {row['preset']}"
                axes.loglog(
                    [point["core_hours"] for point in curve], [point[key] for point in curve], color=color, label=label
                )
                axes.loglog(row["core_hours"], row[key], "o", color=color)
            for number, one in enumerate(published[:2]):
                axes.axhline(one.force, color="0.3", linestyle=("--", ":")[number], label=f"{one.model}, published")
            axes.set(
                title=name, xlabel="core-hours", ylabel=f"force {kind.upper()}, meV/A" if axes is panels[0] else ""
            )
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
