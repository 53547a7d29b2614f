"""JSON, Markdown page and plot of the comparison of groups."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from groups import terms
from ik_e3nn.pictures import picture

Row = dict[str, Any]
TITLES = {
    "steele": "Steele's wall, whose symmetry is Cinfv",
    "fourfold": "A wall with a fourfold term, C4v",
    "chiral": "A wall with a chiral term, SO2",
}
COLUMNS = {
    "force_rmse_meV_per_A": "force (meV/A)", "term_force_rmse_meV_per_A": "term's force",
    "net_force_rmse_meV_per_A": "net force", "energy_rmse_meV_per_atom": "energy (meV/atom)",
    "epochs": "epochs", "parameters": "weights",
}  # fmt: skip

_INTRODUCTION = """# Every group at the price of O(3)

Made by `groups.py`. All models have layers of O(3), which see the group by its invariant tensors, and the same
hyperparameters except the group. Every training had {minutes:g} minutes of processor time of one core, and 200 frames
of eight molecules at random places over a wall, labeled by GFN2-xTB and the wall. Errors are root mean squares on 400
other frames. The net force is the force on a whole molecule, and all of it comes from the wall.

The fourfold and the chiral term turn molecules, with forces of {fourfold:.0f} and {chiral:.0f} meV/A (root mean
squares); their equations are in `groups/terms.py`. The *term's force* is the part of the forces that changes like the
term under turns by 45 degrees or a mirror. A group that contains these elements predicts zero for it, and so does O3,
which does not know of the wall.

In so short a training most of the error of all forces is that of forces within molecules. O3 has nothing else to learn,
so that its error of all forces is the smallest; what a group is worth is seen in the net force and the term's force.

![force errors](results/{stem}.png)"""

_SPEED = """## Time of a training step

Five molecules, energies and forces, eager, float32, one core; medians of the groups measured in turn.

| group | surroundings | ms | ratio to Cinfv | weights |
|---|---|---:|---:|---:|
"""


def write(rows: list[Row], speed: list[Row], output: Path, *, minutes: float) -> None:
    """Write everything; the page goes beside the folder of the results.

    Args:
        rows: Errors of all models.
        speed: Times of training steps by group.
        output: The JSON file.
        minutes: Processor time of a training.
    """
    times = {row["group"]: row["step_ms"] for row in speed}
    rows = [row | {"step_ms": times.get(row["group"])} for row in rows]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows + [{"set": "step"} | row for row in speed], indent=1) + "\n")
    sizes = {
        name: next((row["term_force_rms_meV_per_A"] for row in rows if row["set"] == name), 0) for name in terms.TERMS
    }
    parts = [_INTRODUCTION.format(minutes=minutes, stem=output.stem, **sizes)]
    parts += [f"## {title}\n\n{table([row for row in rows if row['set'] == name])}" for name, title in TITLES.items()]
    lines = [
        f"| {r['group']} | {r['surroundings']} | {r['step_ms']:.1f} | {r['ratio_to_Cinfv']:.2f} | {r['parameters']:,} |"
        for r in speed
    ]
    parts.append(_SPEED + "\n".join(lines))
    page = output.parent.parent / f"{output.stem}.md"
    page.write_text("\n\n".join(parts) + "\n")
    plot(rows, output.with_suffix(".png"))


def table(rows: list[Row]) -> str:
    """A Markdown table of the models of one wall."""
    columns = {key: title for key, title in COLUMNS.items() if any(key in row for row in rows)}
    lines = ["| group | seed | " + " | ".join(columns.values()) + " |", "|---|---:|" + "---:|" * len(columns)]
    for row in rows:
        cells = [f"{row[key]:,}" if isinstance(row[key], int) else f"{row[key]:.1f}" for key in columns]
        lines.append(f"| {row['group']} | {row['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Errors of the forces, and of the term's forces, by wall and group: bars are means, points are seeds."""
    kinds = {"force_rmse_meV_per_A": "all forces", "term_force_rmse_meV_per_A": "forces of the term"}
    with picture(path, 1, len(TITLES), height=2.8) as (figure, [panels]):
        for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
            own = [row for row in rows if row["set"] == name]
            groups = list(dict.fromkeys(row["group"] for row in own))
            shown = {key: label for key, label in kinds.items() if any(key in row for row in own)}
            for offset, key in enumerate(shown):
                for index, group in enumerate(groups):
                    found = [row[key] for row in own if row["group"] == group]
                    place = index + 0.38 * (offset - (len(shown) - 1) / 2)
                    axes.bar(place, np.mean(found), 0.36, color=f"C{offset}")
                    axes.plot([place] * len(found), found, "k.", markersize=3)
            axes.set_xticks(range(len(groups)), groups, rotation=45)
            axes.set(title=title.replace(", ", ",\n"), ylim=(0, None))
        panels[0].set(ylabel="RMSE (meV/A)")
        for number, label in enumerate(kinds.values()):
            panels[0].bar(0, 0, color=f"C{number}", label=label)
        figure.legend(loc="outside lower center", ncols=2)
