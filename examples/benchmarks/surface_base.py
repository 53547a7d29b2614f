"""A wall on top of the base model: what is learned of it from few frames, and what that saves in a pose search.

    python examples/benchmarks/surface_base.py --work WORK [--frames 200] [--minutes 1] [--poses 30]

Data are those of ``surface.py``: GFN2-xTB dynamics of eight small molecules, every frame turned at random and put at a
random height over Steele's wall. The base model that comes with the package, which knows molecules alone, gets the
surface (``ik-e3nn finetune base``, ``model: {group: Cinfv, inputs: [surface]}``) by every method of fine-tuning and in
other groups, with the same processor time. Tests are on other frames of the same molecules, and on molecules that no
model has seen over a wall.

The pose search is that of ``docking.py``: six other molecules over the wall. The best poses of the model are relaxed
with the reference; the lowest of them must be within 5 meV of the best pose of a search with the reference alone. All
calculations with the reference are counted, those of the training and validation frames included. The error of a
binding energy is that of the model's best pose, relaxed with the model, against the same pose relaxed with the
reference. Finished parts are stored in the work folder and skipped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import docking
import numpy as np
import surface
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from tqdm import tqdm

from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.pictures import picture

OUTPUT = Path(__file__).parent / "results" / "surface_base.json"
SAVED = ("surroundings", "Cinfv")  # method and group of the summary and of the pose search
RUNS = [SAVED, ("full", "Cinfv"), ("lora", "Cinfv"), ("head", "Cinfv"), ("surroundings", "SO2"), ("surroundings", "C1")]
RELAXED = 3  # distinct poses of the model that are relaxed with the reference
BARS = {"unseen_force_rmse_meV_per_A": 60.0, "unseen_net_force_rmse_meV_per_A": 20.0, "binding_error_meV": 25.0}
Row = dict[str, Any]


class Counted(Calculator):
    """The reference, with the number of its calculations."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    calls: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = make_calculator(surface.REFERENCE)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energy and forces; see ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        type(self).calls += 1
        self.results = {name: self.inner.get_property(name, self.atoms) for name in ("forces", "energy")}


def make_data(work: Path, frames: int) -> int:
    """All sets; returns the number of reference calculations for those of training and validation."""
    file = work / "calls.json"
    if not file.exists():
        for name in ("train.xyz", "valid.xyz"):  # without their number they have to be made again
            (work / name).unlink(missing_ok=True)
        counted = sys.modules[__name__] if __name__ != "__main__" else __import__(Path(__file__).stem)
        before = counted.Counted.calls
        surface.generate(work, frames, f"{Path(__file__).stem}:Counted", ("train", "valid"))
        file.write_text(json.dumps(counted.Counted.calls - before))
    surface.generate(work, frames)
    return int(json.loads(file.read_text()))


def train(work: Path, method: str, group: str, seed: int, minutes: float) -> Row:
    """Errors of one model, from the work folder if available."""
    folder = work / f"{method}_{group}_seed{seed}"
    result, model = folder.with_suffix(".json"), folder / "model.safetensors"
    if not result.exists():
        settings = {
            "data.train": work / "train.xyz", "data.valid": work / "valid.xyz", "model.group": group,
            "model.inputs": '["surface"]', "finetune.method": method, "run.output": folder, "run.max_epochs": 100000,
            "run.max_minutes": minutes, "run.clock": "cpu", "run.seed": seed, "run.device": "cpu",
            "run.batch_size": 5, "run.progress": False, "run.overwrite": True,
        }  # fmt: skip
        config = work / f"{folder.name}.yaml"
        config.write_text("{}\n")
        surface.run(["finetune", "base", str(config), *(f"--{name}={value}" for name, value in settings.items())])
        metrics = json.loads((folder / "metrics.json").read_text())
        row = {"method": method, "group": group, "seed": seed, "frames": surface.count(work / "train.xyz")}
        row |= tested(work, model, folder)
        row |= {
            "train_seconds": metrics["seconds"], "epochs": metrics["epochs"], "parameters": metrics["parameters"],
        }  # fmt: skip
        result.write_text(json.dumps(row, indent=1))
    return dict(json.loads(result.read_text()))


def untrained(work: Path) -> Row:
    """Errors of the base, which feels no wall."""
    result, folder = work / "base.json", work / "base"
    if not result.exists():
        folder.mkdir(exist_ok=True)
        row = {"method": "none: the base", "group": "O3", "seed": 0, "frames": 0}
        result.write_text(json.dumps(row | tested(work, Path(model_path("base")), folder), indent=1))
    return dict(json.loads(result.read_text()))


def tested(work: Path, model: Path, folder: Path) -> Row:
    """Errors of a model on the same and on other molecules."""
    row: Row = {}
    for name in ("test", "unseen"):
        predicted = folder / f"{name}.xyz"
        surface.run(["eval", str(model), str(work / f"{name}.xyz"), "-o", str(predicted), "--overwrite", "true"])
        row |= {f"{name}_{key}": value for key, value in surface.errors(predicted).items()}
    return row


def searched(work: Path, name: str, model: Path, poses: int, reference_poses: int) -> Row:
    """The search for one molecule, with a model and with the reference alone, from the work folder if available."""
    result = work / f"{name}_{model.parent.name}.json"
    if not result.exists():
        smiles, folder = docking.UNSEEN[name], work / f"{name}_{model.parent.name}"
        learned = docking.search(smiles, folder, poses, model=str(model))
        known = docking.search(smiles, work / f"{name}_reference", reference_poses, calculator=surface.REFERENCE)
        ends = [docking.energy_by_reference(pose, steps=300) for pose in poses_of(folder)]
        theirs = docking.energy_by_reference(ase.io.read(work / f"{name}_reference" / "best.extxyz"), steps=300)[1]
        energies, calls = [end[1] for end in ends], sum(end[2] for end in ends)
        free = theirs - known["best_binding_eV"]  # of the molecule alone, up to the last relaxation's small change
        row = {
            "molecule": name,
            "found": min(energies) <= theirs + docking.SAME,
            "above_reference_meV": 1000 * (min(energies) - theirs),
            "binding_model_eV": learned["best_binding_eV"],
            "binding_model_by_reference_eV": energies[0] - free,
            "binding_reference_eV": known["best_binding_eV"],
            "reference_calls": known["evaluations"],
            "reference_calls_after_model": calls,
            "seconds_model": learned["seconds"],
            "seconds_reference": known["seconds"],
            "poses_model": poses,
            "poses_reference": reference_poses,
        }
        result.write_text(json.dumps(row, indent=1))
    return dict(json.loads(result.read_text()))


def poses_of(folder: Path) -> list[Atoms]:
    """The lowest distinct poses of a search."""
    return list(ase.io.read(folder / "poses.extxyz", ":"))[:RELAXED]


def summary(rows: list[Row], found: list[Row], calls: int) -> Row:
    """The largest errors of the saved method over all seeds, and what the search cost."""
    saved = [row for row in rows if (row["method"], row["group"]) == SAVED]
    binding = [abs(row["binding_model_eV"] - row["binding_model_by_reference_eV"]) for row in found]
    after = sum(row["reference_calls_after_model"] for row in found)
    return {name: max(row[name] for row in saved) for name in list(BARS)[:2]} | {
        "binding_error_meV": 1000 * max(binding),
        "found": sum(row["found"] for row in found),
        "searched": len(found),
        "reference_calls_of_frames": calls,
        "reference_calls_after_model": after,
        "reference_calls_total": calls + after,
        "reference_calls_of_search_alone": sum(row["reference_calls"] for row in found),
    }


def report(content: Row, output: Path) -> None:
    """JSON, page and picture."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n")
    plot(content, output.with_suffix(".png"))
    rows, whole = content["rows"], content
    trained = [row for row in rows if row["frames"]]
    share = whole["reference_calls_total"] / whole["reference_calls_of_search_alone"]
    columns = [f"{name}_{what}" for name in ("test", "unseen") for what in surface.KINDS]
    lines = [
        "# A wall on top of the base model\n",
        f"Made by `surface_base.py`, whose first lines describe what is compared: {trained[0]['frames']} frames of "
        f"{len(surface.MOLECULES)} molecules over Steele's wall, {trained[0]['train_seconds'] / 60:.1f} minutes of "
        "one core for each model, starting from the base model of the package. Unseen molecules are "
        f"{' and '.join(surface.UNSEEN)}. Errors are root mean squares. The net force is the force on a whole "
        "molecule, and all of it comes from the wall.\n",
        f"![force errors](results/{output.stem}.png)\n",
        "| method | group | seed | force (meV/A) | net force | energy (meV/atom) | unseen: force | net | energy |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['method']} | {r['group']} | {r['seed']} | {' | '.join(f'{r[column]:.3g}' for column in columns)} |"
        for r in rows
    ]
    lines += [
        "\n## Pose search\n",
        f"With `{SAVED[0]}` and `{SAVED[1]}` {whole['found']} of {whole['searched']} minima are found. The reference "
        f"was called {whole['reference_calls_of_frames']:,} times for the training and validation frames and "
        f"{whole['reference_calls_after_model']:,} times to relax the {RELAXED} best poses of every molecule; together "
        f"that is {100 * share:.0f} % of the {whole['reference_calls_of_search_alone']:,} calls of the search with the "
        f"reference alone. The largest error of a binding energy is {whole['binding_error_meV']:.0f} meV.\n",
        *docking.table(content["poses"], docking.TABLES["surface"]),
    ]
    if whole["searched"] < len(docking.UNSEEN):
        lines.append("The search is not finished: the other molecules are missing.")
    page = Path(__file__).with_suffix(".md") if output == OUTPUT else output.with_suffix(".md")
    page.write_text("\n".join(lines).rstrip() + "\n")


def plot(content: Row, path: Path) -> None:
    """Force errors of every method and group on seen and unseen molecules."""
    rows = content["rows"]
    runs = list(dict.fromkeys((row["method"], row["group"]) for row in rows))
    bars = {
        "test_force_rmse_meV_per_A": "same molecules", "unseen_force_rmse_meV_per_A": "unseen molecules",
        "unseen_net_force_rmse_meV_per_A": "unseen molecules, net force",
    }  # fmt: skip
    with picture(path, width=7.0) as (figure, [[axes]]):
        for offset, (key, label) in enumerate(bars.items()):
            for index, (method, group) in enumerate(runs):
                found = [row[key] for row in rows if (row["method"], row["group"]) == (method, group)]
                place, shown = index + 0.27 * (offset - 1), None if index else label
                axes.bar(place, np.mean(found), 0.25, color=f"C{offset}", label=shown)
                axes.plot([place] * len(found), found, "k.", markersize=3)
        names = ["base,\nno wall" if method.startswith("none") else f"{method},\n{group}" for method, group in runs]
        axes.set_xticks(range(len(runs)), names)
        axes.set(yscale="log", ylabel="force RMSE (meV/A)")
        figure.legend(loc="outside upper center", ncols=3)


def main() -> None:
    """Generate, train, search, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1.0, help="processor time of each training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--poses", type=int, default=30, help="poses of a search with the model")
    parser.add_argument("--reference-poses", type=int, default=60)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    calls = make_data(work, args.frames)
    rows = [untrained(work), *(train(work, *SAVED, seed, args.minutes) for seed in args.seeds)]
    model = work / f"{'_'.join(SAVED)}_seed{args.seeds[0]}" / "model.safetensors"
    found = []
    for name in tqdm(docking.UNSEEN, unit="molecule"):
        found.append(searched(work, name, model, args.poses, args.reference_poses))
        tqdm.write(json.dumps(found[-1]))
    report(summary(rows, found, calls) | {"rows": rows, "poses": found}, args.output)
    for method, group in RUNS[1:]:
        rows.append(train(work, method, group, args.seeds[0], args.minutes))
        tqdm.write(json.dumps(rows[-1]))
        report(summary(rows, found, calls) | {"rows": rows, "poses": found}, args.output)


if __name__ == "__main__":
    main()
