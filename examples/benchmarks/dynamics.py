"""Long molecular dynamics with every preset: energy drift, and whether a molecule survives at 500 K.

    python examples/benchmarks/dynamics.py --work WORK [--aspirin rmd17_aspirin.npz] [--systems ethanol copper]

Frames of ethanol (GFN2-xTB) and of a crystal of 64 copper atoms (EMT) are generated, every preset is trained on each
and runs 20 ps at constant energy from 300 K, in single and double precision. With the published rMD17 file of aspirin,
the default preset is trained on its first split and runs 25 ps at 500 K (Langevin) from three seeds. Finished rows are
stored in the work folder, and several calls with different --systems can share it; all available rows go to
results/dynamics.json and dynamics.md, which keep the rows of other work folders.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from ase.io import write
from potentials import sets
from tqdm import tqdm

from ik_e3nn.data.generation.generate import generate
from ik_e3nn.data.generation.settings import GenerateSettings
from ik_e3nn.errors import ExplosionError
from ik_e3nn.models import PRESETS
from ik_e3nn.pictures import picture
from ik_e3nn.training import DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig, train
from ik_e3nn_calculators.md.run import MDSettings, run_md

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "dynamics.json"
DTYPES = ("float32", "float64")
DRIFT_PS, DRIFT_K = 20.0, 300.0
BLOCKS = 100  # means that are plotted of a run: the energy itself goes up and down at every step
R_MAX = {"ethanol": 5.0, "copper": 4.0}  # two shells of copper: the integrator is tested, not the accuracy for EMT
SURVIVAL_PS, SURVIVAL_K, SURVIVAL_SEEDS = 25.0, 500.0, (0, 1, 2)
Row = dict[str, Any]


def ethanol(folder: Path) -> tuple[Path, str, LossConfig]:
    """Training frames, starting structure and loss."""
    frames = folder / "ethanol.xyz"
    if not frames.exists():
        generate(GenerateSettings(str(frames), smiles=["CCO"], num_frames=400, interval=10, seed=1))
    return frames, "CCO", LossConfig()


def copper(folder: Path) -> tuple[Path, str, LossConfig]:
    """Training frames, starting structure and loss for a crystal of 64 atoms."""
    frames, start = folder / "copper.xyz", folder / "copper_start.xyz"
    if not frames.exists():
        write(start, bulk("Cu") * (4, 4, 4))
        generate(
            GenerateSettings(
                str(frames),
                structures=[str(start)],
                calculator="emt",
                method="rattle",
                num_frames=120,
                displacement=0.1,
                strain=0.03,
            )
        )
    return frames, str(start), LossConfig(forces_weight=10.0, stress_weight=1000.0)


def trained(data: DataConfig, loss: LossConfig, model: Row, folder: Path, minutes: float, batch: int) -> Path:
    """A model file; the model is trained if the file does not exist."""
    if not (folder / "model.safetensors").exists():
        config = TrainConfig(
            data=data,
            model=model,
            loss=loss,
            optimizer=OptimizerConfig(),
            run=RunConfig(output=str(folder), max_epochs=100_000, max_minutes=minutes, batch_size=batch),
        )
        train(config, resume=folder.exists())
    return folder / "model.safetensors"


def simulated(settings: MDSettings) -> Row:
    """The result of a run."""
    try:
        summary = run_md(settings)
    except ExplosionError as error:
        return {"status": "exploded", "message": str(error)}
    log = np.genfromtxt(Path(settings.output) / "log.csv", delimiter=",", names=True)
    return {
        "status": summary.status,
        "time_ps": summary.time_ps,
        "num_atoms": summary.num_atoms,
        "drift_meV_per_atom_per_ps": summary.drift_meV_per_atom_per_ps,
        "mean_temperature_K": summary.mean_temperature_K,
        "ms_per_step": summary.ms_per_step,
        "rows": len(log),
    }


SYSTEMS: dict[str, Callable[[Path], tuple[Path, str, LossConfig]]] = {"ethanol": ethanol, "copper": copper}


def drifts(work: Path, minutes: float, system: str, jobs: Sequence[tuple[str, str]]) -> None:
    """Run at constant energy with several presets and precisions."""
    for preset, dtype in tqdm(jobs, desc=f"constant energy, {system}"):
        frames, start, loss = SYSTEMS[system](work)
        data = DataConfig(train=str(frames), valid=0.1)
        sizes = {"preset": preset, "r_max": R_MAX[system]}
        model = trained(data, loss, sizes, work / f"{system}_{preset}", minutes, 8 if system == "ethanol" else 2)
        settings = MDSettings(
            start, str(model), time_ps=DRIFT_PS, timestep=0.5 if system == "ethanol" else 2.0, temperature=DRIFT_K,
            relax_fmax=0.05, equilibrate_ps=0.5, output=str(work / f"nve_{system}_{preset}_{dtype}"),
            dtype=dtype, compile=True, restart=True, seed=0,
        )  # fmt: skip
        keep(work / f"nve_{system}_{preset}_{dtype}.json", settings, system=system, preset=preset, dtype=dtype)


def survival(work: Path, file: Path, minutes: float) -> None:
    """Run aspirin at 500 K."""
    folder = work / "aspirin_data"
    sets.prepare("aspirin", file.parent.parent, folder, "fit")
    data = DataConfig(train=str(folder / "train.xyz"), valid=str(folder / "valid.xyz"))
    model = trained(data, LossConfig(), {"preset": "medium"}, work / "aspirin_medium", minutes, 5)
    for seed in tqdm(SURVIVAL_SEEDS, desc="aspirin"):
        settings = MDSettings(
            "CC(=O)Oc1ccccc1C(=O)O", str(model), ensemble="langevin", time_ps=SURVIVAL_PS, timestep=0.5,
            temperature=SURVIVAL_K, relax_fmax=0.05, equilibrate_ps=0.5, output=str(work / f"aspirin_{seed}"),
            compile=True, restart=True, seed=seed,
        )  # fmt: skip
        keep(work / f"nvt_aspirin_{seed}.json", settings, system="aspirin", preset="medium", dtype="float32", seed=seed)


def keep(file: Path, settings: MDSettings, **what: Any) -> None:
    """Run and write the row, unless it exists."""
    if not file.exists():
        row = what | {
            "ensemble": settings.ensemble, "temperature_K": settings.temperature, "timestep_fs": settings.timestep,
            **simulated(settings),
        }  # fmt: skip
        file.write_text(json.dumps(row, indent=1))
    row = json.loads(file.read_text())
    tqdm.write(f"{file.stem:32s} {row['status']:10s} drift {row.get('drift_meV_per_atom_per_ps')}")


def finished(work: Path, output: Path) -> list[Row]:
    """All rows, including those of other work folders; systems in order, single precision first."""
    names = [f"nve_{s}_{p}_{d}" for s in SYSTEMS for p in PRESETS for d in DTYPES]
    names += [f"nvt_aspirin_{seed}" for seed in SURVIVAL_SEEDS]
    earlier = {name_of(row): row for row in json.loads(output.read_text())} if output.exists() else {}
    here = {name: json.loads((work / f"{name}.json").read_text()) for name in names if (work / f"{name}.json").exists()}
    return [(earlier | here)[name] for name in names if name in earlier | here]


def name_of(row: Row) -> str:
    """The name of a row's files."""
    if row["system"] == "aspirin":
        return f"nvt_aspirin_{row['seed']}"
    return f"nve_{row['system']}_{row['preset']}_{row['dtype']}"


def report(rows: list[Row], work: Path, output: Path) -> None:
    """Write the JSON file, the table and, if all runs are available, a plot of the total energy."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        "# Long dynamics\n",
        "Made by `dynamics.py`, with compiled models. The drift is the slope of the total energy by linear regression; "
        "the total energy is plotted below. Systems may have run side by side, which lengthens steps and shortens "
        "training.\n",
        f"![total energy]({output.parent.name}/{output.stem}.png)\n",
        "| system | preset | precision | run | time (ps) | drift (meV/atom/ps) | mean T (K) | ms/step | outcome |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        drift = row.get("drift_meV_per_atom_per_ps")
        lines.append(
            f"| {row['system']} | {row['preset']} | {row['dtype']} | {row['ensemble']} {row['temperature_K']:g} K | "
            f"{row.get('time_ps', 0):g} | {'-' if drift is None else f'{drift:+.4f}'} | "
            f"{row.get('mean_temperature_K') or 0:.0f} | {row.get('ms_per_step') or 0:.1f} | "
            f"{row.get('message') or row['status']} |"
        )
    (HERE / "dynamics.md" if output == OUTPUT else output.with_suffix(".md")).write_text("\n".join(lines) + "\n")
    if any(row["ensemble"] == "nve" and not (work / f"{name_of(row)}/log.csv").exists() for row in rows):
        tqdm.write("some runs were made in another work folder: the plot is left as it is")
        return
    with picture(output.with_suffix(".png"), 2, 1, height=5.6) as (_, panels):
        for system, axes in zip(("ethanol", "copper"), panels[:, 0], strict=True):
            for file in sorted(work.glob(f"nve_{system}_*.json")):  # of finished runs
                log = np.genfromtxt(file.with_suffix("") / "log.csv", delimiter=",", names=True)
                time, energy = log["time_ps"], log["etot"]
                later = time >= 0
                if not later.any():  # it exploded before
                    continue
                label = file.stem.removeprefix(f"nve_{system}_").replace("_", ", ")
                blocks = np.array_split(np.stack([time, 1e3 * (energy - energy[later][0])])[:, later], BLOCKS, axis=1)
                axes.plot(*np.array([block.mean(axis=1) for block in blocks if block.size]).T, label=label)
            axes.set(title=f"{system}, means of {BLOCKS} parts of the run", xlabel="time (ps)")
            axes.set_ylabel("total energy (meV)")
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    """Run the missing parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--aspirin", type=Path, help="rmd17/rmd17_aspirin.npz")
    parser.add_argument("--systems", nargs="+", choices=[*SYSTEMS, "aspirin"], default=[*SYSTEMS, "aspirin"])
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--minutes", type=float, default=3.0, help="training time on ethanol and copper")
    parser.add_argument("--aspirin-minutes", type=float, default=12.0, help="training time on aspirin")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    jobs = [(preset, dtype) for preset in args.presets for dtype in args.dtypes]
    for system in args.systems:
        if system in SYSTEMS:
            drifts(args.work, args.minutes, system, jobs)
        elif args.aspirin is None:
            tqdm.write("no --aspirin file: aspirin is left out")
        else:
            survival(args.work, args.aspirin, args.aspirin_minutes)
    report(finished(args.work, args.output), args.work, args.output)


if __name__ == "__main__":
    main()
