"""Write the JSON files, the plots and the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ik_e3nn.pictures import picture
from qm9.models import CONTROL

Row = dict[str, Any]

PAPER_CODE = 124  # edges/s in training of one convolution of the paper's code, on a machine of this kind
ACTIVATION = (
    "The activation is the paper's, on the sphere (`activation: sphere`), in kernels and after convolutions. These "
    "networks turn with the molecule up to the grid of degree 7. The default networks of the package "
    "(`activation: gate`) turn with it exactly."
)
PAPER_LAYERS = 11
TABLE_2 = {  # Zhdanov et al., table 2; energies in meV, the rest in the units of the targets
    "alpha": 0.078, "gap": 45.3, "homo": 24.1, "lumo": 22.3, "mu": 0.033, "Cv": 0.032, "G": 21.1, "H": 19.6,
    "r2": 0.809, "U": 19.7, "U0": 19.5, "zpve": 2.08,
}  # fmt: skip


def shown(row: Row) -> float:
    """An error, energies in meV."""
    return float(1000 * row["mae"] if row["unit"] == "eV" else row["mae"])


def unit(row: Row) -> str:
    """The unit of the error."""
    return "meV" if row["unit"] == "eV" else str(row["unit"])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)])


def flexibility(rows: list[Row], folder: Path) -> str:
    """Table and plot of the flexibility figure."""
    names, targets = (list(dict.fromkeys(row[key] for row in rows)) for key in ("variant", "target"))
    lines, means = [], {}
    for name in names:
        own = [row for row in rows if row["variant"] == name]
        values = [np.mean([shown(row) for row in own if row["target"] == t]) for t in targets]
        means[name] = np.mean([row["mean_mae_over_spread"] for row in own])
        seeds = sorted({round(row["mean_mae_over_spread"], 4) for row in own})
        lines.append([
            name, f"{means[name]:.4f}", ", ".join(map(str, seeds)), *(f"{value:.4g}" for value in values),
            f"{own[0]['parameters']:,}", f"{np.mean([row['epochs'] for row in own]):.0f}",
            f"{np.mean([row['train_seconds'] for row in own]):.0f}",
        ])  # fmt: skip
    units = {row["target"]: unit(row) for row in rows}
    head = ["kernel", "mean MAE / spread", "each seed", *(f"{t} ({units[t]})" for t in targets),
            "parameters", "epochs", "seconds"]  # fmt: skip
    with picture(folder / "qm9_flexibility.png", height=2.6) as (_, [[axes]]):
        axes.barh(list(means)[::-1], list(means.values())[::-1])
        axes.set_xlabel("mean MAE / spread")
    last = means[names[-1]]
    gains = {name: 1 - last / means[name] for name in names if name.startswith("standard")}
    text = "; ".join(f"{names[-1]!r} is {100 * gain:.0f} % below {name!r}" for name, gain in gains.items())
    steps = [means[name] for name in names if name != CONTROL]
    text += f". {'Every' if steps == sorted(steps, reverse=True) else 'Not every'} step lowers the mean."
    return f"{ACTIVATION}\n\n{table(head, lines)}\n\n{text}\n\n![error of every kernel](results/qm9_flexibility.png)"


def learning(rows: list[Row], folder: Path) -> str:
    """Tables and plots of the learning curves."""
    models, targets, sizes = (list(dict.fromkeys(row[k] for row in rows)) for k in ("model", "target", "train_size"))
    found = {(row["model"], row["target"], row["train_size"]): row for row in rows}
    parts = []
    for size in sizes:
        lines, best = [], 0
        for target in targets:
            cells = [found.get((model, target, size)) for model in models]
            values = [shown(cell) if cell else np.inf for cell in cells]
            best += int(np.argmin(values) == models.index("ours"))
            any_cell = next(cell for cell in cells if cell)
            lines.append([f"{target} ({unit(any_cell)})", *(f"{v:.4g}" for v in values), f"{TABLE_2.get(target, '')}"])
        seconds = [f"{found[model, targets[0], size]['train_seconds']:.0f} s" for model in models
                   if (model, targets[0], size) in found]  # fmt: skip
        title = f"### {size:,} molecules ({', '.join(seconds)})"
        verdict = f"Our error is the lowest for {best} of {len(targets)} targets."
        parts.append(f"{title}\n\n{verdict}\n\n{table(['target', *models, 'paper, 100,000'], lines)}")
    with picture(folder / "qm9_learning.png", 4, 3, height=8.6) as (figure, grid):
        for axes, target in zip(grid.flat, targets, strict=False):
            for model in models:
                points = [(size, shown(found[model, target, size])) for size in sizes if (model, target, size) in found]
                axes.loglog(*zip(*points, strict=True), "-o", label=model)
            axes.set_title(f"{target} ({unit(found[models[0], target, sizes[0]])})")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        figure.supxlabel("molecules")
        figure.supylabel("mean absolute error")
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(models))
    return "\n\n".join([*parts, "![learning curves](results/qm9_learning.png)"])


def speed(rows: list[Row]) -> str:
    """Molecules per second, and the speed of the paper's code on the same graphs."""
    lines = [[r["model"], f"{r['train_molecules_per_s']:.4g}", f"{r['infer_molecules_per_s']:.4g}",
              f"{r['edges_per_molecule']:.0f}", f"{r['parameters']:,}"] for r in rows]  # fmt: skip
    paper = rows[0]
    code = PAPER_CODE / (PAPER_LAYERS * paper["edges_per_molecule"])
    ratio = paper["train_molecules_per_s"] / code
    text = (
        f"The paper's code trains {PAPER_CODE} edges/s in one such convolution (the kernel alone, measured on another "
        f"day on a machine of this kind). For its {PAPER_LAYERS}-layer network this is at most {code:.2g} molecules/s: "
        f"our code trains the same network {ratio:.0f} times as fast. `ours` has the potential's blocks on radius "
        "graphs. All models but `ours`, SchNet and ViSNet have the activation on the sphere."
    )
    head = ["model", "training, molecules/s", "inference, molecules/s", "edges per molecule", "parameters"]
    return f"{table(head, lines)}\n\n{text}"


def bonds(row: Row) -> str:
    """How many molecules perception gets right."""
    share = {
        name: f"{row[name]:,} ({100 * row[name] / row['molecules']:.2f} %)"
        for name in ("right", "wrong", "failed", "mapped")
    }
    return (
        f"Of {row['molecules']:,} molecules, bonds perceived from the geometry give the molecule of the published "
        f"SMILES for {share['right']}, another molecule for {share['wrong']}, and none for {share['failed']}. The "
        f"trainings here match the SMILES onto the geometry, which succeeds for {share['mapped']}. The other molecules "
        "are left out (`on_failure: skip`; `single` and `error` are the other choices)."
    )


def write(results: dict[str, Any], output: Path, page: Path) -> None:
    """Write the JSON file of every part, the plots, and the page from all available parts."""
    output.mkdir(parents=True, exist_ok=True)
    text = ["# QM9", "Made by `qm9.py`, with the paper's split (numpy seed 0) of the available molecules. Errors are "
            "mean absolute errors on test molecules; weights are those with the least validation error. The tables "
            "were made with heads of dipoles and polarizabilities about the center (`places: center`)."]  # fmt: skip
    sections: dict[str, tuple[str, Any]] = {
        "flexibility": ("Flexibility: what a kernel may look at", lambda r: flexibility(r, output)),
        "learning": ("Learning curves, all twelve targets at once, at equal time", lambda r: learning(r, output)),
        "speed": ("Speed", speed),
        "bonds": ("Bonds", bonds),
    }
    for name, (title, section) in sections.items():
        file = output / f"qm9_{name}.json"
        if results.get(name):
            file.write_text(json.dumps(results[name], indent=1) + "\n")
        if file.exists():
            text += [f"## {title}", section(json.loads(file.read_text()))]
    page.write_text("\n\n".join(text) + "\n")
