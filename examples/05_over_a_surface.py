"""A molecule over graphite without explicit atoms: data, a wall on top of the base model, dynamics, docking.

Which group? The group of all rotations and mirrors that leave your surroundings unchanged:

    surroundings                             group        inputs      where
    a flat wall (graphite, a liquid)         Cinfv        surface     over the plane through surface_origin
    a wall of a chiral liquid                SO2          surface
    a crystal face, averaged along it        C4v, C3v..   surface     see ik_e3nn.data.suggest_group
    a rigid crystal face with its lattice    p4m, p3m1..  face        see ik_e3nn.data.suggest_face
    a crystal face whose atoms move          O3           (none)      the slab's atoms are in every structure
    a slit between two equal walls           Dinfh        surface     heights from the center
    a wire or a pore                         Dinfh        wire        distances from the line
    a crystal field, one binding site        Td, Oh, C1   site        displacements from the center
    a uniform field                          Cinfv        (none)

A "site" has one center and is not periodic, and a "surface" is uniform along the face, although directions across the
normal may matter.

The right group improves predictions: for particles that springs of stiffness 10 tie to a plane, the mean square error
of forecasts is 0.0005 with Cinfv, 0.4777 with O3, which does not know the plane, and 0.0006 without symmetry; all
figures are in examples/benchmarks/nbody.md.

1. generate: GFN2-xTB dynamics of benzene over Steele's graphite wall, in random orientations at random heights;
2. train: the base model, which knows molecules, gets the group Cinfv and the input "surface". Only what acts near the
   surface is trained, so that few frames suffice, and far from it the potential stays the base;
3. scan: energies of a flat and of an upright molecule against the height, by the model and by the reference;
4. simulate: an adsorbed molecule at constant energy;
5. dock: random poses, relaxed in one batch, clustered with the symmetry of molecule and surface.

    python examples/05_over_a_surface.py [--output surface_output] [--minutes 2]
"""

import argparse
import logging
import math
import sys
from pathlib import Path

import numpy as np
from ase import Atoms

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.pictures import picture
from ik_e3nn.training import DataConfig, EvalSettings, FinetuneConfig, MethodConfig, RunConfig, evaluate, finetune
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.dock import DockSettings, RegionSettings, run_dock
from ik_e3nn_calculators.md.run import MDSettings, run_md

REFERENCE = "gfn2-xtb+steele"
HEIGHTS = (2.4, 12.0)  # up to where the model feels nothing, the zero of binding energies
FRAMES = {"train": 120, "test": 100}
VALID = 20  # of the training frames
EPOCHS = 1000  # at most
POSES = 60
TIME_PS = 5.0


def make_data(smiles: str, folder: Path) -> None:
    """Labeled frames for training and testing, from different trajectories."""
    for name, seed in (("train", 1), ("test", 2)):
        file = folder / f"{name}.xyz"
        if not file.exists():
            generate(
                GenerateSettings(
                    str(file), smiles=[smiles], calculator=REFERENCE, heights=HEIGHTS, num_frames=FRAMES[name],
                    temperatures=(300.0, 500.0), interval=10, seed=seed, isolated_atoms=name == "train",
                )
            )  # fmt: skip


def train_model(folder: Path, minutes: float) -> Path:
    """Put the wall on top of the base in a fixed time, and return the model file."""
    run = folder / "training"
    model = run / "model.safetensors"
    if not model.exists():
        config = FinetuneConfig(
            data=DataConfig(train=str(folder / "train.xyz"), valid=VALID),
            model={"group": "Cinfv", "inputs": ["surface"]},
            finetune=MethodConfig(base="base", method="surroundings"),
            run=RunConfig(output=str(run), max_epochs=EPOCHS, max_minutes=minutes, batch_size=5),
        )
        finetune(config, resume=run.exists())
    return model


def scan(smiles: str, model: Path, path: Path) -> None:
    """Draw the energy of the flat and the upright molecule against the height of its center."""
    flat = lying(molecule_from_smiles(smiles))
    upright = flat.copy()
    upright.rotate(90, "x")
    heights = np.linspace(3.0, 10.0, 40)
    with picture(path, width=5.0) as (_, [[axes]]):
        for number, (name, atoms) in enumerate({"flat": flat, "upright": upright}.items()):
            for calculator, style in ((IKCalculator(model, device="cpu"), "-"), (make_calculator(REFERENCE), "o")):
                energies = []
                for height in [*heights, 100.0]:
                    moved = atoms.copy()
                    moved.positions[:, 2] += height
                    moved.calc = calculator
                    energies.append(moved.get_potential_energy())
                label = f"{name}, {'model' if style == '-' else 'GFN2-xTB + Steele'}"
                curve = np.array(energies[:-1]) - energies[-1]
                axes.plot(heights, curve, style, color=f"C{number}", markersize=3, label=label)
        axes.set(xlabel="height (A)", ylabel="interaction energy (eV)", ylim=(-0.7, 0.5))
        axes.legend()


def lying(atoms: Atoms) -> Atoms:
    """Rotate a molecule so that z is normal to its plane, and move its center to the origin."""
    centered = atoms.positions - atoms.positions.mean(axis=0)
    axes = np.linalg.svd(centered)[2]
    axes[2] *= np.linalg.det(axes)  # a rotation, not a mirror
    flat = atoms.copy()
    flat.positions = centered @ axes.T
    return flat


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", default="c1ccccc1", help="the molecule")
    parser.add_argument("--minutes", type=float, default=2.0, help="training time")
    parser.add_argument("--output", type=Path, default=Path("surface_output"), help="folder for everything")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args.output.mkdir(parents=True, exist_ok=True)
    make_data(args.smiles, args.output)
    model = train_model(args.output, args.minutes)
    test, predicted = args.output / "test.xyz", args.output / "test_predicted.xyz"
    errors = evaluate(EvalSettings(str(model), str(test), str(predicted), overwrite=True))["errors"]
    scan(args.smiles, model, args.output / "scan.png")
    dock = run_dock(
        DockSettings(
            args.smiles, str(model), poses=POSES, conformers=1, region=RegionSettings(heights=(2.4, 6.0)),
            output=str(args.output / "dock"), overwrite=True,
        )
    )  # fmt: skip
    dynamics = run_md(
        MDSettings(
            str(args.output / "dock" / "best.extxyz"), str(model), time_ps=TIME_PS, timestep=0.5, temperature=300.0,
            equilibrate_ps=TIME_PS / 20, output=str(args.output / "dynamics"), restart=True,
        )
    )  # fmt: skip
    print(f"\n{args.smiles} over graphite")
    print(f"  force error           {errors['force_mae_meV_per_A']:8.2f} meV/A")
    best = math.nan if dock.best_binding_eV is None else dock.best_binding_eV
    print(f"  best pose             {best:8.3f} eV, {dock.distinct} distinct of {dock.poses}")
    print(f"  drift                 {dynamics.drift_meV_per_atom_per_ps or 0.0:8.4f} meV/atom/ps")
    print(f"\nscan.png, dock/best.png, dynamics/energy.png: {args.output.resolve()}")


if __name__ == "__main__":
    main()
