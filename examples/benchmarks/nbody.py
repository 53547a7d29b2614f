"""The N-body table of the paper: forecasts for particles tied to a plane by springs of several stiffnesses.

    python examples/benchmarks/nbody.py                                                  # the whole table, resumable
    python examples/benchmarks/nbody.py --stiffness 10 --group SO2 --seed 3 --output row.json  # one row

There are five particles. Half of the pairs are joined by springs, unknown to the model, and each particle is tied to
the plane z = 0 by a spring of the given stiffness and of known length. From positions and velocities at one time the
network predicts positions one unit of time later; in training also at earlier and later frames of the same
trajectories, which improves it. The symmetry is that of the plane: rotations about z and mirrors that contain z.
Groups: "Cinfv" (the right one), "SO2", "O3" (independent of the plane), "C1" (no symmetry: a plain message-passing
network of about the same number of weights). The weights with the lowest validation error are tested; the test set is
used once.

Zhdanov et al., NeurIPS 2023, section 5.2 and table A2.
"""

import argparse
import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from ik_e3nn.data.shapes.nbody import simulate_nbody
from ik_e3nn.models.networks.forecaster import Forecaster
from ik_e3nn.pictures import picture
from ik_e3nn.training.loop.average import MovingAverage

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "nbody.json"
CONFIG = HERE / "nbody.yaml"
STIFFNESSES = (0, 1, 5, 10, 25, 50, 100, 200, 1000)
CONTROLS = (0, 10, 100, 1000)  # stiffnesses for the other groups
SIZES = (300, 1000, 3000)  # training trajectories, for data efficiency
EFFICIENCY = 10  # stiffness for data efficiency
GROUP = "Cinfv"
LIMIT = 300  # s, for a training on both cores
PAPER = {  # table A2
    "MPNN": (0.0022, 0.0031, 0.0068, 0.0087, 0.0030, 0.0162, 0.0560, 0.0978, 0.1065),
    "O(3)-SEGNN": (0.0009, 0.0092, 0.0117, 0.0183, 0.0291, 0.0151, 0.0229, 0.0938, 0.1313),
    "SO(2)-CNN-IK": (0.0010, 0.0010, 0.0009, 0.0008, 0.0008, 0.0008, 0.0014, 0.0043, 0.0162),
}
Row = dict[str, Any]
Part = tuple[Tensor, Tensor, Tensor, Tensor]


def make_part(stiffness: float, count: int, seed: int, data: Row) -> Part:
    """Positions, velocities and heights of some systems, and positions at all requested frames (B, T, N, 3)."""
    frame, unit = data["frame"], data["ahead"]
    frames = [frame + unit, *data["also"]]
    t = simulate_nbody(count, stiffness=stiffness, seed=seed, num_frames=max(frames) + 1)
    arrays = (
        t.positions[:, frame], t.velocities[:, frame] * t.interval * unit, t.heights[..., None], t.positions[:, frames],
    )  # fmt: skip
    return tuple(torch.tensor(array, dtype=torch.float32) for array in arrays)  # type: ignore[return-value]


def mean_square_error(model: nn.Module, part: Part) -> float:
    """Mean square error over systems, particles and coordinates at the time of the table."""
    with torch.no_grad():
        chunks = zip(*(array.split(500) for array in part), strict=True)
        total = sum(float((model(x, v, s) - y)[:, 0].double().square().sum()) for x, v, s, y in chunks)
    return total / part[1].numel()


def train_row(stiffness: float, group: str, seed: int, trajectories: int, config: Row) -> Row:
    """Make data, train, choose weights by the validation error, and test."""
    data, settings = config["data"], config["train"]
    seeds = [10 * seed + part for part in range(3)]
    sizes = (trajectories, data["valid"], data["test"])
    train, valid, test = (make_part(stiffness, n, s, data) for n, s in zip(sizes, seeds, strict=True))
    torch.manual_seed(seed)
    times = [1.0, *((other - data["frame"]) / data["ahead"] for other in data["also"])]
    weights = torch.tensor([1.0] + [settings["also_weight"]] * len(data["also"]))
    model = Forecaster(group, 1, times=times, **config["plain" if group == "C1" else "model"])
    average = MovingAverage(model, decay=settings["ema_decay"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
    forward = torch.compile(model, dynamic=False) if settings["compile"] else model
    best, state, start, steps = math.inf, {}, time.perf_counter(), settings["steps"]
    batches = (b for _ in itertools.count() for b in torch.randperm(trajectories).split(settings["batch_size"]))
    with tqdm(total=steps, unit="step", desc=f"{stiffness:g} {group} seed {seed}") as bar:
        for step in range(1, steps + 1):
            warm = min(1.0, step / settings["warmup_steps"])
            rate = settings["lr"] * warm * (0.505 + 0.495 * math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = rate
            batch = next(batches)
            x, v, s, y = (array[batch] for array in train)
            loss = (forward(x, v, s) - y).square().mean((0, 2, 3)) @ weights
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update(model, step=step)
            bar.update()
            if step % settings["validate_every"] == 0 or step == steps:
                error = mean_square_error(average.model, valid)
                if error < best:
                    best, state = error, {k: t.clone() for k, t in average.model.state_dict().items()}
                bar.set_postfix_str(f"valid {error:.5f}")
    average.model.load_state_dict(state)
    return {
        "stiffness": stiffness,
        "group": group,
        "seed": seed,
        "trajectories": trajectories,
        "test_mse": mean_square_error(average.model, test),
        "valid_mse": best,
        "train_seconds": round(time.perf_counter() - start, 1),
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def jobs() -> list[tuple[float, str, int, int]]:
    """All rows: stiffness, group, seed, trajectories."""
    rows: list[tuple[float, str, int, int]] = [(k, GROUP, seed, 3000) for seed in (0, 1) for k in STIFFNESSES]
    rows += [(k, group, 0, 3000) for group in ("O3", "C1") for k in CONTROLS]
    rows += [(EFFICIENCY, group, 0, n) for n in SIZES for group in (GROUP, "O3", "C1")]
    return list(dict.fromkeys(rows))


def write(rows: list[Row], output: Path) -> None:
    """Write the JSON file, the page and the plots."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    page = HERE / "nbody.md" if output == OUTPUT else output.with_suffix(".md")
    full = [row for row in rows if row["trajectories"] == 3000]
    names = list(dict.fromkeys((row["group"], row["seed"]) for row in full))
    lines = ["| | " + " | ".join(map(str, STIFFNESSES)) + " |", "|---|" + "---:|" * len(STIFFNESSES)]
    for name, values in PAPER.items():
        lines.append(f"| paper, {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    for group, seed in names:
        found = {row["stiffness"]: row["test_mse"] for row in full if (row["group"], row["seed"]) == (group, seed)}
        cells = (f"{found[k]:.5f}" if k in found else "" for k in STIFFNESSES)
        lines.append(f"| ours, {group}, seed {seed} | " + " | ".join(cells) + " |")
    sizes = ", ".join(f"{row['parameters']:,} ({row['group']})" for row in {row["group"]: row for row in rows}.values())
    seconds = [row["train_seconds"] for row in rows]
    late = sorted(t for t in seconds if t > LIMIT)
    over = ", ".join(f"{t:.0f}" for t in late)
    more = ["| trajectories | " + " | ".join((GROUP, "O3", "C1")) + " |", "|---:|---:|---:|---:|"]
    for n in SIZES:
        found = {row["group"]: row["test_mse"] for row in rows
                 if (row["stiffness"], row["trajectories"], row["seed"]) == (EFFICIENCY, n, 0)}  # fmt: skip
        more.append(
            f"| {n} | " + " | ".join(f"{found[g]:.5f}" if g in found else "" for g in (GROUP, "O3", "C1")) + " |"
        )
    text = f"""# N-body: springs to a plane

Made by `nbody.py`, with the settings in `nbody.yaml`. The table shows the test mean square error of positions, by
stiffness. Kernels and MLPs have the activation "product", which is exactly equivariant.

Groups are not compared at equal size: with as many channels, layers of O3 have fewer weights. Weights: {sizes}.

Every row had {rows[0]["steps"]:,} steps, {min(seconds):.0f} to {max(seconds):.0f} s on one core, beside other work.
{len(late)} of {len(rows)} rows took longer than the intended {LIMIT // 60} minutes ({over} s).

{chr(10).join(lines)}

![error against stiffness](results/{output.stem}.png)

## Data efficiency at stiffness {EFFICIENCY}

{chr(10).join(more)}
"""
    page.write_text(text)
    plot(full, output.with_suffix(".png"))


def plot(rows: list[Row], path: Path) -> None:
    """The paper's figure: error against stiffness."""
    places = np.arange(len(STIFFNESSES))
    with picture(path, height=3.6) as (_, [[axes]]):
        for name, values in PAPER.items():
            axes.plot(places, values, ":", marker="s", label=f"paper, {name}")
        for group in dict.fromkeys(row["group"] for row in rows):
            own = {k: [r["test_mse"] for r in rows if r["group"] == group and r["stiffness"] == k] for k in STIFFNESSES}
            shown = [k for k in STIFFNESSES if own[k]]
            means = [np.mean(own[k]) for k in shown]
            axes.plot([STIFFNESSES.index(k) for k in shown], means, "-o", label=f"ours, {group}")
        axes.set_xticks(places, [str(k) for k in STIFFNESSES])
        axes.set(yscale="log", xlabel="stiffness", ylabel="test mean square error")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    """Compute one row, or all missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stiffness", type=float, help="one row alone, with --group and --seed")
    parser.add_argument("--group", default=GROUP)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trajectories", type=int, default=3000)
    parser.add_argument("--steps", type=int, help="instead of the config's")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--work", type=Path, default=Path("nbody_work"), help="folder for finished rows of the table")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    config = yaml.safe_load(args.config.read_text())
    if args.steps is not None:
        config["train"]["steps"] = args.steps
    if args.stiffness is not None:
        if args.output == OUTPUT:
            parser.error("give --output for a single row")
        row = train_row(args.stiffness, args.group, args.seed, args.trajectories, config)
        args.output.write_text(json.dumps([row], indent=1) + "\n")
        tqdm.write(json.dumps(row))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for k, group, seed, n in tqdm(jobs(), unit="row", desc="table"):
        file = args.work / f"{k:g}_{group}_{seed}_{n}.json"
        if not file.exists():
            row = train_row(k, group, seed, n, config)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(row))
            os.replace(partial, file)
        rows.append(json.loads(file.read_text()))
    write(rows, args.output)


if __name__ == "__main__":
    main()
