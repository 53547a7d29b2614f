"""Write the rows, the page and the plot from a work folder."""

import json
from pathlib import Path
from typing import Any

from ik_e3nn.pictures import picture
from potentials.recipes import BATCH, MODELS, VALID_BATCH
from potentials.runs import Bench, read_json
from potentials.sets import SETS
from potentials.speed import COMPILED, compiled_name

Row = dict[str, Any]

COLUMNS = {
    "model": "model",
    "parameters": "parameters",
    "minutes": "training (min)",
    "force_rmse_meV_per_A": "F RMSE (meV/A)",
    "force_mae_meV_per_A": "F MAE",
    "energy_rmse_meV_per_atom": "E RMSE (meV/atom)",
    "energy_mae_meV_per_atom": "E MAE",
    "stress_rmse_meV_per_A3": "stress RMSE (meV/A^3)",
    "train_edges_per_s": "training edges/s",
    "train_steps": "steps",
    "seconds_before_training": "before training (s)",
    "latency_ms": "latency (ms)",
    "latency_one_thread_ms": "latency, 1 thread",
    "calculator_ms": "ASE call (ms)",
    "calculator_one_thread_ms": "ASE call, 1 thread",
    "throughput_edges_per_s": "inference edges/s",
    "peak_memory_MB": "memory (MB)",
    "train_peak_memory_MB": "training memory (MB)",
}
CURVE_POINTS = 60


def collect(bench: Bench, earlier: list[Row]) -> list[Row]:
    """Rows for every trained model of every set, and for every compiled form.

    Args:
        bench: The work folder.
        earlier: Rows of models that were trained in another work folder. They are kept if this one has no errors
            of that model, with the speed that was measured here, if it was.
    """
    rows = []
    for data_set in SETS:
        speed_file = bench.work / data_set / "speed.json"
        speed = read_json(speed_file) if speed_file.exists() else {"forms": {}}
        for model in MODELS:
            known = [row for row in earlier if (row["set"], row["model"].partition(" (")[0]) == (data_set, model)]
            if bench.done(data_set, model, "predict"):
                row = _row(bench, data_set, model)
            elif known and model in speed["forms"]:
                measured = {"notes"}.union(*speed["forms"].values())
                row = {key: value for key, value in known[0].items() if key not in measured}
            else:
                rows += known
                continue
            rows.append(row | _speed(speed, model))
            for threads in bench.thread_counts:
                if model + compiled_name(threads) in speed["forms"]:
                    rows.append(_compiled_row(bench, row, speed, threads))
    return rows


def _row(bench: Bench, data_set: str, model: str) -> Row:
    folder = bench.folder(data_set, model)
    trained, predicted, job = (read_json(folder / f"{name}.json") for name in ("train", "predict", "train_job"))
    versions = predicted.pop("versions")
    trained["machine"] += f", torch {versions['torch']}"
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return {
        "set": data_set,
        "model": model,
        **predicted,
        **trained,
        "minutes": job["minutes"],
        "threads": job["threads"],
        "frames": job["set"]["frames"],
        "edges_per_frame": job["set"]["edges_per_frame"],
        "E0s_from": job["set"]["E0s_from"],
        "settings": job["settings"],
        "versions": versions,
        "curve": curve[:: max(1, len(curve) // CURVE_POINTS)],
    }


def _speed(speed: Row, name: str) -> Row:
    measured = {key: value for key, value in speed["forms"].get(name, {}).items() if key != "samples_seconds"}
    if "error" in measured:
        measured["notes"] = measured.pop("error")
    if not measured:
        return {}
    return measured | {"throughput_structures": speed["structures"], "speed_commit": speed["commit"]}


def _compiled_row(bench: Bench, row: Row, speed: Row, threads: int) -> Row:
    """The row of a compiled form: the errors of its model, and its own speed."""
    how, name = COMPILED[row["model"]], row["model"] + compiled_name(threads)
    if how.ahead:
        compiled = read_json(bench.folder(row["set"], row["model"]) / f"compile_{threads}.json")
    else:  # it happens in the first calls
        measured = speed["forms"][name]
        compiled = {"compile_seconds": measured.get("first_call_seconds", 0) + measured.get("warm_up_seconds", 0)}
    extra = {"compile_seconds": compiled.get("compile_seconds"), "compiled_with": how.documented}
    training = ("curve", "train_steps", "train_peak_memory_MB", "last_validation_seconds", "seconds_before_training")
    kept = {key: value for key, value in row.items() if key not in training}
    failed = {"notes": compiled["error"]} if "error" in compiled else {}
    return kept | {"model": name, "threads": threads} | extra | _speed(speed, name) | failed


def write(bench: Bench, output: Path, page: Path) -> None:
    """Write the JSON file, the page and the plot."""
    earlier = json.loads(output.read_text()) if output.exists() else []
    rows = collect(bench, earlier)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    page.write_text(_page(rows, output))
    if rows:
        plot(rows, output.with_suffix(".png"))


def table(rows: list[Row]) -> str:
    """A Markdown table of rows of one set."""
    columns = {key: title for key, title in COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row.get(key)) for key in columns) + " |")
    return "\n".join(lines)


DEFAULT = "ours-medium"  # the default preset


def comparison(rows: list[Row]) -> str:
    """For every set, the models with the lowest errors, and the speed of our models of equal accuracy."""
    lines = [
        "| set | force error, ours / others' best | energy error, ours / others' best | of no larger force error | "
        "one structure, ms: it / others' fastest | batch, edges/s |",
        "|---|---|---|---|---|---|",
    ]
    for data_set in dict.fromkeys(row["set"] for row in rows):
        here = [row for row in rows if row["set"] == data_set]
        ours = [row for row in here if row["model"].startswith("ours")]
        others = [row for row in here if row not in ours]
        if not ours or not others:
            continue
        default = [row for row in ours if row["model"].startswith(DEFAULT)]
        cells = [data_set]
        for key in ("force_rmse_meV_per_A", "energy_rmse_meV_per_atom"):
            best = [min(group, key=lambda row: row[key]) for group in (default or ours, others)]
            cells.append(" / ".join(f"{_cell(row[key])} ({row['model']})" for row in best))
        bar = min(row["force_rmse_meV_per_A"] for row in others)
        able = [row for row in ours if row["force_rmse_meV_per_A"] <= bar and row.get("latency_ms")]
        measured = any(row.get("latency_ms") for row in ours)
        cells.append(min(able, key=_latency)["model"] if able else "none" if measured else "not measured")
        for value, better in ((_latency, min), (_throughput, max)):
            if not able or not any(row.get("latency_ms") for row in others):
                cells.append("")
                continue
            mine, theirs = (better(value(row) for row in group if row.get("latency_ms")) for group in (able, others))
            ratio = max(mine, theirs) / min(mine, theirs) * (1 if mine == better(mine, theirs) else -1)
            cells.append(f"{_cell(mine)} / {_cell(theirs)}: {'' if ratio > 0 else '1/'}{abs(ratio):.1f}x")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _latency(row: Row) -> float:
    return float(min(row["latency_ms"], row.get("latency_one_thread_ms", row["latency_ms"])))


def _throughput(row: Row) -> float:
    return float(row["throughput_edges_per_s"])


def _cell(value: Any) -> str:
    if not isinstance(value, float | int):
        return str(value or "")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _page(rows: list[Row], output: Path) -> str:
    parts = [_INTRODUCTION.format(json=output.name, png=f"{output.parent.name}/{output.stem}.png")]
    if rows:
        parts += [comparison(rows), _COMPARISON]
    for data_set, chosen in SETS.items():
        mine = [row for row in rows if row["set"] == data_set]
        if mine:
            first = mine[0]
            parts += [
                f"## {chosen.title}",
                f"{chosen.split}. Training frames have {first['edges_per_frame']['train']:,.0f} edges on average; E0s: "
                f"{first['E0s_from']}. Trained on {first['machine']}.",
                table(mine),
                *[f"{row['model']}: `{row['notes'].splitlines()[-1]}`" for row in mine if row.get("notes")],
            ]
    sizes = {"batches": _listed(BATCH), "valid_batches": _listed(VALID_BATCH)}
    parts += ["## Settings", _SETTINGS.format(**sizes)]
    for model in dict.fromkeys(row["model"] for row in rows if row["model"] in MODELS):
        row = next(row for row in rows if row["model"] == model)
        settings = row["settings"] | {"by_set": MODELS[model].by_set}
        versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        parts += [f"### {model}", f"{versions}; commit {row['commit']}"]
        parts.append(f"```json\n{json.dumps(settings, indent=1)}\n```")
    return "\n\n".join(parts) + "\n"


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{size} ({data_set})" for data_set, size in sizes.items())


def plot(rows: list[Row], path: Path) -> None:
    """Error against cost, and learning curves, a row for each set."""
    names = [name for name in SETS if any(row["set"] == name for row in rows)]
    models = list(dict.fromkeys(_plain(row) for row in rows))
    colors = {model: f"C{number}" for number, model in enumerate(models)}
    with picture(path, len(names), 2, height=2.3 * len(names) + 0.6) as (figure, grid):
        for (cost, curves), data_set in zip(grid, names, strict=True):
            for row in [row for row in rows if row["set"] == data_set]:
                color, compiled = colors[_plain(row)], _plain(row) != row["model"]
                if row.get("throughput_edges_per_s"):
                    x, y = 1e6 / row["throughput_edges_per_s"], row["force_rmse_meV_per_A"]
                    cost.loglog(x, y, "o", color=color, mfc="none" if compiled else color)
                if len(row.get("curve", [])) > 1:
                    minutes = [point["seconds"] / 60 for point in row["curve"]]
                    curves.semilogy(minutes, [point["force_rmse_meV_per_A"] for point in row["curve"]], color=color)
            cost.set(title=SETS[data_set].title, ylabel="test F RMSE (meV/A)")
            curves.set(title=SETS[data_set].title, ylabel="validation F RMSE (meV/A)")
            cost.margins(0.15)
        grid[-1, 0].set_xlabel("inference, microseconds per edge (hollow: compiled)")
        grid[-1, 1].set_xlabel("training time (minutes)")
        lines = [grid[0, 1].plot([], [], "o-", color=color)[0] for color in colors.values()]
        figure.legend(lines, models, loc="outside upper center", ncols=len(models))


def _plain(row: Row) -> str:
    """The model of a row, whether compiled or not."""
    return str(row["model"].partition(" (")[0])


_INTRODUCTION = """# Potentials side by side

Made by `potentials.py`; all figures are in `{json}`. All models had the same frames, E0s, cores, precision
(float32) and training time, except that some rows of ours had less time.

**Training time.** The clock starts with the first training step. Starting the interpreter, reading data, and building
and compiling models are not part of it, but each package's own validation after every epoch is. *before training* is
the time without earlier results in the compilers' caches; for ours it includes writing the model and its plots.

**Errors** are those of the test frames, computed by one piece of code from the predictions of each package.

**Speed** was measured after all training, for all models of a set in turn; numbers are medians of several rounds. Where
the errors come from an earlier work folder, it was measured with the same models after seconds of training
(`--speed-only`).

- *latency*: a call of the model on a ready graph of one structure, for energy and forces
- *ASE call*: the same through the package's calculator, neighbor list included, after a small step of all atoms
- *inference edges/s*: a batch of about 8,000 edges, counted within 5 A for all models, in both directions
- *memory*: the largest resident size of a process that did only that
- *(compiled ...)*: the same trained model after its package's compilation for inference, which took `compile_seconds`
  and is not part of the figures; machine code is made for a number of threads, and which number is faster depends on
  the package and the system

**Differences.** NequIP's model computes the stress too in all of these, and so does MACE's calculator; ours and MACE's
model do so only if the set has stresses. Our calculator keeps a neighbor list with a skin, the others search in every
call. For structures without a cell, NequIP's compiler finds NaN stresses in its own check; the package that it has
written by then is used. Every process keeps the memory that it frees (glibc's thresholds at 1 GiB, which our calculator
and training set themselves), and OpenMP threads wait as they do by default. Both made the others faster, by up to 1.4
and 10 times.

![error against cost, learning curves]({png})"""

_COMPARISON = """Errors in this table are root mean squares of forces (meV/A) and energies (meV/atom), ours for the
default preset. The last three columns compare the fastest form of each package, with any number of threads, compiled or
not. The others come in one size each; of ours, the fastest size is taken whose force error is at most the lowest of the
others.

Sizes and settings of ours were chosen for minutes of training on a CPU, on acetylacetone and aspirin, whose test errors
we saw in the course (`ablation.md`). Silicon and EC/EMC were looked at, but not used for tuning. The recipes of the
others are from their documentation, except for MACE's size and the batch sizes, and were made for longer trainings; see
below. `nequip-cosine` is NequIP with a learning rate that falls with the clock, as ours does."""

_SETTINGS = """Settings that are not listed are each package's defaults. `potentials/recipes.py` describes how each
recipe was chosen. `by_set` lists the settings that differ for a set. Batch sizes are shown for the first set; unless
`by_set` says otherwise they are {batches} in training and {valid_batches} in validation.

To repeat it, use an environment with this library and one more for each of the other packages:

```bash
python3 -m venv mace && mace/bin/pip install torch==2.13.0 && mace/bin/pip install mace-torch==0.3.16 e3nn==0.4.4
python3 -m venv nequip && nequip/bin/pip install torch==2.13.0 && nequip/bin/pip install "nequip>=0.19,<0.20"
python examples/benchmarks/potentials.py --data-root DATA --work WORK \\
    --mace-python mace/bin/python --nequip-python nequip/bin/python
```

The same command continues a stopped run; finished models are kept."""
