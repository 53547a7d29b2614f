"""What the right symmetry group is worth beside a surface: molecules over graphite, trained with several groups.

    python examples/benchmarks/surface.py --work WORK [--frames 200] [--epochs 300] [--groups Cinfv SO2 C1 O3]

Data: GFN2-xTB dynamics of small molecules, every frame turned at random and put at a random height over Steele's wall,
through `ik-e3nn data generate`. The energy is then invariant under all turns about the normal and all mirrors that
contain it: "Cinfv" is its symmetry, "SO2" leaves the mirrors out, "C1" everything, and "O3" is a potential that does
not know of the wall. The same hyperparameters for all; only the group changes. Tested on other frames of the same
molecules and on molecules that no model has seen. Finished parts are kept in the work folder and skipped.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import matplotlib as mpl
import numpy as np
from tqdm import tqdm

from ik_e3nn.cli import main as command

OUTPUT = Path(__file__).parent / "results" / "surface.json"
MOLECULES = {
    "methanol": "CO", "acetaldehyde": "CC=O", "acetic acid": "CC(=O)O", "ethylamine": "CCN", "acetonitrile": "CC#N",
    "benzene": "c1ccccc1", "formamide": "NC=O", "dimethyl ether": "COC",
}  # fmt: skip
UNSEEN = {"ethanol": "CCO", "furan": "c1ccoc1"}
HEIGHTS = "[2.4, 9.0]"
GROUPS = ("Cinfv", "SO2", "C1", "O3")
VALID, TEST = 80, 400
MODEL = {"num_channels": 16, "num_layers": 2, "l_max": 2, "l_features": 1, "correlation": 2}
Row = dict[str, Any]


def run(words: list[str]) -> None:
    """A command of this library.

    Raises:
        SystemExit: It failed.
    """
    if command(words):
        raise SystemExit(f"failed: ik-e3nn {' '.join(words)}")


def generate(work: Path, frames: int) -> None:
    """Training, validation and test sets, each of its own dynamics."""
    names = {"train": (MOLECULES, frames, 0), "valid": (MOLECULES, VALID, 1), "test": (MOLECULES, TEST, 2)}
    names["unseen"] = (UNSEEN, 100, 3)
    for name, (molecules, count, seed) in names.items():
        path = work / f"{name}.xyz"
        if path.exists():
            continue
        each = -(-count // len(molecules))
        words = ["data", "generate", "--smiles", json.dumps(list(molecules.values())), "--output", str(path)]
        words += ["--calculator", "gfn2-xtb+steele", "--heights", HEIGHTS, "--num_frames", str(each)]
        words += ["--temperatures", "[300, 500]", "--interval", "20", "--seed", str(seed), "--num_conformers", "1"]
        run([*words, "--isolated_atoms", "true"] if name == "train" else words)


def train(work: Path, group: str, seed: int, epochs: int) -> Row:
    """Errors of one model, from the work folder if it is there."""
    folder = work / f"{group}_seed{seed}"
    result = folder.with_suffix(".json")
    if not result.exists():
        settings: dict[str, Any] = {
            "data.train": work / "train.xyz", "data.valid": work / "valid.xyz", "data.test": work / "test.xyz",
            "run.output": folder, "run.overwrite": True, "run.max_epochs": epochs, "run.seed": seed,
            "run.device": "cpu", "run.batch_size": 5, "run.progress": False, "model.group": group,
            "model.inputs": json.dumps([] if group == "O3" else ["surface"]),
        }  # fmt: skip
        settings |= {f"model.{name}": value for name, value in MODEL.items()}
        config = work / f"{folder.name}.yaml"
        config.write_text("{}\n")
        run(["train", str(config), *(f"--{name}={value}" for name, value in settings.items())])
        metrics = json.loads((folder / "metrics.json").read_text())
        unseen = folder / "unseen.xyz"
        run(
            [
                "eval",
                str(folder / "model.safetensors"),
                str(work / "unseen.xyz"),
                "-o",
                str(unseen),
                "--overwrite",
                "true",
            ]
        )
        row = {
            "group": group,
            "seed": seed,
            "frames": count(work / "train.xyz"),
            "force_rmse_meV_per_A": metrics["test"]["force_rmse_meV_per_A"],
            "energy_rmse_meV_per_atom": metrics["test"]["energy_rmse_meV_per_atom"],
            **errors(unseen),
            "train_seconds": metrics["seconds"],
            "epochs": metrics["epochs"],
            "parameters": metrics["parameters"],
        }
        result.write_text(json.dumps(row, indent=1))
    return dict(json.loads(result.read_text()))


def count(path: Path) -> int:
    """Number of frames that are no isolated atoms."""
    return sum(len(atoms) > 1 for atoms in ase.io.read(path, ":"))


def errors(predicted: Path) -> Row:
    """Root mean square errors of the molecules that no model has seen."""
    frames = ase.io.read(predicted, ":")
    forces = np.concatenate([(a.arrays["IK_forces"] - a.arrays["REF_forces"]).ravel() for a in frames])
    energies = [(a.info["IK_energy"] - a.info["REF_energy"]) / len(a) for a in frames]
    return {
        "unseen_force_rmse_meV_per_A": 1000 * float(np.sqrt(np.mean(forces**2))),
        "unseen_energy_rmse_meV_per_atom": 1000 * float(np.sqrt(np.mean(np.square(energies)))),
    }


def plot(rows: list[Row], path: Path) -> None:
    """Force errors of every group on seen and unseen molecules."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for offset, (key, label) in enumerate(
        {"force_rmse_meV_per_A": "same molecules", "unseen_force_rmse_meV_per_A": "unseen molecules"}.items()
    ):
        for index, group in enumerate(groups):
            values = [row[key] for row in rows if row["group"] == group]
            axes.bar(
                index + 0.4 * offset - 0.2,
                np.mean(values),
                0.38,
                color=f"C{offset}",
                label=label if not index else None,
            )
            axes.plot([index + 0.4 * offset - 0.2] * len(values), values, "k.", markersize=4)
    axes.set_xticks(range(len(groups)), [f"{group}, no surface" if group == "O3" else group for group in groups])
    axes.set(yscale="log", ylabel="force RMSE (meV/A)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


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
                f"{group:6s} {row['force_rmse_meV_per_A']:7.1f} meV/A, unseen {row['unseen_force_rmse_meV_per_A']:7.1f}"
            )
            rows.append(row)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(rows, indent=1) + "\n")
    plot(rows, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
