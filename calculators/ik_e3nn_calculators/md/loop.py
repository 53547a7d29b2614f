"""The loop of a molecular-dynamics run: step, watch, log, and save so that it can be taken up again exactly."""

import logging
import time
from collections import deque
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics
from tqdm.auto import tqdm

from ik_e3nn.atomic import naming
from ik_e3nn.errors import ExplosionError
from ik_e3nn_calculators.md.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ik_e3nn_calculators.md.guard import ExplosionGuard
from ik_e3nn_calculators.md.integrators import build_integrator, integrator_state, restore_integrator
from ik_e3nn_calculators.md.settings import MDSettings
from ik_e3nn_calculators.md.velocities import degrees_of_freedom, drift_share, kinetic_temperature, remove_drift
from ik_e3nn_calculators.output.csvlog import CsvLog
from ik_e3nn_calculators.output.frames import frame_file, snapshot
from ik_e3nn_calculators.systems.heights import HeightWatch

_log = logging.getLogger(__name__)

LOG = "log.csv"
CHECKPOINT = "checkpoint.npz"
LAST_FRAMES = "last_frames.extxyz"
_KEPT_FRAMES = 10
_AT_REST = 1e-6  # share of the kinetic energy


class MDRun:
    """A run in its folder. Steps count from minus the equilibration to the end; the run proper starts at 0.

    Args:
        atoms: The starting structure, with calculator and momenta; it is moved.
        settings: The settings.
        folder: An existing folder of its own.
    """

    def __init__(self, atoms: Atoms, settings: MDSettings, folder: Path) -> None:
        self.atoms = atoms
        self.settings = settings
        self.folder = folder
        self.step = -settings.num_equilibration_steps
        self.saved = self.step
        self.steps_made = 0
        self.seconds = 0.0
        self.log = CsvLog(folder / LOG)
        self.frames = frame_file(folder, "trajectory", settings.trajectory)
        self._rng = np.random.default_rng(settings.seed)
        self._recent: deque[Atoms] = deque(maxlen=_KEPT_FRAMES)
        # Drift that comes with the structure and is not taken out counts as heat, as it stays.
        still = settings.velocities == "thermal" or self.step < 0 or drift_share(atoms) < _AT_REST
        self._freedom = {
            conserved: degrees_of_freedom(atoms, conserved=conserved and still) for conserved in (True, False)
        }
        r_max = getattr(atoms.calc, "r_max", None)
        self._guard = ExplosionGuard(atoms, settings.limits, target=settings.temperature, r_max=r_max)
        self._with_pressure = bool(
            atoms.pbc.all() and atoms.cell.rank == 3 and "stress" in atoms.calc.implemented_properties
        )
        self._integrator: MolecularDynamics | None = None
        self.heights = HeightWatch({})

    def prepare(self) -> None:
        """Evaluate and check the starting structure; nothing is written yet.

        Raises:
            IKError: The model cannot evaluate it, the ensemble does not fit it, or its atoms overlap.
        """
        self._prime()
        self._guard.check_geometry(self.atoms, self.step)
        build_integrator(self.settings.ensemble, self.atoms, self.settings, self._rng)

    def begin(self) -> None:
        """Write the state before the first step."""
        if self.step == 0:
            self._begin_production()
        else:
            self._integrator = self._new_integrator()
            self._record()
            self._save()

    def resume(self) -> None:
        """Go back to the last checkpoint and drop what was written after it.

        Raises:
            DataError: The checkpoint or the log is broken.
        """
        saved = read_checkpoint(self.folder / CHECKPOINT)
        saved.apply(self.atoms)
        self.step = self.saved = saved.step
        self._rng.bit_generator.state = saved.random
        rows, frames = self.log.cut(saved.marks["log"]), self.frames.cut(saved.marks["frames"])
        self._prime()
        self.log.check_columns(self._row())
        rows.warn_of_missing(self.log.path, "rows", self.step)
        frames.warn_of_missing(self.frames.path, "frames", self.step)
        self._integrator = self._new_integrator()
        restore_integrator(self._integrator, saved.integrator)
        _log.info("continuing %s at step %d", self.folder, self.step)

    def advance(self) -> None:
        """Run to the end.

        Raises:
            ExplosionError: The structure left the physical range; the frames before that are in ``last_frames.extxyz``.
        """
        todo = max(self.settings.num_steps - self.step, 0)
        start = time.perf_counter()
        try:
            with tqdm(total=todo, unit="step", desc="md", disable=not self.settings.progress) as bar:
                while self.step < self.settings.num_steps:
                    self._one_step(bar)
        except ExplosionError:
            if self._recent:
                with naming(self.folder / LAST_FRAMES):
                    ase.io.write(self.folder / LAST_FRAMES, list(self._recent), format="extxyz")
            raise
        finally:
            self.seconds = time.perf_counter() - start
        self._save()

    def _one_step(self, bar: "tqdm[Any]") -> None:
        """One time step, checked and recorded."""
        before = self.atoms.positions.copy()
        self._recent.append(self._bare_frame())
        self._integrate()
        self.step += 1
        temperature = self._temperature()
        self._guard.check_step(self.atoms, before, temperature, self.step)
        if self.step % self.settings.log_interval == 0:
            self._guard.check_geometry(self.atoms, self.step)
            self.heights.look(self.atoms, self.step)
            bar.set_postfix_str(f"{temperature:.0f} K", refresh=False)
        if self.step == 0:
            self._begin_production()
        else:
            self._record()
            if self.step % self.settings.checkpoint_interval == 0:
                self._save()
        self.steps_made += 1
        bar.update()

    def _integrate(self) -> None:
        """Let the integrator step; NaN that a calculator refuses is an explosion like any other."""
        integrator = self._integrator or self._new_integrator()
        self._integrator = integrator
        try:
            integrator.step()
        except (ValueError, FloatingPointError) as error:
            if np.isfinite(self.atoms.positions).all():
                raise
            raise ExplosionError(
                f"step {self.step + 1}: positions became NaN or infinite; try a shorter time step"
            ) from error

    def _begin_production(self) -> None:
        """From thermalizing to the run proper: the ensemble's own integrator, a first row and frame."""
        if self.settings.num_equilibration_steps and self.settings.ensemble == "nve":
            remove_drift(self.atoms)  # the thermostat's kicks made some, and nothing would ever take it out again
        self._integrator = self._new_integrator()
        self._record()
        self._save()

    def _new_integrator(self) -> MolecularDynamics:
        """The integrator for the present phase."""
        ensemble = "langevin" if self.step < 0 else self.settings.ensemble
        return build_integrator(ensemble, self.atoms, self.settings, self._rng)

    def _prime(self) -> None:
        """Ask for what the run will ask for, so that the same code computes every step of a run and of its restarts."""
        if self._with_pressure:
            self.atoms.get_stress()
        self.atoms.get_forces()

    def _temperature(self) -> float:
        """Temperature of the present phase in K."""
        conserved = self.step >= 0 and self.settings.ensemble == "nve"
        return kinetic_temperature(self.atoms, self._freedom[conserved])

    def _record(self) -> None:
        """A row and a frame, where due."""
        if self.step % self.settings.log_interval == 0:
            self.log.append(self._row())
        if self.step >= 0 and self.step % self.settings.frame_interval == 0:
            self.frames.append(snapshot(self.atoms, step=self.step, time_ps=self._time()))

    def _row(self) -> dict[str, float | int]:
        """One row of the log."""
        potential, kinetic = float(self.atoms.get_potential_energy()), float(self.atoms.get_kinetic_energy())
        row: dict[str, float | int] = {
            "step": self.step,
            "time_ps": self._time(),
            "epot": potential,
            "ekin": kinetic,
            "etot": potential + kinetic,
            "temperature": self._temperature(),
        }
        if self._with_pressure:
            stress = self.atoms.get_stress(include_ideal_gas=True)
            row["pressure"] = -float(stress[:3].mean()) / units.GPa
            row["volume"] = float(self.atoms.get_volume())
        return row

    def _time(self) -> float:
        """Time of the present step in ps."""
        return self.step * self.settings.timestep / 1000.0

    def _bare_frame(self) -> Atoms:
        """A copy of the structure without results, as a last good frame."""
        frame: Atoms = self.atoms.copy()
        frame.info["step"] = self.step
        return frame

    def _save(self) -> None:
        """Write the checkpoint; the other files are on disk by then."""
        state = {} if self._integrator is None else integrator_state(self._integrator)
        checkpoint = Checkpoint(
            step=self.step,
            positions=self.atoms.get_positions(),
            momenta=self.atoms.get_momenta(),
            cell=self.atoms.cell.array.copy(),
            random=dict(self._rng.bit_generator.state),
            integrator=state,
            marks={"log": self.log.mark(), "frames": self.frames.mark()},
        )
        write_checkpoint(self.folder / CHECKPOINT, checkpoint)
        self.saved = self.step
