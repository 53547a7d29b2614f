"""The N-body table of the paper: forecasts for particles tied to a plane by springs of several stiffnesses.

    python examples/benchmarks/nbody.py                                                  # the whole table, resumable
    python examples/benchmarks/nbody.py --stiffness 10 --group SO2 --seed 3 --output row.json  # one row

There are five particles. Half of the pairs are joined by springs, unknown to the model, and each particle is tied to
the plane z = 0 by a spring of the given stiffness and of known length. From positions and velocities at one time, and
the time since the start, the network predicts positions one unit of time later. It learns pair forces, external forces
and what is usual at the start of a trajectory, and integrates the forces, backwards to the start and forwards.

In training the present is one of the frames around that of the test, external forces are first learned alone from the
changes between frames, and positions at the start are compared as well. The budget of a training is processor time.

The symmetry is that of the plane: rotations about z and mirrors that contain z. Groups: "Cinfv" (the right one), "O3"
(independent of the plane), "C1" (no symmetry), or any other. The weights with the lowest validation error are tested;
the test set is used once, and no setting was chosen with it.

Zhdanov et al., NeurIPS 2023, section 5.2 and table A2.
"""

import argparse
import itertools
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from ik_e3nn.data.shapes.nbody import simulate_nbody
from ik_e3nn.models.networks.forecaster import Forecaster
from ik_e3nn.models.networks.learned_forces import PairForces
from ik_e3nn.models.networks.moments import Round
from ik_e3nn.models.networks.roll_out import Forces, RollOut, Step
from ik_e3nn.pictures import picture
from ik_e3nn.training.loop.average import MovingAverage

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "nbody.json"
CONFIG = HERE / "nbody.yaml"
STIFFNESSES = (0, 1, 5, 10, 25, 50, 100, 200, 1000)
CONTROLS = (10,)  # stiffnesses for the other groups
GROUP = "Cinfv"
LIMIT = 300  # s of processor time for a training, compilation included
LARGEST = 25.0  # of squared errors in the loss: integrations may diverge at first
RIVAL = "SO(2)-CNN-IK"  # the paper's best
PAPER = {  # table A2
    "MPNN": (0.0022, 0.0031, 0.0068, 0.0087, 0.0030, 0.0162, 0.0560, 0.0978, 0.1065),
    "O(3)-SEGNN": (0.0009, 0.0092, 0.0117, 0.0183, 0.0291, 0.0151, 0.0229, 0.0938, 0.1313),
    RIVAL: (0.0010, 0.0010, 0.0009, 0.0008, 0.0008, 0.0008, 0.0014, 0.0043, 0.0162),
}
Row = dict[str, Any]
COMPILED = (Round, PairForces, Step)  # parts of the network, each of which is compiled once


class Part(NamedTuple):
    """Trajectories as tensors, in units of time of the forecast; F frames."""

    positions: Tensor  # (S, F, N, 3)
    velocities: Tensor  # (S, F, N, 3)
    heights: Tensor  # (S, N, 1)
    interval: float  # time between frames

    def question(self, systems: Tensor, now: Tensor, targets: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs of the forecaster at frames ``now`` (B,), and positions at frames ``targets`` (B, T)."""
        times = (targets - now[:, None]) * self.interval
        x, v = self.positions[systems, now], self.velocities[systems, now]
        inputs = (x, v, self.heights[systems], now * self.interval, times)
        return inputs, self.positions[systems[:, None], targets]


def make_part(stiffness: float, count: int, seed: int, data: Row) -> Part:
    """Simulate some systems, with the time of the forecast as the unit of time."""
    t = simulate_nbody(count, stiffness=stiffness, seed=seed, num_frames=max(data["frames"]) + data["ahead"] + 1)
    x, v, h = (torch.tensor(a, dtype=torch.float32) for a in (t.positions, t.velocities, t.heights[..., None]))
    return Part(x, v * (t.interval * data["ahead"]), h, 1.0 / data["ahead"])


def typical_acceleration(part: Part) -> float:
    """Root of the mean square acceleration, from second differences of positions."""
    second = part.positions[:, 2:] - 2 * part.positions[:, 1:-1] + part.positions[:, :-2]
    return float(second.square().mean().sqrt()) / part.interval**2


def learn_external_forces(model: Forecaster, part: Part, settings: Row, h: float) -> None:
    """Let external forces alone explain one substep of length h at a time, so that training starts with about these.

    Over longer times oscillations have many local minima of the error.
    """
    roll_out, external = RollOut(h, 1), model.external_forces
    optimizer = torch.optim.Adam(external.parameters(), betas=(0.9, 0.99))
    frames = max(1, round(h / part.interval))
    for k in range(settings["external_steps"]):
        optimizer.param_groups[0]["lr"] = settings["external_lr"] * (1 - k / settings["external_steps"])
        systems = torch.randint(len(part.positions), (settings["external_batch"],))
        now = torch.randint(part.positions.shape[1] - frames, systems.shape)
        (x, v, s, _, times), _ = part.question(systems, now, now[:, None] + frames)
        alone = Forces(x.new_zeros(1, 3 * x.shape[1], 3 * x.shape[1]), **external(s))
        y, w, _ = roll_out(alone, x, v, times[:, 0])
        errors = torch.cat(
            [y - part.positions[systems, now + frames], h * (w - part.velocities[systems, now + frames])]
        )
        optimizer.zero_grad()
        (errors @ external.fixed).square().mean().backward()
        optimizer.step()


def mean_square_error(model: nn.Module, part: Part, data: Row) -> float:
    """Mean square error over systems, particles and coordinates at the time of the table."""
    total = 0.0
    model.eval()
    with torch.no_grad():
        for systems in torch.arange(len(part.positions)).split(500):
            now = torch.full_like(systems, data["frame"])
            inputs, y = part.question(systems, now, now[:, None] + data["ahead"])
            total += float((model(*inputs) - y).double().square().sum())
    return total / part.positions[:, 0].numel()


def compile_parts(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Compile the parts of a model in place; without a working compiler they stay as they are."""
    parts = [part for part in model.modules() if isinstance(part, COMPILED)]
    for part in parts:
        part.compile(dynamic=False)
    try:
        model(*inputs).sum().backward()
    except Exception as error:  # noqa: BLE001, whatever a compiler raises
        tqdm.write(f"The model is not compiled, and several times slower: {type(error).__name__}: {error}")
        for part in parts:
            part.compile(backend="eager")
    model.zero_grad()


def processor_time() -> float:
    """Seconds of this process and of what it started and waited for, such as compilers."""
    return sum(os.times()[:4])


def train_row(stiffness: float, group: str, seed: int, trajectories: int, config: Row) -> Row:
    """Make data, train for a given processor time, choose weights by the validation error, and test."""
    data, settings = config["data"], config["train"]
    seeds = [data["first_seed"] + 10 * seed + part for part in range(3)]
    sizes = (trajectories, data["valid"], data["test"])
    train, valid = (make_part(stiffness, n, s, data) for n, s in zip(sizes[:2], seeds[:2], strict=True))
    torch.manual_seed(seed)
    step = next(steps for highest, steps in settings["steps"].items() if stiffness <= highest)
    begun = processor_time()
    size = settings["size"] * typical_acceleration(train)
    model = Forecaster(group, 1, size=size, step=step["step"], substeps=step["substeps"], **config["model"])
    if group != "O3":  # it has no external forces
        learn_external_forces(model, train, settings, step["step"] / step["substeps"])
    average = MovingAverage(model, decay=settings["ema_decay"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings["lr"], betas=(0.9, 0.99), weight_decay=settings["weight_decay"], fused=True
    )

    def batch_of(systems: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        now = torch.randint(data["frames"][0], data["frames"][1] + 1, systems.shape)
        return train.question(systems, now, torch.stack([now + data["ahead"], torch.zeros_like(now)], 1))

    compiling = processor_time()
    batches = (b for _ in itertools.count() for b in torch.randperm(trajectories).split(settings["batch_size"])
               if len(b) == settings["batch_size"])  # fmt: skip
    if settings["compile"]:
        compile_parts(model, batch_of(next(batches))[0])
    weights = torch.tensor([1.0, step["start_weight"]])
    best, state, count, used, start, checked = math.inf, {}, 0, 0.0, processor_time(), 0
    with tqdm(total=100, unit="%", desc=f"{stiffness:g} {group} seed {seed}") as bar:
        while used < 1:
            rate = min(1.0, (count + 1) / settings["warmup_steps"]) * (0.505 + 0.495 * math.cos(math.pi * used))
            optimizer.param_groups[0]["lr"] = settings["lr"] * rate
            inputs, y = batch_of(next(batches))
            loss = (model(*inputs) - y).square().clamp(max=LARGEST).mean((0, 2, 3)) @ weights
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if norm.isfinite():
                optimizer.step()
            count += 1
            average.update(model, step=count)
            average.copy_buffers(model)
            used = (processor_time() - start) / settings["seconds"]
            if int(used * settings["validations"]) > checked or used >= 1:
                checked = int(used * settings["validations"])
                error = mean_square_error(average.model, valid, data)
                if error < best:
                    best, state = error, {k: t.clone() for k, t in average.model.state_dict().items()}
                bar.set_postfix_str(f"valid {error:.5f}")
            bar.update(min(100, int(100 * used)) - bar.n)
    seconds = processor_time() - begun
    average.model.load_state_dict(state)
    test = make_part(stiffness, sizes[2], seeds[2], data)
    return {
        "stiffness": stiffness,
        "group": group,
        "seed": seed,
        "trajectories": trajectories,
        "test_mse": mean_square_error(average.model, test, data),
        "valid_mse": best,
        "train_seconds": round(seconds, 1),
        "compile_seconds": round(start - compiling, 1),
        "steps": count,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def jobs() -> list[tuple[float, str, int, int]]:
    """All rows: stiffness, group, seed, trajectories."""
    rows: list[tuple[float, str, int, int]] = [(k, GROUP, seed, 3000) for seed in (0, 1) for k in STIFFNESSES]
    rows += [(k, group, 0, 3000) for group in ("O3", "C1") for k in CONTROLS]
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
    own = {k: [row["test_mse"] for row in full if row["group"] == GROUP and row["stiffness"] == k] for k in STIFFNESSES}
    ratios = {k: max(own[k]) / paper for k, paper in zip(STIFFNESSES, PAPER[RIVAL], strict=True) if own[k]}
    text = f"""# N-body: springs to a plane

Made by `nbody.py`, with the settings in `nbody.yaml`. The table shows the test mean square error of positions, by
stiffness. The network learns forces and integrates them: back to the start of a trajectory, to see which pairs are
joined, and then to the time asked for. It is exactly equivariant. Weights: {sizes}.

A training took {min(seconds):.0f} to {max(seconds):.0f} s of processor time on one core, compilation included;
{len(late)} of {len(rows)} took more than {LIMIT // 60} minutes.

{chr(10).join(lines)}

The larger error of the seeds of {GROUP} over that of {RIVAL}, by stiffness: {_listed(ratios)}. It is below 1 at
{sum(r < 1 for r in ratios.values())} and at most 0.75 at {sum(r <= 0.75 for r in ratios.values())} of {len(ratios)}.

All starts have speeds of exactly 0.5, which the network is not told and learns; links can therefore be inferred, and
these errors are not limited by noise.

![error against stiffness](results/{output.stem}.png)
"""
    page.write_text(text)
    plot(full, output.with_suffix(".png"))


def _listed(ratios: dict[int, float]) -> str:
    return ", ".join(f"{r:.2f} ({k})" for k, r in ratios.items())


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
    parser.add_argument("--seconds", type=float, help="of training, instead of the config's")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--work", type=Path, default=Path("nbody_work"), help="folder for finished rows of the table")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = yaml.safe_load(args.config.read_text())
    if args.seconds is not None:
        config["train"]["seconds"] = args.seconds
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
