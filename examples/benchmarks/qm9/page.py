"""Write the JSON files, the plots and the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ik_e3nn.pictures import picture
from qm9.models import BEST, CONTROLS

Row = dict[str, Any]

PAPER_CODE = 124  # edges/s in training of one convolution of the paper's code, on a machine of this kind
DIFFERENCES = (
    "The standard kernel is that of the paper: harmonics to degree 2, times one Gaussian window of the distance, whose "
    "width is learned and begins at 0.87 A. The implicit kernel is harmonics times an MLP with one hidden layer of 64, "
    "whose inputs are a constant and 33 Gaussians of the distance, 0.05 A wide, between 0.7 and 2.3 A, which resolve "
    "bonds. The next rows add the bond type to these inputs, and then the species of both atoms. Features have degree "
    "0 and 1; channels, layers, normalization and training are the same everywhere, and all networks are exactly "
    "equivariant."
)
LINEAR = (
    "Two controls tell how much of it is due to the windows alone: 'standard kernel, windows' is a linear combination "
    "of the windows of the implicit kernel, for each degree and channel; 'standard kernel, full' mixes all channels "
    "with every window, and has 9 windows of 0.2 A, because its cost grows with them."
)
IN_SMALL = (
    "The paper's figure compares a standard kernel of 89,000 parameters with implicit kernels of 350,000 to 1.4 "
    "million. These rows repeat that in small. All have the settings of the paper: windows of 0.87 A, harmonics to "
    "degree 4, full mixing of channels with the fields of the kernel, batch norm after every convolution, and its "
    "activation on the sphere (grids of degree 15). The implicit kernels have 8 fields instead of 1, and so more "
    "parameters and more time; the number of epochs is the same."
)
CENTERED = "Heads of dipoles and polarizabilities are about the center (`places: center`)."
EARLIER = (
    "An earlier version trained these networks, which the script no longer does; it keeps the rows. Kernels have the "
    "window of the paper, 2 A wide, and its activation on the sphere, with grids of degree 7, so that the networks "
    "turn with the molecule only approximately. Channels are such that all kernels have the same number of parameters, "
    "and epochs are the same. "
    f"{CENTERED}"
)
KINDS = {
    "equal time": ("At equal time", DIFFERENCES),
    "unequal": ("As in the paper, in small", IN_SMALL),
    "equal parameters": ("At equal parameters", EARLIER),
}
NETWORKS = {"ours": "blocks of a potential, bonds and 5 A", BEST: "kernels of bonds, '+ both atom types'"}
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
    """Tables and plot of the flexibility figure, for every kind of comparison that was made."""
    kinds = {kind: chosen for kind in KINDS if (chosen := [row for row in rows if row["kind"] == kind])}
    parts = []
    with picture(folder / "qm9_flexibility.png", len(kinds), 1, height=1.8 * len(kinds) + 0.4) as (figure, grid):
        for axes, (kind, chosen) in zip(grid.flat, kinds.items(), strict=True):
            text, means = _steps(chosen)
            size = f"{chosen[0]['train_size']:,} molecules"
            title, note = KINDS[kind]
            note += f" {LINEAR}" if kind == "equal time" else ""
            parts += [f"### {title}, {size}", note, text]
            axes.barh(list(means)[::-1], list(means.values())[::-1])
            axes.set_title(f"{title}, {size}")
        figure.supxlabel("mean MAE / spread")
    return "\n\n".join([*parts, "![error of every kernel](results/qm9_flexibility.png)"])


def _steps(rows: list[Row]) -> tuple[str, dict[str, float]]:
    """The table of some kernels with a verdict, and the mean error of each."""
    names, targets = (list(dict.fromkeys(row[key] for row in rows)) for key in ("variant", "target"))
    lines, means = [], {}
    for name in names:
        own = [row for row in rows if row["variant"] == name]
        values = [np.mean([shown(row) for row in own if row["target"] == t]) for t in targets]
        means[name] = float(np.mean([row["mean_mae_over_spread"] for row in own]))
        seeds = [f"{value:.4f}" for value in {row["seed"]: row["mean_mae_over_spread"] for row in own}.values()]
        lines.append([
            name, f"{means[name]:.4f}", ", ".join(seeds), *(f"{value:.4g}" for value in values),
            f"{own[0]['parameters']:,}", f"{np.mean([row['epochs'] for row in own]):.3g}",
            f"{np.mean([row['train_seconds'] for row in own]):.0f}",
        ])  # fmt: skip
    units = {row["target"]: unit(row) for row in rows}
    head = ["kernel", "mean MAE / spread", "each seed", *(f"{t} ({units[t]})" for t in targets),
            "parameters", "epochs", "seconds"]  # fmt: skip
    last = means[names[-1]]
    verdicts = [
        f"{names[-1]!r} is {abs(100 * (1 - last / means[name])):.0f} % {'below' if last < means[name] else 'above'} "
        f"{name!r}" for name in names if name.startswith("standard")
    ]  # fmt: skip
    steps = [means[name] for name in names if name not in CONTROLS]
    every = "Every" if steps == sorted(steps, reverse=True) else "Not every"
    return f"{table(head, lines)}\n\n{'; '.join(verdicts)}. {every} step lowers the mean.", means


def default(rows: list[Row]) -> str:
    """The kernels of bonds and the blocks of a potential, for every target and size."""
    names, sizes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "train_size"))
    parts = []
    for size in sizes:
        own = {name: {r["target"]: r for r in rows if (r["model"], r["train_size"]) == (name, size)} for name in names}
        targets = list(own[names[0]])
        lines = [
            [f"{t} ({unit(own[names[0]][t])})", *(f"{shown(own[name][t]):.4g}" for name in names)] for t in targets
        ]
        firsts = [own[name][targets[0]] for name in names]
        for label, key, form in (
            ("mean MAE / spread", "mean_mae_over_spread", ".4f"), ("parameters", "parameters", ","),
            ("epochs", "epochs", ""), ("seconds", "train_seconds", ".0f"),
        ):  # fmt: skip
            lines.append([label, *(f"{row[key]:{form}}" for row in firsts)])
        best = min(firsts, key=lambda row: row["mean_mae_over_spread"])["model"]
        head = ["target", *(NETWORKS.get(name, name) for name in names)]
        parts.append(f"### {size:,} molecules\n\nLower mean error: {NETWORKS.get(best, best)}.\n\n{table(head, lines)}")
    return "\n\n".join(parts)


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
    return "\n\n".join([CENTERED, *parts, "![learning curves](results/qm9_learning.png)"])


def speed(rows: list[Row]) -> str:
    """Molecules per second, and the speed of the paper's code on the same graphs."""
    lines = [[r["model"], f"{r['train_molecules_per_s']:.4g}", f"{r['infer_molecules_per_s']:.4g}",
              f"{r['edges_per_molecule']:.0f}", f"{r['parameters']:,}"] for r in rows]  # fmt: skip
    paper = rows[0]
    gates = any(row.get("activation") == "gate" for row in rows)  # older rows do not say it
    sphere = "The paper's network has" if gates else "All models but `ours`, SchNet and ViSNet have"
    code = PAPER_CODE / (PAPER_LAYERS * paper["edges_per_molecule"])
    ratio = paper["train_molecules_per_s"] / code
    text = (
        f"The paper's code trains {PAPER_CODE} edges/s in one such convolution (the kernel alone, measured on another "
        f"day on a machine of this kind). For its {PAPER_LAYERS}-layer network this is at most {code:.2g} molecules/s: "
        f"our code trains the same network {ratio:.0f} times as fast. `ours` has the potential's blocks on radius "
        f"graphs. {sphere} the activation on the sphere."
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
    text = [
        "# QM9",
        "Made by `qm9.py`, with the paper's split (numpy seed 0) of the available molecules. Errors are mean absolute "
        "errors on test molecules; weights are those with the least validation error.",
    ]
    sections: dict[str, tuple[str, Any]] = {
        "flexibility": ("Flexibility: what a kernel may look at", lambda r: flexibility(r, output)),
        "default": (
            "Kernels of bonds or the blocks of a potential, all twelve targets at once, at equal time",
            default,
        ),
        "learning": ("Learning curves, all twelve targets at once, at equal time", lambda r: learning(r, output)),
        "speed": ("Speed", speed),
        "bonds": ("Bonds", bonds),
    }
    for name, (title, section) in sections.items():
        file = output / f"qm9_{name}.json"
        if name == "flexibility" and (results.get(name) or results.get("unequal")):
            # two parts are in one file, and each replaces its own rows
            earlier = json.loads(file.read_text()) if file.exists() else []
            new = [*results.get("flexibility", []), *results.get("unequal", [])]
            results = results | {name: [*(row for row in earlier if row["kind"] != new[0]["kind"]), *new]}
        if results.get(name):
            file.write_text(json.dumps(results[name], indent=1) + "\n")
        if file.exists():
            text += [f"## {title}", section(json.loads(file.read_text()))]
    page.write_text("\n\n".join(text) + "\n")
