"""Trainings and timings; finished parts are stored in the work folder and skipped."""

import json
import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ik_e3nn.data import LabeledSet, StructureDataset, paper_split, perception_counts, read_qm9, with_bonds
from ik_e3nn.data.graphs.splits import fingerprint
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.config.schema import LossConfig, RunConfig
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.loop.engine import run_training
from ik_e3nn.training.loop.module import TrainingModule
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.run.clock import RunClock
from ik_e3nn.training.sets.loader import collate
from qm9 import models

Row = dict[str, Any]
ALL_TARGETS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
FIGURE_TARGETS = ("homo", "U0_atom", "mu")
BATCH = 32


class Sets(NamedTuple):
    """Molecules with bonds for training, validation and tests, and the fingerprint of the split."""

    train: LabeledSet
    valid: LabeledSet
    test: LabeledSet
    split_hash: str


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """The contents of a file; it is made and written if it does not exist."""
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(make(), indent=1))
        os.replace(partial, file)
    return json.loads(file.read_text())


def load(args: Any, work: Path, targets: tuple[str, ...], size: int, others: int | None = None) -> Sets:
    """The split of the paper for the available molecules; molecules without bonds are left out.

    The bonds are kept in the work folder, because finding them takes minutes.

    Args:
        args: Arguments of the script.
        work: Work folder.
        targets: Names of the targets.
        size: Number of molecules for training.
        others: Number of molecules for validation, and for tests; by default those of the script.
    """
    whole = read_qm9(args.data).only(targets)
    split = paper_split(len(whole), size, valid=others or args.valid, test=others or args.test)
    parts = {name: _bonded(whole, indices.tolist(), work / "bonds.pickle") for name, indices in vars(split).items()}
    ids = {name: part.ids for name, part in parts.items()}
    return Sets(parts["train"], parts["valid"], parts["test"], fingerprint(ids))


def _bonded(whole: LabeledSet, rows: list[int], file: Path) -> LabeledSet:
    """Some molecules with bonds; those whose bonds are not in the file are added to it, with None if they fail."""
    known = pickle.loads(file.read_bytes()) if file.exists() else {}  # noqa: S301, written by this script
    missing = whole.select([row for row in rows if whole.ids[row] not in known])
    if len(missing):
        found = with_bonds(missing, "auto", "skip", progress=True)[0]
        known |= dict.fromkeys(missing.ids)
        known |= {name: atoms.info for name, atoms in zip(found.ids, found.structures, strict=True)}
        partial = file.with_suffix(".partial")
        partial.write_bytes(pickle.dumps(known))
        os.replace(partial, file)
    chosen = whole.select([row for row in rows if known[whole.ids[row]] is not None])
    for name, atoms in zip(chosen.ids, chosen.structures, strict=True):
        atoms.info.update(known[name])
    return chosen


def graphs_of(model: Any, molecules: LabeledSet) -> StructureDataset:
    """Graphs of the kind that the model uses."""
    graphs = StructureDataset(molecules, model.r_max, edges=model.edges)
    graphs.prepare(progress=True)
    return graphs


def loss_of(model: Any) -> Loss:
    """The loss, in units of the spread that the references leave in every target."""
    scales = zip(model.targets, model.scales.scale.tolist(), strict=True)
    return Loss(LossConfig(), model.targets, {target.name: scale for target, scale in scales})


def train(
    name: str, sets: Sets, *, seed: int, folder: Path, key: str, epochs: int = 100_000, minutes: float | None = None
) -> list[Row]:
    """Train a model for some epochs or minutes, and test it: one row per target.

    Without a GPU, minutes are processor time, so that other load affects no model.
    """
    model: Any = models.make(name, sets.train, seed)
    train_graphs, valid_graphs = graphs_of(model, sets.train), graphs_of(model, sets.valid)
    model.set_average_neighbors(train_graphs.average_neighbors())
    loss = loss_of(model)
    clock = RunClock(minutes and 60 * minutes, "wall" if torch.cuda.is_available() else "cpu")
    module = TrainingModule(model, loss, optimizer=models.optimizer_of(name), clock=clock)
    batch = min(BATCH, max(len(sets.train) // 50, 8))
    config = RunConfig(
        output=str(folder), max_epochs=epochs, max_minutes=minutes, batch_size=batch, seed=seed, device="auto",
        num_threads=torch.get_num_threads(),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    rows, best = run_training(module, train_graphs, valid_graphs, config=config, folder=folder)
    device = resolve_device("auto")
    graphs = graphs_of(model, sets.test)
    errors = predict(module.best_model.to(device), graphs, limits=BatchLimits(128), loss=loss).errors
    whole = {
        "seed": seed, "train_size": len(sets.train), "train_seconds": rows[-1]["seconds"], "epochs": rows[-1]["epoch"],
        "best_epoch": best.best_epoch, "parameters": models.parameters(model), "split_hash": sets.split_hash,
        "mean_mae_over_spread": errors["mean_mae_over_spread"],
    }  # fmt: skip
    return [
        {key: name, "target": t.name, "mae": errors[f"{t.name}_mae_{t.unit}"], "unit": t.unit, **whole}
        for t in model.targets
    ]


def flexibility(args: Any, work: Path) -> list[Row]:
    """The figure of the paper at equal time."""
    return _steps(args, work, "equal time", args.train, {"minutes": args.minutes}, models.VARIANTS)


def unequal(args: Any, work: Path) -> list[Row]:
    """The figure of the paper with unequal numbers of parameters and equal epochs, in small."""
    names = [f"unequal {name}" for name in models.UNEQUAL]
    return _steps(args, work, "unequal", args.unequal_train, {"epochs": args.unequal_epochs}, names)


def _steps(args: Any, work: Path, kind: str, size: int, limit: dict[str, float], names: Iterable[str]) -> list[Row]:
    load_once = cache(lambda: load(args, work, FIGURE_TARGETS, size))

    def one(name: str, seed: int) -> list[Row]:
        file = work / f"flexibility_{name.replace(' ', '_').replace('+', 'and')}_{seed}.json"
        options: dict[str, Any] = {"seed": seed, "folder": file.with_suffix(""), "key": "variant", **limit}
        found: list[Row] = kept(file, lambda: train(name, load_once(), **options))
        return [row | {"variant": name.removeprefix("unequal "), "kind": kind} for row in found]

    jobs = [(name, seed) for seed in range(args.seeds) for name in names]
    return [row for job in tqdm(jobs, desc=kind, unit="training") for row in one(*job)]


def learning(args: Any, work: Path) -> list[Row]:
    """All targets at once, against PyG's models at equal time."""
    return _at_equal_time(args, work, "learning", args.sizes, ["ours", *models.PEERS])


def default(args: Any, work: Path) -> list[Row]:
    """All targets at once: the best kernel of the flexibility figure and the blocks of a potential, at equal time."""
    return _at_equal_time(args, work, "default", args.compared, ["ours", models.BEST])


def _at_equal_time(args: Any, work: Path, part: str, sizes: list[tuple[int, float]], names: list[str]) -> list[Row]:
    load_once = lru_cache(1)(lambda size: load(args, work, ALL_TARGETS, size))

    def one(size: int, minutes: float, name: str) -> list[Row]:
        file = work / f"{part}_{name.replace(' ', '_').replace('+', 'and')}_{size}.json"
        options: dict[str, Any] = {"seed": 0, "minutes": minutes, "folder": file.with_suffix("")}
        found: list[Row] = kept(file, lambda: train(name, load_once(size), **options, key="model"))
        return found

    jobs = [(size, minutes, name) for size, minutes in sizes for name in names]
    return [row for job in tqdm(jobs, desc=part, unit="training") for row in one(*job)]


def speed(args: Any, work: Path) -> list[Row]:
    """Molecules per second, measured in turn, A B C A B C ..., so that other load affects all equally."""
    sets = load(args, work, FIGURE_TARGETS, 1000, 100)
    names = ["paper's network", *models.VARIANTS, "ours", *models.PEERS]
    problems: dict[str, Any] = {}
    for name in names:
        model: Any = models.make(name, sets.train, 0)
        graphs = graphs_of(model, sets.train.select(range(BATCH)))
        batch = collate([graphs[k].to_dict() for k in range(BATCH)])
        loss = loss_of(model)
        problems[name] = (model, batch, loss)
    samples: dict[str, dict[str, list[float]]] = {name: {"train": [], "infer": []} for name in names}
    for _ in tqdm(range(args.rounds + 1), desc="timing", unit="round"):
        for name, (model, batch, loss) in problems.items():
            start = time.perf_counter()
            loss.combine(loss.terms(model.train()(batch), batch)).backward()
            middle = time.perf_counter()
            with torch.no_grad():
                model.eval()(batch)
            samples[name]["train"].append(middle - start)
            samples[name]["infer"].append(time.perf_counter() - middle)
    return [
        {
            "model": name,
            **{f"{kind}_molecules_per_s": round(BATCH / statistics.median(values[1:]), 2)
               for kind, values in samples[name].items()},
            "edges_per_molecule": problems[name][1]["edge_index"].shape[1] / BATCH,
            "parameters": models.parameters(problems[name][0]),
            "threads": torch.get_num_threads(),
            **({"activation": models.STEERABLE[name].activation} if name in models.STEERABLE else {}),
        }
        for name in names
    ]  # fmt: skip


def bonds(args: Any, work: Path) -> Row:
    """Count how often bonds perceived from the geometry are the bonds of the published SMILES."""
    whole = read_qm9(args.data)
    chosen = whole.select(paper_split(len(whole)).train[: args.perceived])
    counts = perception_counts(chosen.structures, chosen.smiles or [], progress=True)
    return {"molecules": len(chosen), **counts}
