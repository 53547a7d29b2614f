"""The integration of a molecular-dynamics run, step by step, with checks that stop an explosion."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics
from tqdm.auto import tqdm

from ik_e3nn.errors import ExplosionError
from ik_e3nn_calculators.calculator.code import Code
from ik_e3nn_calculators.calculator.code_watch import CodeWatch
from ik_e3nn_calculators.md.checkpoint import Checkpoint
from ik_e3nn_calculators.md.guard import ExplosionGuard
from ik_e3nn_calculators.md.integrators import build_integrator, integrator_state, restore_integrator
from ik_e3nn_calculators.md.settings import MDSettings
from ik_e3nn_calculators.md.velocities import degrees_of_freedom, drift_share, kinetic_temperature, remove_drift
from ik_e3nn_calculators.systems.heights import HeightWatch

_AT_REST = 1e-6  # share of the kinetic energy


class Dynamics:
    """A structure in motion. Steps of equilibration have negative numbers; the run proper starts at 0.

    Call ``start``, or ``restore`` with a saved state, before ``run``.

    Args:
        atoms: The starting structure, with calculator and momenta; it is changed in place.
        settings: The settings.
        heights: Watches heights over a surface that the model knows.
        code: The code that evaluates the model.

    Attributes:
        step: The number of the present step.
        has_pressure: Whether the structure is periodic in three directions and the calculator computes stress.
        steps_made: Number of steps made by this process.
        seconds: Wall time of these steps, writing included.
        rebuilds: Neighbor-list rebuilds during these steps; None if the calculator does not count them.
    """

    _integrator: MolecularDynamics

    def __init__(self, atoms: Atoms, settings: MDSettings, heights: HeightWatch, code: Code) -> None:
        self.atoms = atoms
        self.step = -settings.num_equilibration_steps
        self.steps_made, self.seconds = 0, 0.0
        self.rebuilds: int | None = None
        self._settings, self._heights, self._code = settings, heights, code
        self._watch = CodeWatch(code)
        self._random = np.random.default_rng(settings.seed)
        # Drift in the given momenta that is not removed persists, so it counts as heat.
        still = settings.velocities == "thermal" or self.step < 0 or drift_share(atoms) < _AT_REST
        self._freedom = {
            conserved: degrees_of_freedom(atoms, conserved=conserved and still) for conserved in (True, False)
        }
        r_max = getattr(atoms.calc, "r_max", None)
        self._guard = ExplosionGuard(atoms, settings.limits, target=settings.temperature, r_max=r_max)
        self.has_pressure = bool(
            atoms.pbc.all() and atoms.cell.rank == 3 and "stress" in atoms.calc.implemented_properties
        )

    @property
    def time_ps(self) -> float:
        """Time of the present step in ps."""
        return self.step * self._settings.timestep / 1000.0

    @property
    def temperature(self) -> float:
        """Temperature in K, over the thermal degrees of freedom of the present phase."""
        conserved = self.step >= 0 and self._settings.ensemble == "nve"
        return kinetic_temperature(self.atoms, self._freedom[conserved])

    @property
    def compiled_from(self) -> int | None:
        """The step from which on compiled code is used; None while the model runs eagerly."""
        return self._watch.compiled_from

    def start(self) -> None:
        """Evaluate and check the starting structure, and prepare the first step.

        Raises:
            IKError: The model cannot evaluate the structure, the ensemble does not suit it, or its atoms overlap.
        """
        self._evaluate()
        self._watch.begin(self.step)
        self._guard.check_geometry(self.atoms, self.step)
        build_integrator(self._settings.ensemble, self.atoms, self._settings, self._random)
        self._integrator = self._new_integrator()

    def state(self, marks: dict[str, int]) -> Checkpoint:
        """Everything that the next step depends on, with the given lengths of the output files."""
        return Checkpoint(
            step=self.step,
            positions=self.atoms.get_positions(),
            momenta=self.atoms.get_momenta(),
            cell=self.atoms.cell.array.copy(),
            random=dict(self._random.bit_generator.state),
            integrator=integrator_state(self._integrator),
            marks=marks,
            compiled_from=self.compiled_from,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Restore a saved state."""
        saved.apply(self.atoms)
        self.step = saved.step
        self._random.bit_generator.state = saved.random
        self._code.resume(compiled=saved.compiled_from is not None)
        self._evaluate()
        self._watch.resume(self.step, saved.compiled_from)
        self._integrator = self._new_integrator()
        restore_integrator(self._integrator, saved.integrator)

    def run(self, after_step: Callable[[], None]) -> None:
        """Run to the end.

        Args:
            after_step: Called after every step.

        Raises:
            ExplosionError: The structure left the physical range.
        """
        steps, start = self._settings.num_steps, time.perf_counter()
        before = getattr(self.atoms.calc, "neighbor_rebuilds", None)
        self._heights.look(self.atoms, self.step)
        try:
            todo = max(steps - self.step, 0)
            self._code.expect(todo)
            with tqdm(total=todo, unit="step", desc="md", disable=not self._settings.progress) as bar:
                while self.step < steps:
                    self._one_step(bar)
                    after_step()
                    self.steps_made += 1
                    bar.update()
        finally:
            self.seconds = time.perf_counter() - start
            self.rebuilds = None if before is None else self.atoms.calc.neighbor_rebuilds - before

    def _one_step(self, bar: "tqdm[Any]") -> None:
        """Make and check one time step; after the last step of equilibration, switch to the ensemble of the run."""
        before = self.atoms.positions.copy()
        try:
            self._integrator.step()
        except (ValueError, FloatingPointError) as error:  # a calculator that refuses NaN reports an explosion
            if np.isfinite(self.atoms.positions).all():
                raise
            raise ExplosionError(
                f"step {self.step + 1}: positions became NaN or infinite; try a shorter time step"
            ) from error
        self.step += 1
        self._watch.look(self.step)
        temperature = self.temperature
        self._guard.check_step(self.atoms, before, temperature, self.step)
        if self.step % self._settings.log_interval == 0:
            self._guard.check_geometry(self.atoms, self.step)
            self._heights.look(self.atoms, self.step)
            bar.set_postfix_str(f"{temperature:.0f} K", refresh=False)
        if self.step == 0:
            if self._settings.ensemble == "nve":
                remove_drift(self.atoms)  # the thermostat caused drift, which NVE would keep forever
            self._integrator = self._new_integrator()

    def _new_integrator(self) -> MolecularDynamics:
        """The integrator for the present phase."""
        ensemble = "langevin" if self.step < 0 else self._settings.ensemble
        return build_integrator(ensemble, self.atoms, self._settings, self._random)

    def _evaluate(self) -> None:
        """Compute the same quantities as every step does, so that a restart gives the same bits."""
        if self.has_pressure:
            self.atoms.get_stress()
        self.atoms.get_forces()
