"""The files written during a relaxation: a row of the log and a frame for every step."""

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter

from ik_e3nn.errors import ExplosionError
from ik_e3nn_calculators.calculator.inputs import has_volume
from ik_e3nn_calculators.output.csvlog import CsvLog
from ik_e3nn_calculators.output.frames import frame_file, snapshot

LOG, TRAJECTORY = "log.csv", "trajectory"

Row = dict[str, float | int]


class Record:
    """The log and the trajectory of a relaxation.

    Args:
        target: The structure to relax, or the filter that relaxes its cell too.
        atoms: The structure.
        folder: The folder of the relaxation.
        trajectory: Format of the trajectory.
    """

    def __init__(self, target: Atoms | FrechetCellFilter, atoms: Atoms, folder: Path, trajectory: str) -> None:
        self.log = CsvLog(folder / LOG)
        self.frames = frame_file(folder, TRAJECTORY, trajectory)
        self._target, self._atoms = target, atoms

    def add(self, step: int) -> Row:
        """Write a row and a frame, and return the row."""
        row = self.row(step)
        self.log.append(row)
        self.frames.append(snapshot(self._atoms, step=step))
        return row

    def row(self, step: int) -> Row:
        """One row of the log: ``fmax`` is the largest force on an atom, ``fmax_cell`` the largest on the cell.

        Raises:
            ExplosionError: Energy or forces are not finite.
        """
        target, atoms = self._target, self._atoms
        energy, largest = float(atoms.get_potential_energy()), float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        if not (np.isfinite(energy) and np.isfinite(largest)):
            raise ExplosionError(f"step {step}: energy or forces became NaN or infinite; check the starting structure")
        row: Row = {"step": step, "energy": energy, "fmax": largest}
        if isinstance(target, FrechetCellFilter):
            row["fmax_cell"] = float(np.linalg.norm(target.get_forces()[len(atoms) :], axis=1).max())
        if atoms.pbc.all() and has_volume(atoms):
            row["pressure"] = -float(atoms.get_stress()[:3].mean()) / units.GPa
            row["volume"] = float(atoms.get_volume())
        return row
