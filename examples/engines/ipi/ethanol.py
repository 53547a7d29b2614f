"""Path integrals of ethanol with i-PI: four beads at 300 K, evaluated together; about three minutes of one core.

    pip install ".[ipi]"
    python examples/engines/ipi/ethanol.py --output ipi_ethanol

The input of i-PI is ``ethanol.xml`` beside this script. The run is one picosecond long, and the first quarter is
left out of the averages. Four beads show the zero-point motion of the C-H and O-H bonds; converged averages need 32.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.io import read
from ase.optimize import BFGS

from ik_e3nn.pictures import picture
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.ipi.export import IpiExportSettings, export_ipi

HERE = Path(__file__).parent
TEMPERATURE, BEADS = 300.0, 4


def prepare(folder: Path) -> None:
    """The three files of a run: the structure, the driver and the input."""
    folder.mkdir(parents=True, exist_ok=True)
    atoms = molecule("CH3CH2OH", vacuum=10.0)  # i-PI needs a cell
    atoms.calc = IKCalculator("base")
    BFGS(atoms, logfile=None).run(fmax=0.01)
    atoms.calc = None
    atoms.write(folder / "start.xyz")
    export_ipi(IpiExportSettings(str(folder / "ik_pes.py"), overwrite=True))
    shutil.copy(HERE / "ethanol.xml", folder)


def report(folder: Path) -> str:
    """The kinetic energy beside the classical one, and a picture of the bonds to hydrogen."""
    start = read(folder / "start.xyz")
    kinetic = np.loadtxt(folder / "ethanol.out")[:, 4]
    kinetic = kinetic[len(kinetic) // 4 :].mean()
    beads = [read(folder / f"ethanol.pos_{number}.extxyz", ":")[50:] for number in range(BEADS)]
    bonds = [(i, j) for j in np.flatnonzero(start.numbers == 1) for i in [start.get_distances(j, range(3)).argmin()]]
    lengths = [
        bead.get_distance(i, j) for frames in beads for bead in frames for i, j in bonds if start.numbers[i] == 6
    ]
    with picture(folder / "bonds.png", width=4.5) as (_, [[axes]]):
        axes.hist(lengths, bins=40, density=True, histtype="step", label=f"{BEADS} beads")
        axes.axvline(
            np.mean([start.get_distance(i, j) for i, j in bonds if start.numbers[i] == 6]), color="0.4", ls="--"
        )
        axes.set(xlabel="C-H distance (Å)", ylabel="density (1/Å)", title="dashed: at the minimum of the energy")
    classical = 1.5 * len(start) * units.kB * TEMPERATURE
    return f"kinetic energy {kinetic:.3f} eV, classical {classical:.3f} eV; C-H {np.mean(lengths):.3f} A"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("ipi_ethanol"))
    folder = parser.parse_args().output
    prepare(folder)
    subprocess.run([Path(sys.executable).parent / "i-pi", "ethanol.xml"], cwd=folder, check=True)
    print(report(folder))


if __name__ == "__main__":
    main()
