"""The calculator on the smallest and on a periodic system: a single atom, and NPT dynamics of a crystal.

Uses the model that ``03_crystal.py`` trains (and trains it first if it does not exist).

    python examples/04_atom_and_crystal_dynamics.py [--crystal crystal] [--output crystal_dynamics]
"""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from ase import Atoms
from ase.build import bulk
from ase.io import write

from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.md.run import MDSettings, run_md


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystal", type=Path, default=Path("crystal"), help="folder of 03_crystal.py")
    parser.add_argument("--output", type=Path, default=Path("crystal_dynamics"), help="folder for the dynamics")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    model = args.crystal / "training" / "model.safetensors"
    if not model.exists():
        script = Path(__file__).with_name("03_crystal.py")
        subprocess.run([sys.executable, str(script), "--output", str(args.crystal)], check=True)

    atom = Atoms("Cu")
    atom.calc = IKCalculator(model)
    print(f"single atom: energy {atom.get_potential_energy():.3f} eV, forces {atom.get_forces()[0]} eV/A")

    args.output.mkdir(parents=True, exist_ok=True)
    start = args.output / "start.xyz"
    write(start, bulk("Cu", cubic=True) * (3, 3, 3))
    for ensemble, time_ps in (("nve", 1.0), ("npt", 1.0)):
        summary = run_md(
            MDSettings(
                str(start),
                str(model),
                ensemble=ensemble,
                time_ps=time_ps,
                timestep=2.0,
                temperature=300.0,
                equilibrate_ps=0.5,
                output=str(args.output / ensemble),
                restart=True,
            )
        )
        print(f"{ensemble}: {summary.num_atoms} atoms, mean temperature {summary.mean_temperature_K:.0f} K", end="")
        if summary.drift_meV_per_atom_per_ps is not None:
            print(f", drift {summary.drift_meV_per_atom_per_ps:+.3f} meV/atom/ps", end="")
        if summary.mean_pressure_GPa is not None:
            print(f", mean pressure {summary.mean_pressure_GPa:+.2f} GPa", end="")
        print(f"; see {summary.output}")


if __name__ == "__main__":
    main()
