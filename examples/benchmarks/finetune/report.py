"""JSON, Markdown page and plot of the benchmark of fine-tuning."""

import json
import statistics
from pathlib import Path
from typing import Any

from finetune.problems import PROBLEMS
from ik_e3nn.pictures import picture

Row = dict[str, Any]
LORA_SHARE, LORA_GAIN = 0.1, 0.8
_COLUMNS = {"before": "before", "old_before": "old domain, before", "old_after": "after"}

_INTRODUCTION = """# Fine-tuning from the base model

Made by `finetune.py`. Every training takes {minutes} minutes, from the base or from random weights ("scratch": the same
architecture with the defaults of `ik-e3nn train`). All have the same validation and test sets, and numbers are means
over seeds.

Forces start from the base model. Properties start from the base model of properties and continue from its heads, with
references moved to the new labels ("full, from the potential": with new heads). Low-rank updates ("lora") learn
{factors} times as fast as heads, chosen on validation sets.

- *Gain*: the part of the error from scratch that is saved.
- *Before*: the error of the base or, for a property that it does not know, of a prediction from composition alone.
- *Old domain*: the force error on data like the base's own, before and after."""


def write(rows: list[Row], output: Path, page: Path) -> None:
    """Write everything.

    Args:
        rows: All results.
        output: The JSON file; the plot goes beside it.
        page: The Markdown file.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    page.write_text(text(rows, f"{output.parent.name}/{output.stem}.png"))
    plot(rows, output.with_suffix(".png"))


def text(rows: list[Row], picture: str) -> str:
    """Write the page from the rows of the JSON file."""
    factors = ", ".join(f"{problem.lora_lr_factor:g} ({problem.title})" for problem in PROBLEMS.values())
    minutes = " or ".join(map(str, sorted({round(row["train_seconds"] / 60) for row in rows})))
    parts = [_INTRODUCTION.format(minutes=minutes, factors=factors), f"![errors]({picture})"]
    for name in dict.fromkeys(row["problem"] for row in rows):
        problem = PROBLEMS[name]
        for target, chosen in by_target([row for row in rows if row["problem"] == name]).items():
            unit = chosen[0]["unit"]
            parts += [f"## {problem.title}: {target} ({unit})", table(chosen), verdict(chosen, problem.bar)]
    return "\n\n".join(parts) + "\n"


def by_target(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each target."""
    return {name: [row for row in rows if row["target"] == name] for name in dict.fromkeys(r["target"] for r in rows)}


def mean(rows: list[Row], method: str, size: int, key: str = "mae") -> float | None:
    """Mean of a number over seeds; None if it is missing."""
    values = [row.get(key) for row in rows if (row["method"], row["train_size"]) == (method, size)]
    values = [value for value in values if value is not None]
    return statistics.mean(values) if values else None


def table(rows: list[Row]) -> str:
    """A Markdown table: methods by training size."""
    measured = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows)]
    head = ["structures", "method", "seeds", "trained parameters", "MAE", "gain", *(_COLUMNS[key] for key in measured)]
    lines = [f"| {' | '.join(head)} |", f"|---:|---|{'---:|' * (len(head) - 2)}"]
    for size in sorted({row["train_size"] for row in rows}):
        scratch = mean(rows, "scratch", size)
        for method in dict.fromkeys(row["method"] for row in rows if row["train_size"] == size):
            mae = mean(rows, method, size) or float("nan")
            gain = "" if scratch is None or method == "scratch" else f"{100 * (1 - mae / scratch):.0f} %"
            others = (mean(rows, method, size, key) for key in measured)
            trained = mean(rows, method, size, "parameters") or 0
            seeds = sum((row["method"], row["train_size"]) == (method, size) for row in rows)
            cells = [str(size), method, str(seeds), f"{trained:,.0f}", f"{mae:.1f}", gain]
            cells += ["" if value is None else f"{value:.1f}" for value in others]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(rows: list[Row], bar: float) -> str:
    """Whether the bars are met, in words."""
    lines = []
    for size in sorted({row["train_size"] for row in rows}):
        scratch, full, lora = (mean(rows, method, size) for method in ("scratch", "full", "lora"))
        if scratch is None or full is None:
            continue
        gain = 1 - full / scratch
        lines.append(f"- {size} structures: gain {100 * gain:.0f} % (bar {100 * bar:.0f} %): {_met(gain >= bar)}")
        if lora is not None:
            row = next(row for row in rows if row["method"] == "lora")
            share, kept = lora_share(row), (1 - lora / scratch) / gain if gain > 0 else 0.0
            lines.append(
                f"- {size} structures, LoRA: {100 * share:.1f} % of the parameters{_of_body(row)} (bar "
                f"{100 * LORA_SHARE:.0f} %), keeps {100 * kept:.0f} % of the gain (bar {100 * LORA_GAIN:.0f} %): "
                f"{_met(share <= LORA_SHARE and kept >= LORA_GAIN)}"
            )
    return "\n".join(lines) or "No comparison with a training from scratch yet."


def lora_share(row: Row) -> float:
    """Trained fraction of the parameters; for properties, of the body, because heads are trained completely."""
    heads = row.get("head_parameters") or 0
    return (row["parameters"] - heads) / (row["all_parameters"] - heads)


def _of_body(row: Row) -> str:
    heads = row.get("head_parameters")
    return f" of the body (the heads, {heads:,} parameters, are trained as a whole)" if heads else ""


def _met(met: bool) -> str:
    return "met" if met else "not met"


def plot(rows: list[Row], path: Path) -> None:
    """Plot errors against the number of structures, with a line for each method."""
    panels = [
        (PROBLEMS[name].title, target, chosen)
        for name in dict.fromkeys(row["problem"] for row in rows)
        for target, chosen in by_target([row for row in rows if row["problem"] == name]).items()
    ]
    rows_of_panels = -(-len(panels) // 2)
    with picture(path, rows_of_panels, 2, height=2.9 * rows_of_panels) as (_, grid):
        for axes, (title, target, chosen) in zip(grid.flat, panels, strict=False):
            for method in dict.fromkeys(row["method"] for row in chosen):
                sizes = sorted({row["train_size"] for row in chosen if row["method"] == method})
                axes.plot(sizes, [mean(chosen, method, size) for size in sizes], "o-", label=method)
            axes.set(xscale="log", yscale="log", xlabel="structures", title=title)
            axes.set_ylabel(f"MAE of {target} ({chosen[0]['unit']})")
            sizes = sorted({row["train_size"] for row in chosen})
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
