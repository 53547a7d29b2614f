"""JSON, Markdown page and plot of the benchmark of fine-tuning."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

from finetune.problems import PROBLEMS

Row = dict[str, Any]
LORA_SHARE, LORA_GAIN = 0.1, 0.8

_INTRODUCTION = """# Fine-tuning from the base model

Made by `finetune.py`. Every training takes {minutes:g} minutes, whether it starts from the base or from random weights
("scratch", the same architecture with the defaults of `ik-e3nn train`); all have the same validation and test frames.
*Gain* is the part of the error from scratch that is saved. *Old domain* is the force error on data like the base's own,
before and after. Numbers are means over {seeds} seed(s)."""


def write(rows: list[Row], output: Path, page: Path, **facts: Any) -> None:
    """Write everything.

    Args:
        rows: All results.
        output: The JSON file; the plot goes beside it.
        page: The Markdown file.
        facts: What the page names: minutes, base.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1, default=str) + "\n")
    content = json.loads(output.read_text())
    page.write_text(text(content, f"{output.parent.name}/{output.stem}.png"))
    plot(content["rows"], output.with_suffix(".png"))


def text(content: Mapping[str, Any], picture: str) -> str:
    """The page, from the JSON file's content."""
    rows = content["rows"]
    seeds = len({row["seed"] for row in rows})
    parts = [_INTRODUCTION.format(minutes=content["facts"]["minutes"], seeds=seeds), f"![errors]({picture})"]
    for name in dict.fromkeys(row["problem"] for row in rows):
        problem = PROBLEMS[name]
        chosen = [row for row in rows if row["problem"] == name]
        parts += [f"## {problem.title}: {problem.target} ({problem.unit})", table(chosen), verdict(chosen, problem.bar)]
    return "\n\n".join(parts) + "\n"


def mean(rows: list[Row], method: str, size: int, key: str = "mae") -> float | None:
    """Mean of a number over seeds; None where there is none."""
    values = [row[key] for row in rows if (row["method"], row["train_size"]) == (method, size)]
    values = [value for value in values if value is not None]
    return statistics.mean(values) if values else None


def table(rows: list[Row]) -> str:
    """A Markdown table: methods by training size."""
    lines = [
        "| frames | method | trained parameters | MAE | before | gain | old domain, before | after |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sorted({row["train_size"] for row in rows}):
        scratch = mean(rows, "scratch", size)
        for method in dict.fromkeys(row["method"] for row in rows if row["train_size"] == size):
            mae = mean(rows, method, size) or float("nan")
            gain = None if scratch is None or method == "scratch" else 100 * (1 - mae / scratch)
            cells = [mean(rows, method, size, key) for key in ("before", "old_before", "old_after")]
            before, *old = ("" if value is None else f"{value:.1f}" for value in cells)
            trained = mean(rows, method, size, "parameters") or 0
            lines.append(
                f"| {size} | {method} | {trained:,.0f} | {mae:.1f} | {before} | "
                f"{'' if gain is None else f'{gain:.0f} %'} | {' | '.join(old)} |"
            )
    return "\n".join(lines)


def verdict(rows: list[Row], bar: float) -> str:
    """Whether the bars are met, in words."""
    lines = []
    for size in sorted({row["train_size"] for row in rows}):
        scratch, full, lora = (mean(rows, method, size) for method in ("scratch", "full", "lora"))
        if scratch is None or full is None:
            continue
        gain = 1 - full / scratch
        lines.append(f"- {size} frames: gain {100 * gain:.0f} % (bar {100 * bar:.0f} %): {_met(gain >= bar)}")
        if lora is not None:
            row = next(row for row in rows if row["method"] == "lora")
            share, kept = row["parameters"] / row["all_parameters"], (1 - lora / scratch) / gain if gain > 0 else 0.0
            lines.append(
                f"- {size} frames, LoRA: {100 * share:.1f} % of the parameters (bar {100 * LORA_SHARE:.0f} %), keeps "
                f"{100 * kept:.0f} % of the gain (bar {100 * LORA_GAIN:.0f} %): "
                f"{_met(share <= LORA_SHARE and kept >= LORA_GAIN)}"
            )
    return "\n".join(lines) or "No comparison with a training from scratch yet."


def _met(met: bool) -> str:
    return "met" if met else "not met"


def plot(rows: list[Row], path: Path) -> None:
    """Errors against the number of structures, a line a method."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, axes = plt.subplots(
        1, len(problems), figsize=(5.5 * len(problems), 4.2), layout="constrained", squeeze=False
    )
    for ax, name in zip(axes[0], problems, strict=True):
        chosen = [row for row in rows if row["problem"] == name]
        for method in dict.fromkeys(row["method"] for row in chosen):
            sizes = sorted({row["train_size"] for row in chosen if row["method"] == method})
            ax.plot(sizes, [mean(chosen, method, size) for size in sizes], "o-", label=method)
        problem = PROBLEMS[name]
        ax.set(xscale="log", yscale="log", xlabel="structures", ylabel=f"MAE of {problem.target} ({problem.unit})")
        ax.set_title(problem.title)
        ax.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
