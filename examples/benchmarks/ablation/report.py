"""JSON, Markdown page and plot of the ablation."""

import json
from pathlib import Path
from typing import Any

from potentials.sets import SETS

from ik_e3nn.pictures import picture

Row = dict[str, Any]
DATE = "November 2026"  # date of the tables that the last section describes

_INTRODUCTION = """# What each part of the potential is worth

Made by `ablation.py`. Every variant is the default model and training with one change. Every training has the same
cost: that of the default in {minutes:g} minutes on one of two busy cores, eager, float32, {batch} structures per step.

*Cost* is the time of an epoch relative to the default's, measured while both train at once on two cores (1 where only
the loss or the optimizer differs). A variant that costs twice as much trains for half as many epochs. The same wall
time would not compare them, because the speed of the machine varies. Costs are those of this code: parts that are
switched off are still computed, and variants without a setting of their own run in more general, slower layers.

Errors are root mean squares in meV/A and meV/atom. Rows are in the order of the validation error of forces; judge
variants of the weight of energies by both columns. Learning rate, moving average and weights were chosen for the
default. The best {best} variants and the default also train on aspirin and with a second seed; the difference between
the seeds is the noise of all rows."""

_READING = """## What follows

Read off the tables of {date}, by hand. The default's two seeds differ by 1.5 meV/A on the test frames, so rows less
than two apart are level.

- Clearly worse at equal cost: kernels that also see steerable features or that mix all channels (each step costs 2.2
  times as much), Gaussians instead of Bessel functions, and scalar node features.
- Slightly worse: fewer factors, and node features to l = 2.
- Level: all couplings with one weight per path learn as much in three quarters of the epochs, that is more per epoch.
  In so short a training it makes no difference whether the kernel sees the atoms' features. It does not by default
  since then (`kernel_features: initial`): on GFN2-xTB frames of acetylacetone (40 epochs of `small`, three seeds) force
  and energy errors at 600 K were 8 and 9 % lower without, and a step is faster. On 370 small molecules (six minutes of
  `medium`, one seed) forces were 4 % better and energies 30 % worse (13.3 and 10.2 meV/atom).
- Better at no cost: readouts that start at zero, on all three validation sets (by 3.0, 0.7 and 1.6 meV/A) and on two of
  the three test sets. Yet they are no default: on those frames of acetylacetone they made no difference at 600 K
  (47.2 and 48.0 meV/A), and dihedral scans and stretched bonds were off by more (187 and 155, 94 and 76 meV).
- A constant weight of 10 is better on two of three validation sets, by 2.4 and 1.1 meV/A, and worse by 0.5 on the
  third: no default either."""


def write(rows: list[Row], output: Path, page: Path, **numbers: float) -> None:
    """Write everything.

    Args:
        rows: All results.
        output: The JSON file; the plot goes beside it.
        page: The Markdown file.
        numbers: Numbers in the introduction: minutes, batch, best.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    parts = [
        _INTRODUCTION.format(**numbers),
        f"![error and cost of every variant]({output.parent.name}/{output.stem}.png)",
    ]
    for data_set, seed in dict.fromkeys((row["set"], row["seed"]) for row in rows):
        chosen = [row for row in rows if (row["set"], row["seed"]) == (data_set, seed)]
        parts += [f"## {SETS[data_set].title}, seed {seed}", table(chosen)]
    parts.append(_READING.format(date=DATE))
    page.write_text("\n\n".join(parts) + "\n")
    plot([row for row in rows if (row["set"], row["seed"]) == ("acac", 0)], output.with_suffix(".png"))


def table(rows: list[Row]) -> str:
    """A Markdown table, the best first."""
    names = ("variant", "validation, force", "test, force", "test, energy", "cost", "epochs", "parameters")
    lines = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    lines += [
        f"| {row['what']} | {row['valid_force_rmse_meV_per_A']:.1f} | {row['force_rmse_meV_per_A']:.1f} | "
        f"{row['energy_rmse_meV_per_atom']:.2f} | {row['cost']:.2f} | {row['epochs']} | {row['parameters']:,} |"
        for row in sorted(rows, key=lambda row: row["valid_force_rmse_meV_per_A"])
    ]
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot the force error of every variant, relative to the default with the same set and seed, and its cost."""
    default = {(row["set"], row["seed"]): row["force_rmse_meV_per_A"] for row in rows if row["variant"] == "default"}
    groups = list(default)
    ratios: dict[str, list[float]] = {}
    for row in rows:
        ratio = row["force_rmse_meV_per_A"] / default[row["set"], row["seed"]]
        ratios.setdefault(row["variant"], []).append(ratio)
    names = sorted(ratios, key=lambda name: -sum(ratios[name]) / len(ratios[name]))
    with picture(path, 1, 2, height=0.21 * len(names) + 0.9, sharey=True) as (figure, [[error, cost]]):
        for row in rows:
            place, group = names.index(row["variant"]), (row["set"], row["seed"])
            number = groups.index(group)
            marks = {"color": f"C{number}", "marker": "osD^"[number % 4], "linestyle": ""}
            label = f"{group[0]}, seed {group[1]}" if row["variant"] == "default" else None
            error.plot(row["force_rmse_meV_per_A"] / default[group], place, label=label, **marks)
            cost.plot(row["cost"], place, **marks)
        for axes, title in ((error, "test force RMSE (default: 1)"), (cost, "cost of an epoch (default: 1)")):
            axes.axvline(1.0, color="0.7", linewidth=0.8, zorder=0)
            axes.set(xlabel=title)
        error.set_yticks(range(len(names)), names)
        figure.legend(loc="outside upper center", ncols=len(groups))
