"""Molecules over crystal faces without atoms: a model that knows the lattice against one that only knows the normal.

    python examples/benchmarks/face.py --work WORK [--minutes 1] [--cases xenon111 xenon100 copper100 graphene]

Data: molecules over rigid slabs, by ``ik-e3nn data generate --substrate``, which leaves the atoms of the slab out. One
half of the frames is put at random places, the other is dynamics of adsorbed molecules (over graphene, which is costly,
both halves are put at random places, the second near the face). Xenon is a crystal of Lennard-Jones atoms, see
``lj_slab.py``, copper, with an adatom of silver, is that of ASE's EMT, and graphene is GFN2-xTB. The models are
"field", the base model of the package with a fitted field on single atoms, and "face", which starts from that and is
trained. A flat model predicts no force along the face, so that its error there needs no training; ``--models face
flat`` trains one as well. For xenon and copper, sites, heights and barriers are compared with the reference, and argon
moves over the face for 10 ps at constant energy. Finished parts are stored in the work folder and skipped.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc111, graphene
from ase.optimize import BFGS
from tqdm import tqdm

from ik_e3nn.cli import main as command
from ik_e3nn.data import molecule_from_smiles, suggest_face
from ik_e3nn.data.generation.labeling import StateCalculator
from ik_e3nn.data.generation.over_surface import OverSubstrate, centered
from ik_e3nn.graph.build import heights_over_surface
from ik_e3nn.pictures import picture
from ik_e3nn_calculators import IKCalculator, MDSettings, run_md
from ik_e3nn_calculators.md.velocities import set_thermal_velocities

OUTPUT = Path(__file__).parent / "results" / "face.json"
MODEL = {"num_channels": 16, "num_layers": 2, "l_max": 2, "l_features": 1, "correlation": 2}
LR, BASE_LR = 0.05, 0.001  # from scratch; from the base with a fitted field, near what is to be found
STILL = 1e-7  # learning rate at which only the fit of the field before the training counts
FLIGHT_PS, TIMESTEP, TEMPERATURE = 10.0, 4.0, 200.0
Row = dict[str, Any]


class Case(NamedTuple):
    """One face.

    Attributes:
        slab: The substrate.
        calculator: The reference.
        molecules: SMILES by name.
        heights: Of the lowest atom of frames at random places, in A.
        adsorbed: Height at which dynamics of adsorbed molecules begin, in A.
        contact: Frames with an atom below this height count as in contact, in A.
        frames: Training frames for each molecule.
        tests: Test frames for each molecule.
        near: For costly references: heights of the second half of the frames, which then are no dynamics, in A.
        base: Whether the model starts from the base that comes with the package, which knows GFN2-xTB.
            If not, structures are relaxed with the reference before the dynamics.
        interval: Steps of the dynamics between frames.
    """

    slab: Atoms
    calculator: str
    molecules: dict[str, str]
    heights: tuple[float, float]
    adsorbed: float
    contact: float
    frames: int = 200
    tests: int = 200
    near: tuple[float, float] | None = None
    base: bool = True
    interval: int = 50


def slab(atoms: Atoms) -> Atoms:
    """Without notes on adsorption sites, and open along z."""
    atoms.info, atoms.pbc = {}, (True, True, False)
    return atoms


XENON = {"argon": "[Ar]", "benzene": "c1ccccc1"}
CASES = {
    "xenon111": Case(
        slab(fcc111("Xe", (1, 1, 4), a=6.13, vacuum=8.0)), "lj_slab:XenonSlab", XENON, (2.8, 20.0), 3.5, 4.2
    ),
    "xenon100": Case(
        slab(fcc100("Xe", (1, 1, 4), a=6.13, vacuum=8.0)), "lj_slab:XenonSlab", XENON, (2.8, 20.0), 3.5, 4.2, 100, 60,
        interval=20,
    ),
    "copper100": Case(
        slab(fcc100("Cu", (5, 5, 3), vacuum=8.0)), "emt", {"silver": "[Ag]"}, (1.6, 12.0), 2.0, 2.6, 200, 100,
        base=False, interval=20,
    ),
    "graphene": Case(
        slab(graphene("C2", size=(4, 4, 1), vacuum=8.0)), "gfn2-xtb", {"water": "O"}, (2.0, 12.0), 2.6, 3.0, 60, 20,
        near=(2.1, 3.2),
    ),
}  # fmt: skip
SITES = {
    "xenon111": {"top": (0, 0), "bridge": (0.5, 0), "fcc hollow": (1 / 3, 1 / 3), "hcp hollow": (2 / 3, 2 / 3)},
    "xenon100": {"top": (0, 0), "bridge": (0.5, 0), "hollow": (0.5, 0.5)},
    "copper100": {"top": (0, 0), "bridge": (0.1, 0), "hollow": (0.1, 0.1)},
}


FLOWN, FLYING = "xenon111", "argon"  # what moves at constant energy, and where


def run(words: list[str]) -> None:
    """Run a command of this library.

    Raises:
        SystemExit: The command failed.
    """
    if command(words):
        raise SystemExit(f"failed: ik-e3nn {' '.join(words)}")


def generate(work: Path, name: str) -> None:
    """Training, validation and test sets: files of frames at random places and of adsorbed molecules."""
    case = CASES[name]
    work.mkdir(parents=True, exist_ok=True)
    ase.io.write(work / "slab.xyz", case.slab)
    for molecule, smiles in case.molecules.items():
        atoms = molecule_from_smiles(smiles)
        atoms.positions -= atoms.positions.mean(axis=0)
        if len(atoms) > 2:
            _, axes = np.linalg.eigh(atoms.positions.T @ atoms.positions)
            atoms.positions = atoms.positions @ axes[:, ::-1]  # flat
        atoms.positions[:, 2] += case.adsorbed - atoms.positions[:, 2].min()
        ase.io.write(work / f"start_{molecule}.xyz", atoms, format="extxyz")
    lateral = float(np.abs(suggest_face(case.slab).cell).sum())
    for part, count, seed in (
        ("train", case.frames, 0),
        ("valid", 20 if case.near else 40, 1),
        ("test", case.tests, 2),
    ):
        for kind in ("random", "adsorbed"):
            path = work / f"{part}_{kind}.xyz"
            if path.exists():
                continue
            words = ["data", "generate", "--output", str(path), "--substrate", str(work / "slab.xyz")]
            words += ["--calculator", case.calculator, "--num_frames", str(count // 2), "--seed", str(seed)]
            heights = case.heights if kind == "random" else case.near
            if heights:
                words += ["--smiles", json.dumps(list(case.molecules.values())), "--num_conformers", "1"]
                words += ["--heights", json.dumps(heights), "--lateral", f"{lateral:.3f}"]
            else:
                starts = [str(work / f"start_{molecule}.xyz") for molecule in case.molecules]
                words += ["--structures", json.dumps(starts)]
            if case.near:
                words += ["--method", "rattle"]
            else:
                relax = str(not case.base).lower()
                words += ["--temperatures", "[150, 300]", "--relax", relax, "--timestep", "1", "--equilibration"]
                words += ["20", "--interval", "5"] if heights else ["100", "--interval", str(case.interval)]
            run([*words, "--isolated_atoms", "true"] if part == "train" else words)


def train(work: Path, name: str, model: str, seed: int, minutes: float) -> Row:
    """Errors of one model from the work folder if available.

    Args:
        work: The folder of the case.
        name: The case.
        model: "field" (the base, to which only the field on single atoms is fitted), "face" (trained) or "flat".
        seed: Random seed.
        minutes: Processor time of the training.
    """
    folder = work / f"{model}_seed{seed}"
    result, file = folder.with_suffix(".json"), folder / "model.safetensors"
    group: Any = suggest_face(centered(ase.io.read(work / "slab.xyz"))).group.to_config()
    if not file.exists():
        settings: dict[str, Any] = {
            **{f"data.{part}": json.dumps([str(path) for path in sorted(work.glob(f"{part}_*.xyz"))])
               for part in ("train", "valid")},
            "run.output": folder, "run.overwrite": True, "run.max_epochs": 10_000, "run.max_minutes": minutes,
            "run.clock": "cpu", "run.seed": seed, "run.device": "cpu", "run.batch_size": 5, "run.progress": False,
            "run.num_threads": 1, "model.group": "Cinfv" if model == "flat" else json.dumps(group),
            "model.inputs": json.dumps(["surface" if model == "flat" else "face"]),
        }  # fmt: skip
        if model == "field":
            settings |= {"finetune.method": "surroundings", "optimizer.lr": STILL, "run.max_epochs": 1}
        elif CASES[name].base:
            settings["optimizer.lr"] = BASE_LR
        else:
            settings |= {"optimizer.lr": LR} | {f"model.{key}": value for key, value in MODEL.items()}
        config = work / f"{folder.name}.yaml"
        config.write_text("{}\n")
        words = ["finetune", "base"] if CASES[name].base else ["train"]
        run([*words, str(config), *(f"--{key}={value}" for key, value in settings.items())])
    if not result.exists():
        metrics = json.loads((folder / "metrics.json").read_text())
        row = {"case": name, "model": model, "seed": seed, "train_seconds": metrics["seconds"]}
        row |= {"epochs": metrics["epochs"], "parameters": metrics["parameters"]}
        contact = CASES[name].contact
        known = errors(predictions(work, folder, "valid"), contact)
        row["valid_net_force_rmse_meV_per_A"] = float(
            np.hypot(known["lateral_force_rmse_meV_per_A"], known["normal_force_rmse_meV_per_A"])
        )
        row |= errors(predictions(work, folder, "test"), contact)
        result.write_text(json.dumps(row, indent=1))
    return dict(json.loads(result.read_text()))


def predictions(work: Path, folder: Path, part: str) -> list[Atoms]:
    """Frames of a part with labels and predictions of a model."""
    frames = []
    for kind in ("random", "adsorbed"):
        predicted = folder / f"{part}_{kind}.xyz"
        words = ["eval", str(folder / "model.safetensors"), str(work / predicted.name), "-o", str(predicted)]
        run([*words, "--overwrite", "true"])
        frames += ase.io.read(predicted, ":")
    return frames


def errors(frames: list[Atoms], contact: float) -> Row:
    """Root mean square errors of forces, of lateral forces on whole molecules in contact, and of energies."""
    forces = [a.arrays["IK_forces"] - a.arrays["REF_forces"] for a in frames]
    energies = [(a.info["IK_energy"] - a.info["REF_energy"]) / len(a) for a in frames]
    touching = [i for i, atoms in enumerate(frames) if heights_over_surface(atoms).min() < contact]
    net, true = ([f[i].sum(0) for i in touching] for f in (forces, [a.arrays["REF_forces"] for a in frames]))
    return {
        "force_rmse_meV_per_A": 1000 * float(np.sqrt(np.mean(np.concatenate(forces) ** 2))),
        "lateral_force_rmse_meV_per_A": 1000 * float(np.sqrt(np.mean(np.square(net)[:, :2]))),
        "normal_force_rmse_meV_per_A": 1000 * float(np.sqrt(np.mean(np.square(net)[:, 2]))),
        "lateral_force_rms_meV_per_A": 1000 * float(np.sqrt(np.mean(np.square(true)[:, :2]))),
        "energy_rmse_meV_per_atom": 1000 * float(np.sqrt(np.mean(np.square(energies)))),
        "frames_in_contact": len(touching),
    }


def lattice(work: Path) -> Row:
    """The lattice of the face, as it is in the data."""
    info = ase.io.read(work / "train_adsorbed.xyz", "-1").info
    return {key: info[key] for key in ("surface_cell", "surface_origin")}


class Above:
    """Keeps the center of a molecule where it is along the face, while all else is free."""

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Remove the lateral motion of the center."""
        new[:, :2] -= (new - atoms.positions)[:, :2].mean(axis=0)

    def adjust_forces(self, atoms: Atoms, forces: np.ndarray) -> None:
        """Remove the lateral force on the whole molecule."""
        forces[:, :2] -= forces[:, :2].mean(axis=0)

    def get_removed_dof(self, atoms: Atoms) -> int:
        """Two directions."""
        return 2


def relaxed(atoms: Atoms, calculator: Any, *, held: bool) -> tuple[float, Atoms]:
    """Energy and structure after relaxation, with the center held along the face or free."""
    atoms = atoms.copy()
    atoms.calc = calculator
    atoms.set_constraint([Above()] if held else [])
    with BFGS(atoms, logfile=None) as optimizer:
        optimizer.run(fmax=0.003, steps=200)
    energy = float(atoms.get_potential_energy())
    atoms.set_constraint()
    return energy, atoms


def sites(work: Path, name: str, kind: str, seed: int) -> list[Row]:
    """Binding energies and heights of every molecule at every site, by the reference and by a model."""
    folder = f"{kind}_seed{seed}"
    result, model = work / f"sites_{folder}.json", work / folder / "model.safetensors"
    if result.exists():
        return list(json.loads(result.read_text()))
    crystal = ase.io.read(work / "slab.xyz")
    top = centered(crystal).positions[crystal.positions[:, 2].argmax()]
    methods = {
        "reference": OverSubstrate(StateCalculator(CASES[name].calculator), crystal),
        "model": IKCalculator(str(model), device="cpu", dtype="float64"),
    }
    rows = []
    for molecule in CASES[name].molecules:
        start = ase.io.read(work / f"start_{molecule}.xyz")
        start.info |= lattice(work)
        far = start.copy()
        far.positions[:, 2] += 60.0
        free = {method: relaxed(far, calculator, held=False)[0] for method, calculator in methods.items()}
        for site, u in SITES[name].items():
            row: Row = {"case": name, "model": kind, "seed": seed, "molecule": molecule, "site": site}
            for method, calculator in methods.items():
                found = []
                for angle in (0, 30) if len(start) > 1 else (0,):
                    atoms = start.copy()
                    atoms.rotate(angle, "z", center=atoms.positions.mean(axis=0))
                    atoms.positions += top * [1, 1, 0] + np.array(u) @ crystal.cell.array[:2]
                    found.append(relaxed(atoms, calculator, held=True))
                energy, atoms = min(found, key=lambda one: one[0])
                row[f"{method}_meV"] = 1000 * (energy - free[method])
                row[f"{method}_height_A"] = float(atoms.positions[:, 2].mean())
            rows.append(row)
        best = {m: min(rows[-len(SITES[name]) :], key=lambda row, m=m: row[f"{m}_meV"]) for m in methods}
        place = start.copy()
        place.positions += top * [1, 1, 0] + np.array(SITES[name][best["model"]["site"]]) @ crystal.cell.array[:2]
        ends = [relaxed(place, calculator, held=False)[1].positions.mean(axis=0) for calculator in methods.values()]
        for row in rows[-len(SITES[name]) :]:
            row["minimum_apart_A"] = float(np.linalg.norm(ends[0] - ends[1]))
    result.write_text(json.dumps(rows, indent=1))
    return rows


def chosen(rows: list[Row], case: str) -> str:
    """The model of a case with the smallest error of the net force on validation frames; "" if there is none."""
    own = [row for row in rows if row["case"] == case and row["model"] != "flat"]
    return str(min(own, key=lambda row: row["valid_net_force_rmse_meV_per_A"])["model"]) if own else ""


def flight(work: Path, name: str, kind: str, seed: int) -> Row:
    """A molecule moves over the face at constant energy."""
    folder, file = work / f"flight_{kind}", work / f"flight_{kind}.json"
    model = work / f"{kind}_seed{seed}" / "model.safetensors"
    if not file.exists():
        start = ase.io.read(work / f"start_{FLYING}.xyz")
        start.info |= lattice(work)
        set_thermal_velocities(start, TEMPERATURE, np.random.default_rng(0))
        start.set_velocities(start.get_velocities() + np.array([0.02, 0.01, 0.0]))  # some A in a ps along the face
        start.write(work / "launch.xyz", format="extxyz")
        settings = MDSettings(
            str(work / "launch.xyz"), str(model), time_ps=FLIGHT_PS, timestep=TIMESTEP, velocities="file",
            overwrite=True, output=str(folder), device="cpu", progress=False,
        )  # fmt: skip
        summary = run_md(settings)
        frames = ase.io.read(summary.trajectory, ":")
        path = np.array([atoms.get_center_of_mass() for atoms in frames])
        u = path[:, :2] @ np.linalg.inv(np.array(start.info["surface_cell"])[:, :2])
        log = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
        row = {
            "case": name,
            "model": kind,
            "molecule": FLYING,
            "time_ps": summary.time_ps,
            "timestep_fs": TIMESTEP,
            "drift_meV_per_atom_per_ps": summary.drift_meV_per_atom_per_ps,
            "largest_deviation_meV_per_atom": 1000 * float(np.abs(log["etot"] - log["etot"][0]).max()) / len(start),
            "cells_visited": len({tuple(cell) for cell in np.floor(u).astype(int).tolist()}),
            "path_A": path[:: max(len(path) // 200, 1)].round(2).tolist(),
        }
        file.write_text(json.dumps(row, indent=1))
    return dict(json.loads(file.read_text()))


def differences(rows: list[Row]) -> list[Row]:
    """Errors of the model for every case and molecule: adsorption, heights, and energies between sites."""
    found = []
    keys = ("case", "model", "seed", "molecule")
    for case, model, seed, molecule in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in keys) == (case, model, seed, molecule)]
        of = {m: {row["site"]: row[f"{m}_meV"] for row in own} for m in ("reference", "model")}
        best = {m: min(of[m], key=of[m].__getitem__) for m in of}
        lowest = of["reference"][best["reference"]]
        saddle = {m: of[m]["bridge"] - min(of[m].values()) for m in of}
        found.append({
            "case": case,
            "model": model,
            "seed": seed,
            "molecule": molecule,
            "site_is_right": of["reference"][best["model"]] - lowest < 1.0,
            "site": best["reference"],
            "binding_meV": lowest,
            "site_energy_error_meV": max(abs(of["model"][site] - of["reference"][site]) for site in of["model"]),
            "barrier_meV": saddle["reference"],
            "barrier_error_meV": abs(saddle["model"] - saddle["reference"]),
            "height_error_A": max(abs(row["model_height_A"] - row["reference_height_A"]) for row in own),
            "minimum_apart_A": own[0]["minimum_apart_A"],
        })  # fmt: skip
    return found


def report(rows: list[Row], places: list[Row], dynamics: list[Row], output: Path) -> None:
    """JSON, page and plot."""
    output.parent.mkdir(parents=True, exist_ok=True)
    best = chosen(rows, FLOWN)
    of = [row for row in rows if (row["case"], row["model"]) == (FLOWN, best)]
    between = differences(places)
    bound = [row for row in between if (row["case"], row["model"]) == (FLOWN, best)]
    headline = {
        "case": FLOWN,
        "model": best,
        "lateral_force_rmse_meV_per_A": max((r["lateral_force_rmse_meV_per_A"] for r in of), default=None),
        "flat_lateral_force_rmse_meV_per_A": max((r["lateral_force_rms_meV_per_A"] for r in of), default=None),
        "site_energy_error_meV": max((r["site_energy_error_meV"] for r in bound), default=None),
        "barrier_error_meV": max((r["barrier_error_meV"] for r in bound), default=None),
        "height_error_A": max((r["height_error_A"] for r in bound), default=None),
        "drift_meV_per_atom_per_ps": max((abs(r["drift_meV_per_atom_per_ps"]) for r in dynamics), default=None),
    }
    whole = headline | {"errors": rows, "sites": places, "differences": between, "dynamics": dynamics}
    output.write_text(json.dumps(whole, indent=1) + "\n")
    plot(rows, places, dynamics, output.with_suffix(".png"))
    page = Path(__file__).with_suffix(".md") if output == OUTPUT else output.with_suffix(".md")
    page.write_text("\n".join(text(rows, between, places, dynamics, output)) + "\n")


def text(rows: list[Row], between: list[Row], places: list[Row], dynamics: list[Row], output: Path) -> list[str]:
    """Lines of the page."""
    lines = [
        "# Molecules over crystal faces without atoms\n",
        "Made by `face.py`: molecules over rigid slabs, whose atoms are left out. `field` is the base model of the "
        "package, to which the field of the face on single atoms is fitted by least squares, and nothing else. `face` "
        "starts from that and is trained as a whole; over copper, whose reference is not that of the base, it starts "
        "from a fitted field alone. A flat model (`Cinfv`) knows only the normal and predicts no force along the face, "
        "whatever it is trained on: its error is all of the force that there is. Errors are root mean squares over "
        "frames that no model has seen; forces along the face and along the normal are those on whole molecules in "
        "contact. Validation frames choose between the models, by the net force on molecules in contact "
        "(`validation`).\n",
        f"![errors, sites and a path](results/{output.stem}.png)\n",
        "The left panel is in units of the error of a flat model.\n",
        "| face | model | seed | processor time (s) | validation (meV/A) | along the face | there are | "
        "along the normal | all forces | energy (meV/atom) |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    keys = ("valid_net_force_rmse", "lateral_force_rmse", "lateral_force_rms", "normal_force_rmse", "force_rmse")
    lines += [
        f"| {r['case']} | {r['model']} | {r['seed']} | {r['train_seconds']:.0f} | "
        f"{' | '.join(format(r[f'{key}_meV_per_A'], '.3g') for key in keys)} | {r['energy_rmse_meV_per_atom']:.2g} |"
        for r in rows
    ]
    lines += [
        "\nMolecules relaxed with their center held at a site; energies relative to the molecule far away. Errors are "
        "the largest over all sites. The barrier is that at the bridge.\n",
        "| face | model | molecule | best site | found | binding (meV) | error at sites | barrier | error | "
        "height error (A) | minimum off by (A) |",
        "|---|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['case']} | {r['model']} | {r['molecule']} | {r['site']} | {'yes' if r['site_is_right'] else 'no'} | "
        f"{r['binding_meV']:.1f} | {r['site_energy_error_meV']:.2f} | {r['barrier_meV']:.2f} | "
        f"{r['barrier_error_meV']:.2f} | {r['height_error_A']:.3f} | {r['minimum_apart_A']:.3f} |"
        for r in between
    ]
    lines += [
        "\n| face | model | molecule | site | reference (meV) | model | height (A) | model |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['case']} | {r['model']} | {r['molecule']} | {r['site']} | {r['reference_meV']:.1f} | "
        f"{r['model_meV']:.1f} | {r['reference_height_A']:.3f} | {r['model_height_A']:.3f} |"
        for r in places
    ]
    lines += [
        f"\n{FLYING.capitalize()} over the face at constant energy, from {TEMPERATURE:g} K and pushed along x with "
        "2 A/ps, float32:\n",
        "| face | time (ps) | time step (fs) | drift (meV/atom/ps) | largest deviation (meV/atom) | cells visited |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['case']} | {r['time_ps']:g} | {r['timestep_fs']:g} | {r['drift_meV_per_atom_per_ps']:+.4f} | "
        f"{r['largest_deviation_meV_per_atom']:.3f} | {r['cells_visited']} |"
        for r in dynamics
    ]
    return lines


def plot(rows: list[Row], places: list[Row], dynamics: list[Row], path: Path) -> None:
    """Errors along the face, energies at sites, and the path of a molecule."""
    with picture(path, 1, 3) as (_, [[left, middle, right]]):
        cases = list(dict.fromkeys(row["case"] for row in rows))
        for offset, label in enumerate(("field", "face")):
            of = {r["case"]: r for r in reversed(rows) if r["model"] == label}
            shares = [r["lateral_force_rmse_meV_per_A"] / r["lateral_force_rms_meV_per_A"] for r in of.values()]
            if of:
                left.barh([cases.index(case) + 0.4 * (offset - 0.5) for case in of], shares, 0.36, label=label)
        left.set_yticks(range(len(cases)), cases)
        left.set(xlabel="error of force along the face", xlim=(0, 1))
        left.invert_yaxis()
        left.legend(loc="upper right")
        here = [row for row in places if row["case"] == FLOWN]
        for number, (model, molecule) in enumerate(dict.fromkeys((row["model"], row["molecule"]) for row in here)):
            own = [row for row in here if (row["model"], row["molecule"]) == (model, molecule)]
            values = [[row[f"{method}_meV"] for row in own] for method in ("reference", "model")]
            middle.plot(*values, "o^sv"[number], fillstyle="none", label=f"{molecule}, {model}")
        if here:
            middle.axline((0, 0), slope=1, color="gray", linewidth=0.8, zorder=0)
            middle.legend(loc="lower right")
        middle.set(xlabel="binding at sites, reference (meV)", ylabel="model (meV)", title=FLOWN)
        for row in dynamics:
            x, y, _ = np.array(row["path_A"]).T
            right.plot(x, y, linewidth=0.8)
        right.set(xlabel="x (Å)", ylabel="y (Å)", title=f"center of {FLYING} in 10 ps")


def main() -> None:
    """Generate, train, compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--models", nargs="+", help="field, face and flat; by default the first two")
    parser.add_argument("--minutes", type=float, default=1.0, help="processor time of each training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    rows, places, dynamics = [], [], []
    for name in args.cases:
        work = args.work.resolve() / name
        generate(work, name)
        for model in args.models or (("field", "face") if CASES[name].base else ("face",)):
            for seed in args.seeds if model != "field" else args.seeds[:1]:  # a fit is the same for all seeds
                row = train(work, name, model, seed, args.minutes)
                tqdm.write(f"{name:10s} {model} {row['lateral_force_rmse_meV_per_A']:7.2f} meV/A along the face")
                rows.append(row)
                if name in SITES and seed == args.seeds[0]:
                    places += sites(work, name, model, seed)
    if kind := chosen(rows, FLOWN):
        dynamics.append(flight(args.work.resolve() / FLOWN, FLOWN, kind, args.seeds[0]))
    report(rows, places, dynamics, args.output)


if __name__ == "__main__":
    main()
