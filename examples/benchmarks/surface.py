"""Potentials of molecules over a graphite surface, which know of the wall or not.

    python examples/benchmarks/surface.py --work WORK [--frames 200] [--epochs 300] [--groups Cinfv O3]

Data: GFN2-xTB dynamics of small molecules, every frame randomly rotated and put at a random height over Steele's wall,
by ``ik-e3nn data generate``. The energy is then invariant under all rotations about the normal and all mirrors that
contain it: "Cinfv" is its symmetry, and "O3" is a potential that does not depend on the wall. Both have the same
hyperparameters except the group; groups.py compares more groups, at equal time. Tests are on other frames of the same
molecules and on molecules that are not in the training data. With the model of the first group, an unknown molecule
then flies at the wall from above, at constant energy. Finished parts are stored in the work folder and skipped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from tqdm import tqdm

from ik_e3nn.cli import main as command
from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.pictures import picture
from ik_e3nn_calculators.md.run import MDSettings, run_md
from ik_e3nn_calculators.md.velocities import set_thermal_velocities

OUTPUT = Path(__file__).parent / "results" / "surface.json"
MOLECULES = {
    "methanol": "CO", "acetaldehyde": "CC=O", "acetic acid": "CC(=O)O", "ethylamine": "CCN", "acetonitrile": "CC#N",
    "benzene": "c1ccccc1", "formamide": "NC=O", "dimethyl ether": "COC",
}  # fmt: skip
UNSEEN = {"ethanol": "CCO", "furan": "c1ccoc1"}
REFERENCE = "gfn2-xtb+steele"
SETS = ("train", "valid", "test", "unseen")
HEIGHTS = "[2.4, 9.0]"
GROUPS = ("Cinfv", "O3")
VALID, TEST = 80, 400
LR = 0.02
LAUNCH, SPEEDS = 8.0, (2.0, 6.0, 10.0)  # height in A and speeds in A/ps of a molecule that flies at the wall
FLIGHT_PS, TIMESTEP = 10.0, 0.5
MODEL = {"num_channels": 16, "num_layers": 2, "l_max": 2, "l_features": 1, "correlation": 2}
KINDS = ("force_rmse_meV_per_A", "net_force_rmse_meV_per_A", "energy_rmse_meV_per_atom")
Row = dict[str, Any]


def run(words: list[str]) -> None:
    """Run a command of this library.

    Raises:
        SystemExit: The command failed.
    """
    if command(words):
        raise SystemExit(f"failed: ik-e3nn {' '.join(words)}")


def generate(work: Path, frames: int, calculator: str = REFERENCE, wanted: Sequence[str] = SETS) -> None:
    """Training, validation and test sets from separate dynamics."""
    names = {"train": (MOLECULES, frames, 0), "valid": (MOLECULES, VALID, 1), "test": (MOLECULES, TEST, 2)}
    names["unseen"] = (UNSEEN, 100, 3)
    for name in wanted:
        (molecules, count, seed), path = names[name], work / f"{name}.xyz"
        if path.exists():
            continue
        each = -(-count // len(molecules))
        words = ["data", "generate", "--smiles", json.dumps(list(molecules.values())), "--output", str(path)]
        words += ["--calculator", calculator, "--heights", HEIGHTS, "--num_frames", str(each)]
        words += ["--temperatures", "[300, 500]", "--interval", "20", "--seed", str(seed), "--num_conformers", "1"]
        run([*words, "--isolated_atoms", "true"] if name == "train" else words)


def train(work: Path, group: str, seed: int, epochs: int) -> Row:
    """Errors of one model, from the work folder if available."""
    folder = work / f"{group}_seed{seed}"
    result, model = folder.with_suffix(".json"), folder / "model.safetensors"
    if not model.exists():
        settings: dict[str, Any] = {
            "data.train": work / "train.xyz", "data.valid": work / "valid.xyz",
            "run.output": folder, "run.overwrite": True, "run.max_epochs": epochs, "run.seed": seed,
            "run.device": "cpu", "run.batch_size": 5, "run.progress": False, "optimizer.lr": LR, "model.group": group,
            "model.inputs": json.dumps([] if group == "O3" else ["surface"]),
        }  # fmt: skip
        settings |= {f"model.{name}": value for name, value in MODEL.items()}
        config = work / f"{folder.name}.yaml"
        config.write_text("{}\n")
        run(["train", str(config), *(f"--{name}={value}" for name, value in settings.items())])
    if not result.exists():
        metrics = json.loads((folder / "metrics.json").read_text())
        row = {"group": group, "seed": seed, "frames": count(work / "train.xyz")}
        for name in ("test", "unseen"):
            predicted = folder / f"{name}.xyz"
            run(["eval", str(model), str(work / f"{name}.xyz"), "-o", str(predicted), "--overwrite", "true"])
            row |= {f"{name}_{key}": value for key, value in errors(predicted).items()}
        row |= {
            "train_seconds": metrics["seconds"], "epochs": metrics["epochs"], "parameters": metrics["parameters"],
        }  # fmt: skip
        result.write_text(json.dumps(row, indent=1))
    return dict(json.loads(result.read_text()))


def count(path: Path) -> int:
    """Number of frames that are not isolated atoms."""
    return sum(len(atoms) > 1 for atoms in ase.io.read(path, ":"))


def errors(predicted: Path) -> Row:
    """Root mean square errors of forces, of net forces of the wall on molecules, and of energies."""
    frames = ase.io.read(predicted, ":")
    forces = [a.arrays["IK_forces"] - a.arrays["REF_forces"] for a in frames]
    energies = [(a.info["IK_energy"] - a.info["REF_energy"]) / len(a) for a in frames]
    return {
        "force_rmse_meV_per_A": 1000 * float(np.sqrt(np.mean(np.concatenate(forces) ** 2))),
        "net_force_rmse_meV_per_A": 1000 * float(np.sqrt(np.mean([f.sum(0) ** 2 for f in forces]))),
        "energy_rmse_meV_per_atom": 1000 * float(np.sqrt(np.mean(np.square(energies)))),
    }


def launched(smiles: str, speed: float, seed: int) -> Atoms:
    """A molecule at 300 K that moves toward the wall."""
    atoms = molecule_from_smiles(smiles)
    set_thermal_velocities(atoms, 300.0, np.random.default_rng(seed))
    atoms.positions[:, 2] += LAUNCH - atoms.get_center_of_mass()[2]
    atoms.set_velocities(atoms.get_velocities() - [0.0, 0.0, speed * 1e-3 / units.fs])
    return atoms


def flights(work: Path, model: Path) -> list[Row]:
    """Drift of the total energy of molecules that reach the wall, and their smallest and largest heights."""
    rows = []
    for number, speed in enumerate(tqdm(SPEEDS, desc="dynamics", unit="run")):
        file = work / f"flight_{speed:g}.json"
        if not file.exists():
            start, folder = work / f"launch_{speed:g}.xyz", work / f"flight_{speed:g}"
            launched(UNSEEN["ethanol"], speed, number).write(start, format="extxyz")
            settings = MDSettings(
                str(start), str(model), time_ps=FLIGHT_PS, timestep=TIMESTEP, velocities="file", overwrite=True,
                output=str(folder), device="cpu",
            )  # fmt: skip
            summary = run_md(settings)
            heights = [atoms.get_center_of_mass()[2] for atoms in ase.io.read(summary.trajectory, ":")]
            log = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
            row = {
                "molecule": "ethanol",
                "speed_A_per_ps": speed,
                "time_ps": summary.time_ps,
                "timestep_fs": TIMESTEP,
                "lowest_A": min(heights),
                "last_A": heights[-1],
                "drift_meV_per_atom_per_ps": summary.drift_meV_per_atom_per_ps,
                "largest_deviation_meV_per_atom": 1000
                * float(np.abs(log["etot"] - log["etot"][0]).max())
                / summary.num_atoms,
            }
            file.write_text(json.dumps(row, indent=1))
        rows.append(json.loads(file.read_text()))
    return rows


def report(rows: list[Row], dynamics: list[Row], output: Path) -> None:
    """JSON, page and plot."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"errors": rows, "dynamics": dynamics}, indent=1) + "\n")
    plot(rows, output.with_suffix(".png"))
    lines = [
        "# Molecules over graphite that has no atoms\n",
        f"Made by `surface.py`: GFN2-xTB over Steele's wall, {rows[0]['frames']} training frames and "
        f"{rows[0]['epochs']} epochs, with the same hyperparameters for both groups. Errors are root mean squares. The "
        "net force is the force on a whole molecule, and all of it comes from the wall: O3, which does not know of the "
        "wall, predicts zero. [groups.md](groups.md) compares more groups, at equal time.\n",
        f"![force errors](results/{output.stem}.png)\n",
        "| group | seed | force (meV/A) | net force | energy (meV/atom) | unseen: force | net | energy | weights |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    columns = [f"{name}_{what}" for name in ("test", "unseen") for what in KINDS]
    lines += [
        f"| {r['group']} | {r['seed']} | {' | '.join(f'{r[column]:.3g}' for column in columns)} | {r['parameters']:,} |"
        for r in rows
    ]
    lines += [
        f"\nEthanol, which no model has seen, flies at the wall from {LAUNCH:g} A: {rows[0]['group']}, constant "
        f"energy, time step {TIMESTEP:g} fs, float32. Deviations of the total energy from its start are in "
        "meV/atom.\n",
        "| speed (A/ps) | lowest height (A) | height after | time (ps) | drift (meV/atom/ps) | largest deviation |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['speed_A_per_ps']:g} | {r['lowest_A']:.2f} | {r['last_A']:.1f} | {r['time_ps']:g} | "
        f"{r['drift_meV_per_atom_per_ps']:+.4f} | {r['largest_deviation_meV_per_atom']:.3f} |"
        for r in dynamics
    ]
    page = Path(__file__).with_suffix(".md") if output == OUTPUT else output.with_suffix(".md")
    page.write_text("\n".join(lines) + "\n")


def plot(rows: list[Row], path: Path) -> None:
    """Force errors of every group on seen and unseen molecules."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    bars = {
        "test_force_rmse_meV_per_A": "same molecules", "test_net_force_rmse_meV_per_A": "same molecules, net force",
        "unseen_force_rmse_meV_per_A": "unseen molecules",
    }  # fmt: skip
    with picture(path) as (figure, [[axes]]):
        for offset, (key, label) in enumerate(bars.items()):
            for index, group in enumerate(groups):
                found = [row[key] for row in rows if row["group"] == group]
                place, shown = index + 0.27 * (offset - 1), None if index else label
                axes.bar(place, np.mean(found), 0.25, color=f"C{offset}", label=shown)
                axes.plot([place] * len(found), found, "k.", markersize=3)
        axes.set_xticks(range(len(groups)), [f"{group}, no surface" if group == "O3" else group for group in groups])
        axes.set(yscale="log", ylabel="force RMSE (meV/A)")
        figure.legend(loc="outside upper center", ncols=3)


def main() -> None:
    """Generate, train, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--groups", nargs="+", default=list(GROUPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    generate(work, args.frames)
    rows = []
    for seed in args.seeds:
        for group in tqdm(args.groups, desc=f"seed {seed}", unit="model"):
            row = train(work, group, seed, args.epochs)
            tqdm.write(
                f"{group:6s} {row['test_force_rmse_meV_per_A']:7.1f} meV/A, "
                f"unseen {row['unseen_force_rmse_meV_per_A']:7.1f}"
            )
            rows.append(row)
    dynamics = flights(work, work / f"{args.groups[0]}_seed{args.seeds[0]}" / "model.safetensors")
    report(rows, dynamics, args.output)


if __name__ == "__main__":
    main()
