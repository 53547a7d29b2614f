"""Adsorbates on slabs with atoms: DFT relaxations of OC20, with the true forces on atoms that were held fixed.

    python examples/benchmarks/slabs.py --data-root DATA --work WORK [--minutes 10]

One model is for all systems. Relaxations differ in their elements, so only those whose elements all occur elsewhere
can be held out as a whole. Trained on the first four fifths of the other relaxations; tested on their last fifth (the
way to the minimum continues) and on the held-out relaxations. Slabs are periodic in three directions with vacuum, as in
the data.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols

from ik_e3nn.cli import main as command

OUTPUT = Path(__file__).parent / "results" / "slabs.json"
HELD_OUT = ("random1000169", "random1000193")
EVERY = 4  # neighboring steps of a relaxation are nearly the same
LATER = 0.8  # share of a relaxation that comes before the test frames
Row = dict[str, Any]


def relaxations(path: Path) -> dict[str, list[Atoms]]:
    """Frames of every relaxation, labeled, with the fixed atoms as a constraint."""
    systems = {}
    with np.load(path, allow_pickle=False) as data:
        for name in map(str, data["names"]):
            numbers, cell, fixed = (data[f"{name}_{key}"] for key in ("Z", "cell", "fixed"))
            frames = []
            for positions, energy, forces in zip(*(data[f"{name}_{key}"] for key in "REF"), strict=True):
                atoms = Atoms(numbers, positions, cell=cell, pbc=True, constraint=FixAtoms(mask=fixed.astype(bool)))
                atoms.info.update(REF_energy=float(energy), system=name)
                atoms.arrays["REF_forces"] = np.asarray(forces, dtype=np.float64)
                frames.append(atoms)
            systems[name] = frames
    return systems


def write_sets(systems: dict[str, list[Atoms]], work: Path) -> None:
    """Training, validation and both test sets.

    Raises:
        SystemExit: A held-out relaxation has an element that no other relaxation has.
    """
    others = {z for name, frames in systems.items() if name not in HELD_OUT for z in frames[0].numbers.tolist()}
    for name in HELD_OUT:
        alone = set(systems[name][0].numbers.tolist()) - others
        if alone:
            raise SystemExit(f"{name} cannot be held out: no other has {[chemical_symbols[z] for z in sorted(alone)]}")
    sets: dict[str, list[Atoms]] = {name: [] for name in ("train", "valid", "later", "held_out")}
    for name, frames in systems.items():
        if name in HELD_OUT:
            sets["held_out"] += frames[::EVERY]
            continue
        end = int(LATER * len(frames))
        sets["train"] += [frame for i, frame in enumerate(frames[:end:EVERY]) if i % 8 != 4]
        sets["valid"] += [frame for i, frame in enumerate(frames[:end:EVERY]) if i % 8 == 4]
        sets["later"] += frames[end::EVERY]
    for name, frames in sets.items():
        ase.io.write(work / f"{name}.xyz", frames, format="extxyz")


def errors(predicted: Path) -> Row:
    """Errors of forces on free and on fixed atoms, and of energies, with and without the mean error of each system."""
    frames = ase.io.read(predicted, ":")
    free = [np.ones(len(atoms), dtype=bool) for atoms in frames]
    for mask, atoms in zip(free, frames, strict=True):
        for constraint in atoms.constraints:
            mask[constraint.index] = False
    difference = np.concatenate([atoms.arrays["IK_forces"] - atoms.arrays["REF_forces"] for atoms in frames])
    is_free = np.concatenate(free)
    names = np.array([atoms.info["system"] for atoms in frames])
    energy = np.array([(atoms.info["IK_energy"] - atoms.info["REF_energy"]) / len(atoms) for atoms in frames])
    along = energy.copy()
    for name in set(names.tolist()):
        along[names == name] -= energy[names == name].mean()
    return {
        "frames": len(frames),
        "force_mae_free_meV_per_A": 1000 * float(np.abs(difference[is_free]).mean()),
        "force_mae_fixed_meV_per_A": 1000 * float(np.abs(difference[~is_free]).mean()),
        "force_rmse_meV_per_A": 1000 * float(np.sqrt((difference**2).mean())),
        "energy_mae_meV_per_atom": 1000 * float(np.abs(energy).mean()),
        "energy_along_relaxation_mae_meV_per_atom": 1000 * float(np.abs(along).mean()),
    }


def main() -> None:
    """Write the sets, train, test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with slabs/oc20_relaxations.npz")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    write_sets(relaxations(args.data_root / "slabs" / "oc20_relaxations.npz"), work)
    config, run = work / "config.yaml", work / "run"
    config.write_text(f"data: {{train: {work}/train.xyz, valid: {work}/valid.xyz}}\n")
    words = [
        f"--run.output={run}",
        f"--run.max_minutes={args.minutes}",
        "--run.max_epochs=100000",
        "--run.batch_size=2",
        "--optimizer.lr=0.01",  # the default diverges on so many elements in so few frames
    ]
    if command(["train", str(config), *words, "--run.overwrite=true", f"--model.preset={args.preset}"]):
        raise SystemExit("the training failed")
    rows = []
    for name in ("later", "held_out"):
        predicted = work / f"{name}_predicted.xyz"
        model = str(run / "model.safetensors")
        if command(["eval", model, str(work / f"{name}.xyz"), "-o", str(predicted), "--overwrite", "true"]):
            raise SystemExit("the evaluation failed")
        rows.append({"test": name, "preset": args.preset, "minutes": args.minutes, **errors(predicted)})
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
