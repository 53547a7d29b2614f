"""A ligand in the rigid pocket of a protein: what a site on top of the base model learns of it from 300 labels.

    python examples/benchmarks/pocket.py --work WORK --data-root DATA [--complex 1ia1] [--minutes 1]

The pocket is cut from a crystal structure: the pieces of amino acids and of the cofactor within 3.7 A of the ligand,
ends filled up with hydrogens, acids and bases neutral, all held fixed. Labels are GFN2-xTB energies of pocket and
ligand together, without that of the pocket, and the forces on the ligand. Half of the frames come from a stand-in (the
base model for the ligand; van der Waals forces and charges with the pocket): dynamics at 300 K from the crystal's
pose, and random poses after some steps away from contacts; ten are of the ligand alone. The other half come, in two
rounds, from a model that is trained on what there is: its dynamics, and what its relaxations pass through from random
poses.

Potentials on top of the base see the pocket as a site without atoms (``model: {group: C1, inputs: [site]}``), with the
usual degree of the external field and with a larger one (``field_degree``), by training the new parts alone or
everything, at equal processor time. ``O3`` cannot see the pocket. The saved model then searches for poses (``dock
--host site``). Its distinct poses are ranked again by one calculation each with the reference, and the best are relaxed
with it. They are compared with the crystal's pose, relaxed with the reference, and with relaxations by the reference
alone from a few random poses. Finished parts are stored in the work folder and skipped.
"""

import argparse
import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray
from pocket import frames, report
from pocket.cut import Pocket, cut
from rdkit import Chem
from surface import run

from ik_e3nn.data import atoms_from_mol
from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.dock import DockSettings, RegionSettings, run_dock
from ik_e3nn_calculators.dock.poses.cluster import PoseDistance
from ik_e3nn_calculators.dock.search.energies import CalculatorEnergies
from ik_e3nn_calculators.dock.search.relax import RelaxState, relax
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import read_ligand

OUTPUT = Path(__file__).parent / "results" / "pocket.json"
REFERENCE = "gfn2-xtb"
FIRST = {"dynamics": 60, "random": 90, "far": 10}
ROUNDS = {"second": 80, "third": 60}  # frames of models that are trained in between
TEST = {"dynamics": 30, "random": 30, "far": 0}
VALID = 10  # every tenth frame is for validation
DEGREE = 6  # of the external field
RADIUS = 1.0  # A, of the region in which poses begin
RELAXED = 3  # distinct poses of the model that are relaxed with the reference, after a calculation of each
FMAX = 0.05  # eV/A
SHARE = 0.35  # of the training time, for the models between rounds
Row = dict[str, Any]
Floats = NDArray[np.float64]


class Variant(NamedTuple):
    """A way to train on top of the base."""

    method: str
    group: str
    degree: int | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.method}_{self.group}" + (f"_degree{self.degree}" if self.degree else "")


SAVED = Variant("surroundings", "C1", DEGREE)
OTHERS = (Variant("full", "C1", DEGREE), Variant("surroundings", "C1"), Variant("full", "O3"))


def stand_in_frames(work: Path, pocket: Pocket, name: str, counts: dict[str, int], seed: int) -> list[Atoms]:
    """Frames of dynamics, random poses and poses far away with the stand-in, from the work folder if available."""
    base, start = IKCalculator("base"), atoms_from_mol(pocket.ligand)
    known = frames.StandIn(pocket, base)
    random = stored(work / f"{name}_random.xyz", lambda: frames.descents(pocket, base, counts["random"], seed))
    moving = stored(work / f"{name}_dynamics.xyz", lambda: frames.dynamics(start, known, counts["dynamics"], seed))
    return [*moving, *random, *frames.far(random[: counts["far"]])]


def model_frames(work: Path, pocket: Pocket, name: str, counts: dict[str, int], seed: int, model: Path) -> list[Atoms]:
    """Frames of dynamics and of relaxations from random poses with a model, from the work folder if available."""
    calculator, start = IKCalculator(str(model)), atoms_from_mol(pocket.ligand)
    moving = stored(work / f"{name}_dynamics.xyz", lambda: frames.dynamics(start, calculator, counts["dynamics"], seed))
    passed = stored(work / f"{name}_random.xyz", lambda: frames.relaxations(pocket, calculator, counts["random"], seed))
    return [*moving, *passed]


def stored(path: Path, make: Callable[[], list[Atoms]]) -> list[Atoms]:
    """Structures from a file, which is made first if it does not exist."""
    if not path.exists():
        ase.io.write(path, make(), format="extxyz")
    return list(ase.io.read(path, ":"))


def train(work: Path, variant: Variant, train_file: Path, minutes: float, seed: int = 0) -> Path:
    """The model file of one variant, trained if it does not exist."""
    folder = work / f"{variant.name}_{train_file.stem}_seed{seed}"
    if not (folder / "model.safetensors").exists():
        settings: dict[str, Any] = {
            "data.train": train_file, "data.valid": train_file.with_name(train_file.stem + "_valid.xyz"),
            "finetune.method": variant.method, "run.output": folder, "run.max_epochs": 100000,
            "run.max_minutes": minutes, "run.clock": "cpu", "run.seed": seed, "run.device": "cpu",
            "run.batch_size": 5, "run.progress": False, "run.overwrite": True,
        }  # fmt: skip
        if variant.group != "O3":
            settings |= {"model.group": variant.group, "model.inputs": '["site"]'}
        if variant.degree:
            settings["model.field_degree"] = variant.degree
        config = work / f"{folder.name}.yaml"
        config.write_text("{}\n")
        run(["finetune", "base", str(config), *(f"--{name}={value}" for name, value in settings.items())])
    return folder / "model.safetensors"


def split(labeled: list[Atoms], path: Path) -> Path:
    """Write a training set and, beside it, every tenth frame for validation; returns the training set."""
    ase.io.write(path, [a for i, a in enumerate(labeled) if i % VALID], format="extxyz")
    ase.io.write(path.with_name(path.stem + "_valid.xyz"), labeled[::VALID], format="extxyz")
    return path


def tested(model: Path | str, labeled: list[Atoms]) -> Row:
    """Errors of a model. What the pocket does is the difference from the model's own ligand far away."""
    calculator = IKCalculator(str(model))
    forces, pulls, nets, torques, energies = [], [], [], [], []
    for atoms in labeled:
        places = atoms.positions - atoms.positions.mean(axis=0)
        here, there = (frames.bare(one) for one in (atoms, frames.far([atoms])[0]))
        for one in (here, there):
            one.calc = calculator
        pull = here.get_forces() - there.get_forces() - atoms.arrays["pull"]
        forces.append(here.get_forces() - atoms.arrays["REF_forces"])
        pulls.append(pull)
        nets.append(pull.sum(axis=0))
        torques.append(np.cross(places, pull).sum(axis=0))
        energies.append(here.get_potential_energy() - there.get_potential_energy() - atoms.info["interaction"])
    return {
        "force_rmse_meV_per_A": root_mean_square(np.concatenate(forces)),
        "pocket_force_rmse_meV_per_A": root_mean_square(np.concatenate(pulls)),
        "net_force_rmse_meV_per_A": root_mean_square(nets),
        "torque_rmse_meV": root_mean_square(torques),
        "interaction_rmse_meV": root_mean_square(energies),
    }


def spread(labeled: list[Atoms]) -> Row:
    """Root mean squares of what the pocket does: the errors of a model that does not see it."""
    pulls = [atoms.arrays["pull"] for atoms in labeled]
    places = [atoms.positions - atoms.positions.mean(axis=0) for atoms in labeled]
    return {
        "pocket_force_rms_meV_per_A": root_mean_square(np.concatenate(pulls)),
        "net_force_rms_meV_per_A": root_mean_square([pull.sum(axis=0) for pull in pulls]),
        "torque_rms_meV": root_mean_square([np.cross(*pair).sum(axis=0) for pair in zip(places, pulls, strict=True)]),
        "interaction_rms_meV": root_mean_square([atoms.info["interaction"] for atoms in labeled]),
        "interaction_mean_meV": 1000 * float(np.mean([atoms.info["interaction"] for atoms in labeled])),
    }


def root_mean_square(values: Any) -> float:
    """In units of one thousandth."""
    return 1000 * float(np.sqrt(np.mean(np.square(values))))


class Relaxed(NamedTuple):
    """A pose relaxed with the reference: positions (N, 3), energy (eV), largest force (eV/A), calculations."""

    positions: Floats
    energy: float
    fmax: float
    calls: int


def relaxed(path: Path, pose: Atoms, host: Atoms, calculator: BaseCalculator, steps: int) -> Relaxed:
    """A pose of the ligand relaxed with the reference in the rigid pocket, from the work folder if available."""
    if not path.exists():
        energies = CalculatorEnergies(frames.bare(pose), Host(frames.bare(host), "pocket"), calculator=calculator)
        state = RelaxState.start(pose.positions[None])
        relax(state, energies, fmax=FMAX, steps=steps)
        found = (state.positions[0].tolist(), float(state.energies[0]), float(state.fmax[0]), energies.calls)
        path.write_text(json.dumps(found))
    positions, *others = json.loads(path.read_text())
    return Relaxed(np.array(positions), *others)


def search(work: Path, pocket: Pocket, model: Path, poses: int, starts: int, steps: int) -> Row:
    """Poses of the model, relaxed with the reference, beside the crystal's pose and a few random starts."""
    sdf = work / "ligand.sdf"
    sdf.write_text(Chem.MolToMolBlock(pocket.ligand) + "$$$$\n")
    folder = work / f"dock_{model.parent.name}"
    if not (folder / "summary.json").exists():
        settings = DockSettings(
            str(sdf), str(model), "site", region=RegionSettings(around=str(sdf), radius=RADIUS), poses=poses,
            conformers=1, fmax=FMAX, steps=150, output=str(folder), overwrite=True, device="cpu", plots=False,
        )  # fmt: skip
        run_dock(settings)
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    inside = [row for row in rows if not row["outside"] and row["cluster"] != "-1"]
    best: dict[str, dict[str, str]] = {}
    for row in inside:
        best.setdefault(row["cluster"], row)
    kept = list(ase.io.read(folder / "poses.extxyz", ":"))[: len(best)]
    calculator, ligand = make_calculator(REFERENCE), atoms_from_mol(pocket.ligand)

    def of_model(name: str, number: int, steps: int) -> Relaxed:
        path = work / f"{name}_{number}_{model.parent.name}.json"
        return relaxed(path, kept[number], pocket.host, calculator, steps)

    crystal = relaxed(work / "crystal.json", ligand, pocket.host, calculator, steps)
    single = [of_model("single", number, 0) for number in range(len(kept))]
    chosen = np.argsort([one.energy for one in single])[:RELAXED].tolist()
    ours = [of_model("model", number, steps) for number in chosen]
    begins = stored(work / "starts.xyz", lambda: frames.descents(pocket, IKCalculator("base"), starts, 5))
    alone = [
        relaxed(work / f"start_{i}.json", pose, pocket.host, calculator, steps)
        for i, pose in enumerate(begins[:starts])
    ]
    distance = same_molecule(sdf)
    lowest = min([crystal, *ours, *alone], key=lambda one: one.energy).energy
    return {
        "poses": summary["poses"], "distinct": summary["distinct"], "outside": summary["outside"],
        "converged": summary["converged"], "model_calls": summary["evaluations"],
        "best_binding_model_eV": summary["best_binding_eV"],
        "best_rmsd_to_crystal_A": float(inside[0]["rmsd_A"]) if inside else None,
        "least_rmsd_to_crystal_A": min(float(row["rmsd_A"]) for row in rows),
        "distinct_poses": [
            {"binding_eV": float(row["binding_eV"]), "rmsd_to_crystal_A": float(row["rmsd_A"]),
             "reference_above_lowest_meV": 1000 * (one.energy - lowest)}
            for row, one in zip(best.values(), single, strict=True)
        ],
        "crystal": end(crystal, lowest, distance(crystal.positions, ligand.positions)),
        "model": [
            {"rank": number + 1} | end(one, lowest, distance(one.positions, crystal.positions))
            for number, one in zip(chosen, ours, strict=True)
        ],
        "reference": [end(one, lowest, distance(one.positions, crystal.positions)) for one in alone],
    }  # fmt: skip


def end(one: Relaxed, lowest: float, rmsd: float) -> Row:
    """The end of a relaxation with the reference."""
    above = 1000 * (one.energy - lowest)
    return {"above_lowest_meV": above, "fmax_eV_per_A": one.fmax, "calls": one.calls, "rmsd_A": rmsd}


def same_molecule(sdf: Path) -> Callable[[Floats, Floats], float]:
    """The root mean square distance of the heavy atoms of two poses, whatever way the molecule maps onto itself."""
    ligand = read_ligand(str(sdf), 1, 0)
    distance = PoseDistance(ligand.automorphisms())
    return lambda one, other: distance(one[ligand.heavy], other[ligand.heavy])


def main() -> None:
    """Cut, label, train, search, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--data-root", type=Path, required=True, help="folder with protein_ligand/")
    parser.add_argument("--complex", default="1ia1")
    parser.add_argument("--labels", type=int, default=300, help="labels for training and validation in all")
    parser.add_argument("--minutes", type=float, default=1.0, help="processor time of each training")
    parser.add_argument("--poses", type=int, default=12, help="poses of the search with the model")
    parser.add_argument("--starts", type=int, default=2, help="random poses relaxed by the reference alone")
    parser.add_argument("--steps", type=int, default=60, help="most steps of a relaxation with the reference")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    pocket = cut(args.data_root / "protein_ligand" / args.complex)
    labels = frames.Labels(pocket.host, lambda: make_calculator(REFERENCE))

    def labeled(name: str, make: Callable[[], list[Atoms]]) -> list[Atoms]:
        path = work / f"{name}.xyz"
        return list(ase.io.read(path, ":")) if path.exists() else labels(make(), path)

    first = labeled("first", lambda: stand_in_frames(work, pocket, "first", FIRST, 0))
    whole = list(first)
    for number, name in enumerate(ROUNDS, start=1):
        count = min(ROUNDS[name], args.labels - len(whole))
        if count <= 0:
            break
        model = train(work, SAVED, split(whole, work / f"train{number}.xyz"), SHARE * args.minutes)
        counts = {"dynamics": count // 4, "random": count - count // 4}
        whole += labeled(name, partial(model_frames, work, pocket, name, counts, number + 1, model))
    test = labeled("test", lambda: stand_in_frames(work, pocket, "test", TEST, 1))
    last = split(whole, work / "train.xyz")
    sets = {"dynamics": test[: TEST["dynamics"]], "random": test[TEST["dynamics"] :]}
    content: Row = {
        "complex": args.complex, "host_atoms": len(pocket.host), "ligand_atoms": pocket.ligand.GetNumAtoms(),
        "minutes": args.minutes, "labels": len(whole), "of_first": len(first),
        "test": {name: spread(part) | {"frames": len(part)} for name, part in sets.items()}, "errors": [],
    }  # fmt: skip

    def measured(name: str, model: Path | str) -> Row:
        result = work / f"errors_{name}.json"
        if not result.exists():
            result.write_text(json.dumps({kind: tested(model, part) for kind, part in sets.items()}))
        return {"model": name} | dict(json.loads(result.read_text()))

    page = Path(__file__).with_suffix(".md") if args.output == OUTPUT else args.output.with_suffix(".md")
    saved = train(work, SAVED, last, args.minutes)
    content["errors"] = [measured("base", model_path("base")), measured(SAVED.name, saved)]
    content["search"] = search(work, pocket, saved, args.poses, args.starts, args.steps)
    report.write(content, args.output, page)
    for one in OTHERS:
        content["errors"].append(measured(one.name, train(work, one, last, args.minutes)))
        report.write(content, args.output, page)


if __name__ == "__main__":
    main()
