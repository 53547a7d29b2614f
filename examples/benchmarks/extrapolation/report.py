"""JSON, Markdown page and plot of the benchmark of extrapolation."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from extrapolation.molecules import MOLECULES, TEST_KELVIN
from ik_e3nn.pictures import picture

Row = dict[str, Any]

_INTRODUCTION = """# How potentials extrapolate

Made by `extrapolation.py`; all figures are in `results/{name}.json`. Every model was trained for {minutes:g} minutes of
processor time of one core (without the time of NequIP's processes that load data), on 450 frames of Langevin dynamics
at 300 K of one molecule, with 50 more for validation. It is tested on later frames of the same run, on frames at 600
and 1,000 K, and on rigid scans from the minimum: dihedrals turned by up to 360 degrees, and bonds stretched to 1.5
times their length. Labels are those of GFN2-xTB.

Errors of forces are root mean squares in meV/A. Errors of energies are in meV for a whole molecule: root mean squares
for frames, and for scans the mean and the largest of all points up to 3 eV, relative to the minimum. Every figure is
the mean over the seeds, with the smallest and the largest in brackets; the mean over the molecules is that of the seeds
that have results for all of them."""


def add(new: Sequence[Row], output: Path) -> None:
    """Add results to the JSON file, in place of earlier ones of the same trainings, and write the page and the plot.

    Args:
        new: The results.
        output: The JSON file; the page is in the folder above it, the plot beside it.
    """
    old: list[Row] = json.loads(output.read_text()) if output.exists() else []
    rows = sorted({_key(row): row for row in [*old, *new]}.values(), key=_key)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    parts, molecules = [_INTRODUCTION.format(name=output.stem, minutes=rows[0]["minutes"])], _molecules(rows)
    if means(rows, molecules):
        parts.append(f"![errors of forces and energies](results/{output.stem}.png)")
        parts += ["## Mean over the molecules", _table(rows, molecules)]
        plot(rows, output.with_suffix(".png"))
    for molecule in molecules:
        parts += [f"## {MOLECULES[molecule].title[0].upper()}{MOLECULES[molecule].title[1:]}", _table(rows, [molecule])]
    output.parent.parent.joinpath(f"{output.stem}.md").write_text("\n\n".join(parts) + "\n")


def _molecules(rows: Sequence[Row]) -> list[str]:
    """The molecules of some results, in the order of the page."""
    return list(dict.fromkeys(row["molecule"] for row in rows))


def _key(row: Row) -> tuple[int, str, int]:
    """What tells trainings apart, in the order of the page."""
    return list(MOLECULES).index(row["molecule"]), row["model"], row["seed"]


def summary(errors: dict[str, dict[str, float]]) -> dict[str, float]:
    """Errors of one training, with all scans of a kind taken together."""
    found = {}
    for kelvin in TEST_KELVIN:
        row = errors[f"{kelvin} K"]
        found[f"F {kelvin} K"], found[f"E {kelvin} K"] = row["force_rmse_meV_per_A"], row["energy_rmse_meV"]
    for kind in ("turn", "stretch"):
        scans = [row for name, row in errors.items() if name.startswith(kind)]
        found[f"{kind}, mean"] = statistics.mean(row["energy_mae_meV"] for row in scans)
        found[f"{kind}, largest"] = max(row["energy_largest_meV"] for row in scans)
    return found


def means(rows: Sequence[Row], molecules: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """For every model, the summaries of its seeds that have results for all molecules, averaged over these."""
    found: dict[str, list[dict[str, float]]] = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        for seed in sorted({row["seed"] for row in rows}):
            of = [
                summary(row["errors"])
                for row in rows
                if (row["model"], row["seed"]) == (model, seed) and row["molecule"] in molecules
            ]
            if len(of) == len(molecules):
                mean = {key: statistics.mean(one[key] for one in of) for key in of[0]}
                found.setdefault(model, []).append(mean)
    return found


def _table(rows: Sequence[Row], molecules: Sequence[str]) -> str:
    found = means(rows, molecules)
    columns = list(next(iter(found.values()))[0])
    lines = ["| model | seeds | " + " | ".join(columns) + " |", "|---|---:|" + "---:|" * len(columns)]
    for model, seeds in found.items():
        cells = []
        for column in columns:
            values = [one[column] for one in seeds]
            cells.append("{} ({} to {})".format(*map(_digits, (statistics.mean(values), min(values), max(values)))))
        lines.append(f"| {model} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Errors of every model relative to the lowest mean, one panel for forces, energies and scans."""
    found = means(rows, _molecules(rows))
    columns = list(next(iter(found.values()))[0])
    groups = ([c for c in columns if c[0] == "F"], [c for c in columns if c[0] == "E"], columns[6:])
    titles = ("forces, meV/A", "energies, meV", "energies of scans, meV")
    with picture(path, 1, 3, height=3.0, width_ratios=[3, 3, 4]) as (figure, [panels]):
        for axes, names, title in zip(panels, groups, titles, strict=True):
            for number, (model, seeds) in enumerate(found.items()):
                places = np.arange(len(names)) + (number - (len(found) - 1) / 2) * 0.18
                values = np.array([[one[name] for name in names] for one in seeds])
                middle = values.mean(0)
                spread = [middle - values.min(0), values.max(0) - middle]
                axes.errorbar(places, middle, spread, fmt="o", capsize=2, color=f"C{number}", label=model)
            axes.set_xticks(
                range(len(names)), [n.removeprefix("F ").removeprefix("E ").replace(", ", "\n") for n in names]
            )
            axes.set(yscale="log", title=title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(found))
