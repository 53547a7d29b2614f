"""The files written during a molecular-dynamics run, and resuming from them."""

import logging
from collections import deque
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ik_e3nn.atomic import naming
from ik_e3nn_calculators.md import files
from ik_e3nn_calculators.md.checkpoint import read_checkpoint, write_checkpoint
from ik_e3nn_calculators.md.integrate import Dynamics
from ik_e3nn_calculators.md.settings import MDSettings
from ik_e3nn_calculators.output.csvlog import CsvLog
from ik_e3nn_calculators.output.frames import frame_file, snapshot

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_KEPT_FRAMES = 10


class Record:
    """Rows of ``log.csv``, frames of the trajectory, and checkpoints, each at its own interval.

    Args:
        dynamics: The run to record.
        settings: The settings.
        folder: The folder of the run.

    Attributes:
        saved: The step of the last checkpoint.
    """

    def __init__(self, dynamics: Dynamics, settings: MDSettings, folder: Path) -> None:
        self.saved, self._compiled_from = dynamics.step, dynamics.compiled_from
        self._dynamics, self._settings, self._folder = dynamics, settings, folder
        self._log = CsvLog(folder / files.LOG)
        self._frames = frame_file(folder, files.TRAJECTORY, settings.trajectory)
        self._recent: deque[dict[str, Any]] = deque(maxlen=_KEPT_FRAMES)

    def begin(self) -> None:
        """Write the state before the first step."""
        self.add(save=True)

    def resume(self) -> None:
        """Restore the last checkpoint, and drop rows and frames written after it.

        Raises:
            DataError: The checkpoint or the log is broken.
        """
        saved = read_checkpoint(self._folder / files.CHECKPOINT)
        rows, frames = self._log.cut(saved.marks["log"]), self._frames.cut(saved.marks["frames"])
        self._dynamics.restore(saved)
        self._log.check_columns(self._row())
        rows.warn_of_missing(self._log.path, "rows", saved.step)
        frames.warn_of_missing(self._frames.path, "frames", saved.step)
        self._remember()
        self.saved, self._compiled_from = saved.step, self._dynamics.compiled_from
        _log.info("continuing %s at step %d", self._folder, saved.step)

    @property
    def trajectory(self) -> Path:
        """The file of the trajectory."""
        return self._frames.path

    def add(self, *, save: bool = False) -> None:
        """Write a row, a frame and a checkpoint of the present step, each if it is due.

        A checkpoint is due also where other code takes over, so that the run is continued with the same code.

        Args:
            save: Write a checkpoint in any case.
        """
        step = self._dynamics.step
        if step % self._settings.log_interval == 0:
            self._log.append(self._row())
        if step >= 0 and step % self._settings.frame_interval == 0:
            self._frames.append(snapshot(self._dynamics.atoms, step=step, time_ps=self._dynamics.time_ps))
        switched = self._dynamics.compiled_from != self._compiled_from
        if save or switched or step % self._settings.checkpoint_interval == 0:
            self.save()
        self._remember()

    def save(self) -> None:
        """Write a checkpoint; rows and frames up to it are already on disk."""
        marks = {"log": self._log.mark(), "frames": self._frames.mark()}
        write_checkpoint(self._folder / files.CHECKPOINT, self._dynamics.state(marks))
        self.saved, self._compiled_from = self._dynamics.step, self._dynamics.compiled_from

    def keep_last_frames(self) -> None:
        """Write the structures of the last good steps to ``last_frames.extxyz``."""
        path = self._folder / files.LAST_FRAMES
        with naming(path):
            ase.io.write(path, [self._frame(**state) for state in self._recent], format="extxyz")

    def table(self) -> dict[str, NDArray[np.float64]]:
        """The columns of the log."""
        return self._log.columns()

    def _remember(self) -> None:
        """Keep what steps change of the structure among the last good frames; a copy of all would take longer."""
        atoms, step = self._dynamics.atoms, self._dynamics.step
        cell, momenta = atoms.cell.array.copy(), atoms.get_momenta()
        self._recent.append({"step": step, "cell": cell, "positions": atoms.get_positions(), "momenta": momenta})

    def _frame(self, *, step: int, cell: FloatArray, positions: FloatArray, momenta: FloatArray) -> Atoms:
        """A structure of the run, without results."""
        frame: Atoms = self._dynamics.atoms.copy()
        frame.set_constraint()
        frame.set_cell(cell)
        frame.set_positions(positions)
        frame.set_momenta(momenta)
        frame.set_constraint(self._dynamics.atoms.constraints)
        frame.info["step"] = step
        return frame

    def _row(self) -> dict[str, float | int]:
        """One row of the log."""
        dynamics, atoms = self._dynamics, self._dynamics.atoms
        potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
        row: dict[str, float | int] = {
            "step": dynamics.step,
            "time_ps": dynamics.time_ps,
            "epot": potential,
            "ekin": kinetic,
            "etot": potential + kinetic,
            "temperature": dynamics.temperature,
        }
        if dynamics.has_pressure:
            stress = atoms.get_stress(include_ideal_gas=True)
            row["pressure"] = -float(stress[:3].mean()) / units.GPa
            row["volume"] = float(atoms.get_volume())
        return row
