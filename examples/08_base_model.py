"""Make the base model that comes with the package: molecules, GFN2-xTB labels, training, checks, model card.

    python examples/08_base_model.py --work WORK [--data-minutes 30] [--train-minutes 180] [--install]

Every stage can be interrupted and continued with the same command: finished shards of molecules are kept, the training
resumes from its last epoch, and finished checks are not repeated. When the time for data is over, the finished shards
are used.
``--install`` copies the model and its card into the package, where ``IKCalculator("base")`` and ``ik-e3nn md CCO`` find
them.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from base_model.card import write_card
from base_model.checks import errors_by_kind, relaxations, single_atoms, survival
from base_model.frames import ELEMENTS, Plan, atoms_apart, frames_of, isolated_atoms
from base_model.smiles import held_out, molecules
from tqdm import tqdm

from ik_e3nn.data import LabelKeys
from ik_e3nn.data.files.smiles_table import given_smiles
from ik_e3nn.models import load_model, read_model_info, save_model
from ik_e3nn.models.files.pretrained import FOLDER
from ik_e3nn.training import read_config, train
from ik_e3nn.training.sets.prepare import read_set

SHARD = 10  # molecules
SMALL, TIMES = 6, 10  # atoms; how often frames of molecules up to this size are repeated, because they are few
CONFIG = Path(__file__).parent / "configs" / "base_model.yaml"


def label_shard(names: list[str], plan: Plan, share: float, path: str) -> None:
    """Write the frames of some molecules to a file, atomically."""
    plans = {False: plan, True: plan.for_tests()}
    frames = [frame for name in names for frame in frames_of(name, plans[held_out(name, share)])]
    partial = Path(path).with_suffix(".partial")
    partial.write_text("")
    if frames:
        write(partial, frames, format="extxyz")
    os.replace(partial, path)


def same_plan(file: Path, plan: dict[str, Any]) -> None:
    """Record the settings of the frames in the folder, or refuse to mix frames of other settings with them."""
    text = json.dumps(plan)
    if file.exists() and file.read_text() != text:
        raise SystemExit(f"{file} has other settings than this command; choose another --work folder")
    file.write_text(text)


def make_data(args: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Label shards until the time is over, then write train, valid and held-out files; return facts about the data."""
    facts_file = args.work / "data.json"
    if facts_file.exists():
        return json.loads(facts_file.read_text())
    names = molecules(args.molecules, max_atoms=args.max_atoms)
    (args.work / "smiles.txt").write_text("\n".join(names) + "\n")
    shards = args.work / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    order = [names[start :: -(-len(names) // SHARD)] for start in range(-(-len(names) // SHARD))]
    todo = [(part, shards / f"{number:05d}.xyz") for number, part in enumerate(order)]
    seconds_file = args.work / "seconds.json"
    spent = json.loads(seconds_file.read_text()) if seconds_file.exists() else 0.0
    todo = [(part, path) for part, path in todo if not path.exists()]
    begin, bar = time.monotonic(), tqdm(total=len(todo), desc="labels", unit="shard")
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = set()
        while todo or running:
            over = spent + time.monotonic() - begin > 60 * args.data_minutes
            while todo and len(running) < args.processes and not over:
                part, path = todo.pop(0)
                running.add(pool.submit(label_shard, part, plan, args.held_out, str(path)))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
                bar.update()
            seconds_file.write_text(json.dumps(spent + time.monotonic() - begin))
    spent += time.monotonic() - begin
    facts = join_shards(shards, args, plan) | {
        "core_hours": args.processes * spent / 3600, "max_atoms": args.max_atoms
    }  # fmt: skip
    facts_file.write_text(json.dumps(facts, indent=1))
    return facts


def join_shards(shards: Path, args: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Divide the frames by molecule into training, validation and held-out sets."""
    frames = [atoms for path in sorted(shards.glob("*.xyz")) if path.stat().st_size for atoms in read(path, ":")]
    names = given_smiles([atoms.info for atoms in frames])
    part_of = divided({*names}, args.held_out)
    parts: dict[str, list[Atoms]] = {"train": [], "valid": [], "heldout": []}
    for atoms, name in zip(frames, names, strict=True):
        parts[part_of[name]].append(atoms)
    alone = isolated_atoms(plan.calculator)
    small = [atoms for atoms in parts["train"] if len(atoms) <= SMALL]
    parts["train"] += atoms_apart(alone, copies=8)
    facts = {
        "molecules": len(part_of),
        "held_out": [*part_of.values()].count("heldout"),
        "train_frames": len(parts["train"]),
    }
    parts["train"] += (TIMES - 1) * small
    for name, part in parts.items():
        write(args.work / f"{name}.xyz", part, format="extxyz")
    write(args.work / "atoms.xyz", alone, format="extxyz")
    return facts | {"small": SMALL, "times": TIMES}


def divided(names: set[str], share: float) -> dict[str, str]:
    """The set of every molecule: its SMILES decides, but no set is left empty."""
    parts = {
        name: "heldout" if held_out(name, share) else "valid" if held_out(f"{name} valid", 0.04) else "train"
        for name in sorted(names)
    }
    for part in ("heldout", "valid"):
        if part not in parts.values():
            parts[next(name for name, other in parts.items() if other == "train")] = part
    return parts


def fit(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or continue a training."""
    files = {name: args.work / f"{name}.xyz" for name in ("train", "valid", "atoms")}
    overrides = [
        f"--data.train={files['train']}", f"--data.valid={files['valid']}", f"--data.isolated_atoms={files['atoms']}",
        f"--data.cache={args.work / 'edges'}", f"--run.output={args.work / 'run'}",
        f"--run.max_minutes={args.train_minutes}", *args.override,
    ]  # fmt: skip
    return train(read_config(CONFIG, overrides), resume=(args.work / "run").exists()).metrics


def checked(path: Path, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a check, which runs only once."""
    if not path.exists():
        found = check()
        path.write_text(json.dumps(found, indent=1))
    return json.loads(path.read_text())


def without_paths(value: Any, work: Path) -> Any:
    """Make paths in the work folder relative to it in nested values: the package must hold no path of a machine."""
    if isinstance(value, dict):
        return {key: without_paths(one, work) for key, one in value.items()}
    return str(Path(value).relative_to(work)) if isinstance(value, str) and value.startswith(f"{work}/") else value


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--molecules", type=int, default=12_000)
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--held-out", type=float, default=0.02, help="share of the molecules")
    parser.add_argument("--data-minutes", type=float, default=30.0)
    parser.add_argument("--train-minutes", type=float, default=180.0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--calculator", default="gfn2-xtb")
    parser.add_argument("--checks", type=int, default=50, help="held-out molecules for dynamics and relaxations")
    parser.add_argument("--picoseconds", type=float, default=2.0)
    parser.add_argument("--install", action="store_true", help="copy model and card into the package")
    parser.add_argument("override", nargs="*", help="--section.field=value of the training, after --")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(args.calculator)
    settings = {"max_atoms": args.max_atoms, "held_out": args.held_out, "small": SMALL, "times": TIMES}
    same_plan(args.work / "plan.json", asdict(plan) | settings)
    data, metrics = make_data(args, plan), fit(args)
    file = args.work / "run" / "model.safetensors"
    model = load_model(file)
    heldout = read_set(str(args.work / "heldout.xyz"), LabelKeys())
    heldout = heldout.select([i for i, one in enumerate(heldout.structures) if {*one.numbers} <= {*model.species}])
    names = sorted({*given_smiles([atoms.info for atoms in heldout.structures])})
    names = [names[i] for i in np.linspace(0, len(names) - 1, min(args.checks, len(names))).round().astype(int)]
    facts = {
        "elements": list(ELEMENTS), "data": data, "r_max": model.r_max,
        "parameters": sum(p.numel() for p in model.parameters()), "file_kB": file.stat().st_size // 1000,
        "train_hours": metrics["seconds"] / 3600, "valid": metrics["valid"],
        "single_atoms_eV": single_atoms(model),
        "errors": checked(args.work / "errors.json", lambda: errors_by_kind(model, heldout)),
        "dynamics": checked(
            args.work / "dynamics.json",
            lambda: survival(model, names, temperature=300.0, picoseconds=args.picoseconds),
        ),
        "relaxations": checked(
            args.work / "relaxations.json", lambda: relaxations(model, names, args.calculator)
        ),
    }  # fmt: skip
    write_card(facts, args.work)
    print((args.work / "README.md").read_text())
    if args.install:
        FOLDER.mkdir(exist_ok=True)
        summary = without_paths(read_model_info(file)["training"], args.work)
        save_model(model, FOLDER / "model.safetensors", summary=summary, overwrite=True)
        for name in ("README.md", "card.json"):
            shutil.copy(args.work / name, FOLDER / name)
        print(f"installed in {FOLDER}")


if __name__ == "__main__":
    main()
