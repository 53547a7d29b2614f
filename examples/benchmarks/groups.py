"""Potentials of many groups beside walls of different symmetry, at equal time of training.

    python examples/benchmarks/groups.py --work WORK [--minutes 2] [--seeds 0 1] [--only errors speed]

Walls: "steele" is Steele's smooth wall, with the data of surface.py (GFN2-xTB dynamics of eight molecules, 200 frames,
turned at random); "fourfold" and "chiral" are the same frames with an analytic term of lower symmetry, see
``groups/terms.py``. Every model has the same hyperparameters except the group, and the same processor time of one core
for training and validation. "O3" does not know of the wall. Finished rows are stored in the work folder and skipped.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import surface
import torch
from ase import Atoms
from groups import report
from groups.terms import TERMS, term_forces, with_term
from tqdm import tqdm

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.models import InteratomicPotential, load_model

OUTPUT = Path(__file__).parent / "results" / "groups.json"
GROUPS = {
    "steele": ("Cinfv", "SO2", "C1", "O3"),
    "fourfold": ("C4v", "Cinfv", "C4", "C2v", "C1", "C3v", "O3"),
    "chiral": ("SO2", "Cinfv", "C4", "C1", "C4v", "O3"),
}
FRAMES, VALID = 200, 40
SURFACES = ("Cinfv", "SO2", "C2v", "C3v", "C4", "C4v", "D4", "C1")
TIMED = {"O3": "none"} | dict.fromkeys(SURFACES, "surface") | {"Td": "site", "Oh": "site"}
ROUNDS = 25
Row = dict[str, Any]


def write_sets(work: Path) -> None:
    """Training, validation and test sets of every wall."""
    surface.generate(work, FRAMES)
    for name in GROUPS:
        folder = work / name
        folder.mkdir(exist_ok=True)
        for part in ("train", "valid", "test"):
            path = folder / f"{part}.xyz"
            if path.exists():
                continue
            frames = ase.io.read(work / path.name, ":")
            if part == "valid":
                frames = frames[:: max(1, len(frames) // VALID)]
            if name in TERMS:
                frames = [with_term(atoms, name) for atoms in frames]
            ase.io.write(path, frames, format="extxyz")


def train(work: Path, name: str, group: str, seed: int, minutes: float) -> Row:
    """Errors of one model on one wall."""
    folder = work / name / f"{group}_seed{seed}"
    model = folder / "model.safetensors"
    settings: dict[str, Any] = {
        "data.train": work / name / "train.xyz", "data.valid": work / name / "valid.xyz",
        "run.output": folder, "run.overwrite": True, "run.max_epochs": 100_000, "run.max_minutes": minutes,
        "run.clock": "cpu", "run.num_threads": 1, "run.seed": seed, "run.device": "cpu", "run.batch_size": 5,
        "run.progress": False, "model.group": group,
        "model.inputs": json.dumps([] if group == "O3" else ["surface"]),
    }  # fmt: skip
    settings |= {f"model.{key}": value for key, value in surface.MODEL.items()}
    config = work / name / f"{folder.name}.yaml"
    config.write_text("{}\n")
    surface.run(["train", str(config), *(f"--{key}={value}" for key, value in settings.items())])
    predicted = folder / "test.xyz"
    surface.run(["eval", str(model), str(work / name / "test.xyz"), "-o", str(predicted), "--overwrite", "true"])
    metrics = json.loads((folder / "metrics.json").read_text())
    row = {"group": group, "set": name, "seed": seed} | surface.errors(predicted)
    if name in TERMS:
        row |= term_errors(work, name, model)
    return row | {"train_seconds": metrics["seconds"], "epochs": metrics["epochs"], "parameters": metrics["parameters"]}


def term_errors(work: Path, name: str, path: Path) -> Row:
    """Error and size of the forces that change like the term of a wall."""
    model = load_model(path)

    def forces(images: Sequence[Atoms]) -> Sequence[np.ndarray]:
        found = model(batch_graphs([build_graph(atoms, model.r_max) for atoms in images]))["forces"]
        return [part.numpy() for part in found.split([len(atoms) for atoms in images])]

    errors, sizes = [], []
    frames = (ase.io.read(folder / "test.xyz", "::2") for folder in (work, work / name))
    for smooth, wall in zip(*frames, strict=True):
        true = wall.arrays["REF_forces"] - smooth.arrays["REF_forces"]
        errors.append(term_forces(wall, name, forces) - true)
        sizes.append(true)
    rms = [1000 * float(np.sqrt(np.mean(np.concatenate(part) ** 2))) for part in (errors, sizes)]
    return {"term_force_rmse_meV_per_A": rms[0], "term_force_rms_meV_per_A": rms[1]}


def steps() -> list[Row]:
    """Processor time of a training step of several groups, measured in turn: medians, and ratios to "Cinfv"."""
    molecules = [molecule_from_smiles(smiles) for smiles in list(surface.MOLECULES.values())[:5]]
    for atoms in molecules:
        atoms.positions[:, 2] += 3.0 - atoms.positions[:, 2].min()
    models = {}
    for group, kind in TIMED.items():
        torch.manual_seed(0)
        inputs = [] if kind == "none" else [kind]
        models[group] = InteratomicPotential(["H", "C", "N", "O"], group=group, inputs=inputs, **surface.MODEL)
    graph = batch_graphs([build_graph(atoms, models["Cinfv"].r_max) for atoms in molecules])
    samples: dict[str, list[float]] = {group: [] for group in models}
    for turn in tqdm(range(ROUNDS + 2), desc="speed", unit="round"):
        for group, model in models.items():
            start = time.process_time()
            out = model(graph)
            (out["energy"].sum() + out["forces"].square().sum()).backward()
            if turn >= 2:
                samples[group].append(time.process_time() - start)
    milliseconds = {group: 1000 * statistics.median(times) for group, times in samples.items()}
    return [
        {
            "group": group, "surroundings": TIMED[group], "step_ms": ms, "ratio_to_Cinfv": ms / milliseconds["Cinfv"],
            "parameters": sum(p.numel() for p in models[group].parameters()),
        }
        for group, ms in milliseconds.items()
    ]  # fmt: skip


def stored(file: Path, compute: bool, function: Any, *arguments: Any) -> Any:
    """A result from the work folder, or else computed now; None if it shall not be computed."""
    if compute and not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(function(*arguments)))
        os.replace(partial, file)
    return json.loads(file.read_text()) if file.exists() else None


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--minutes", type=float, default=2.0, help="processor time of one training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=["errors", "speed"], default=["errors", "speed"])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if "errors" in args.only:
        write_sets(work)
    rows = []
    jobs = [(name, group, seed) for seed in args.seeds for name, groups in GROUPS.items() for group in groups]
    for name, group, seed in tqdm(jobs, desc="training", unit="model"):
        file = work / f"{name}_{group}_{seed}.json"
        row = stored(file, "errors" in args.only, train, work, name, group, seed, args.minutes)
        rows += [] if row is None else [row]
    speed = stored(work / "speed.json", "speed" in args.only, steps) or []
    report.write(rows, speed, args.output, minutes=args.minutes)


if __name__ == "__main__":
    main()
