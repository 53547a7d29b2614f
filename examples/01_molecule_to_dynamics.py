"""From a SMILES string to a trained potential and molecular dynamics with it (this is ``make demo``).

1. generate: frames of the molecule from molecular dynamics with GFN2-xTB at several temperatures, labeled with its
   energies and forces; the test frames come from separate trajectories;
2. train: an implicit-kernel potential, conditioned on both species and the bond type;
3. evaluate: on the test frames;
4. simulate: 5 ps at constant energy from 300 K, in steps of 0.5 fs.

After an interruption, the same command continues. The README shows the same steps as shell commands.

    python examples/01_molecule_to_dynamics.py [--smiles CCO] [--output demo_output]
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.errors import DataError
from ik_e3nn.training import (
    DataConfig,
    EvalSettings,
    RunConfig,
    TrainConfig,
    evaluate,
    train,
)
from ik_e3nn_calculators.md.run import MDSettings, run_md

TRAIN_FRAMES, TEST_FRAMES = 400, 100
TRAIN_MINUTES = 2.0


def make_data(smiles: str, folder: Path) -> None:
    """Labeled frames for training and testing, from different trajectories."""
    for name, frames, seed in (("train", TRAIN_FRAMES, 1), ("test", TEST_FRAMES, 2)):
        file = folder / f"{name}.xyz"
        if not file.exists():
            generate(GenerateSettings(str(file), smiles=[smiles], num_frames=frames, interval=10, seed=seed))


def train_model(folder: Path) -> Path:
    """Train for a fixed time, and return the model file."""
    run = folder / "training"
    model = run / "model.safetensors"
    if not model.exists():
        config = TrainConfig(
            data=DataConfig(train=str(folder / "train.xyz"), valid=40),
            model={"r_max": 5.0, "num_channels": 32, "num_layers": 2, "l_max": 2, "inputs": ["bond_types"]},
            run=RunConfig(output=str(run), max_epochs=1000, max_minutes=TRAIN_MINUTES, batch_size=8),
        )
        train(config, resume=run.exists())
    return model


def measure(model: Path, folder: Path) -> dict[str, float]:
    """Errors on the test frames."""
    settings = EvalSettings(str(model), str(folder / "test.xyz"), str(folder / "test_predicted.xyz"), overwrite=True)
    return evaluate(settings)["errors"]


def simulate(smiles: str, model: Path, folder: Path) -> dict[str, float | None]:
    """Constant-energy dynamics with the trained potential."""
    settings = MDSettings(
        smiles,
        str(model),
        time_ps=5.0,
        timestep=0.5,
        temperature=300.0,
        relax_fmax=0.05,
        equilibrate_ps=0.25,
        output=str(folder / "dynamics"),
        restart=True,
    )
    summary = run_md(settings)
    return {"drift": summary.drift_meV_per_atom_per_ps, "ms": summary.ms_per_step}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", default="CCO", help="the molecule")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for everything")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        molecule_from_smiles(args.smiles)
    except DataError as error:
        parser.error(str(error))
    args.output.mkdir(parents=True, exist_ok=True)
    owner, done = args.output / "smiles.txt", args.output / "summary.json"
    if owner.exists() and owner.read_text() != args.smiles:
        parser.error(f"{args.output} already holds a run for {owner.read_text()}; choose another folder with --output")
    owner.write_text(args.smiles)
    if done.exists():
        print(f"already finished; delete {args.output.resolve()} to run again\n{done.read_text()}")
        return
    start = time.perf_counter()
    make_data(args.smiles, args.output)
    model = train_model(args.output)
    errors = measure(model, args.output)
    dynamics = simulate(args.smiles, model, args.output)
    summary = {
        "force_mae_meV_per_A": errors["force_mae_meV_per_A"],
        "energy_mae_meV_per_atom": errors["energy_mae_meV_per_atom"],
        "nve_drift_meV_per_atom_per_ps": dynamics["drift"],
        "ms_per_step": dynamics["ms"],
        "seconds_total": time.perf_counter() - start,
    }
    done.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"\n{args.smiles}: implicit-kernel potential trained on GFN2-xTB, {TEST_FRAMES} test frames")
    for name, value in summary.items():
        print(f"  {name:32s}{value:10.3f}" if value is not None else f"  {name:32s}{'-':>10s}")
    print(f"\nmodel, plots, trajectory and summary.json: {args.output.resolve()}")


if __name__ == "__main__":
    main()
