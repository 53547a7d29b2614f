"""Frames from Langevin dynamics on the reference method itself."""

import numpy as np
from ase import Atoms, units

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.generation.labeling import Labeler, LabelError
from ik_e3nn.data.generation.sampling import Frame, Origin, Sampler, fixed_atoms

# A kinetic temperature this far above the thermostat's means that the integration has failed.
_RUNAWAY_FACTOR, _RUNAWAY_OFFSET = 10.0, 3000.0


class LangevinSampler(Sampler):
    r"""Langevin dynamics by the BAOAB splitting, with one frame every ``interval`` steps.

    .. math:: dp = F\,dt - \gamma p\,dt + \sqrt{2 m \gamma k_B T}\,dW

    Each frame continues from the last one with its own random numbers, so a chain can be interrupted and continued
    between any two frames with the same result. Equilibration from the starting structure precedes the first frame.

    Args:
        timestep: Time step in fs.
        interval: Steps between frames.
        equilibration: Additional steps before the first frame.
        friction: Friction coefficient in 1/fs.

    Reference:
        B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, for the BAOAB splitting.

    Example:
        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> sampler, rng = LangevinSampler(2.0, interval=5, equilibration=0, friction=0.02), np.random.default_rng(0)
        >>> sampler.frame(Origin(bulk("Cu"), Labeler(EMT()), 300.0), None, rng).labels.energy < 0.1
        True
    """

    name = "md"
    needs_minimum = True
    uses_temperature = True

    def __init__(self, timestep: float, interval: int, equilibration: int, friction: float) -> None:
        self.timestep = timestep * units.fs
        self.interval = interval
        self.equilibration = equilibration
        self.friction = friction / units.fs

    def frame(self, origin: Origin, previous: Frame | None, rng: np.random.Generator) -> Frame:
        """The next frame; see ``Sampler.frame``."""
        labeler, temperature = origin.labeler, origin.temperature
        atoms, steps = origin.start.copy(), self.interval
        atoms.set_positions(atoms.positions)  # constraints on bond lengths adopt the start
        labeler.forget()
        if previous is None:
            steps += self.equilibration
            spread = np.sqrt(atoms.get_masses()[:, None] * units.kB * temperature)
            _set_momenta(atoms, spread * rng.normal(size=(len(atoms), 3)))
            forces = labeler.forces(atoms)
        else:
            atoms.positions = previous.positions
            atoms.set_momenta(previous.momenta, apply_constraint=False)
            forces = previous.labels.forces
        for _ in range(steps):
            forces = self._step(atoms, forces, temperature, rng, labeler)
        _check_temperature(atoms, temperature)
        return Frame(atoms.positions.copy(), atoms.cell.array.copy(), labeler.label(atoms), atoms.get_momenta())

    def _step(
        self, atoms: Atoms, forces: FloatArray, temperature: float, rng: np.random.Generator, labeler: Labeler
    ) -> FloatArray:
        """Move the atoms by half kick, half drift, thermostat, half drift, half kick; return the new forces."""
        decay = np.exp(-self.friction * self.timestep)
        noise = np.sqrt((1.0 - decay**2) * atoms.get_masses()[:, None] * units.kB * temperature)
        self._kick(atoms, forces)
        self._drift(atoms)
        _set_momenta(atoms, decay * atoms.get_momenta() + noise * rng.normal(size=atoms.positions.shape))
        self._drift(atoms)
        forces = labeler.forces(atoms)
        self._kick(atoms, forces)
        return forces

    def _kick(self, atoms: Atoms, forces: FloatArray) -> None:
        """Change the momenta by the forces of half a step."""
        pull = forces.copy()
        for constraint in atoms.constraints:
            constraint.adjust_forces(atoms, pull)
        atoms.set_momenta(atoms.get_momenta() + 0.5 * self.timestep * pull)

    def _drift(self, atoms: Atoms) -> None:
        """Move the atoms for half a step; if constraints change their way, the momenta become those of the motion."""
        masses, momenta = atoms.get_masses()[:, None], atoms.get_momenta()
        goal = atoms.positions + 0.5 * self.timestep * momenta / masses
        atoms.set_positions(goal)
        if atoms.constraints and not np.array_equal(atoms.positions, goal):
            atoms.set_momenta(momenta + (atoms.positions - goal) * masses / (0.5 * self.timestep))


def _set_momenta(atoms: Atoms, momenta: FloatArray) -> None:
    """Set momenta under the constraints, or, if there are none, without the drift of the center of mass."""
    if not atoms.constraints and len(atoms) > 1:
        masses = atoms.get_masses()[:, None]
        momenta = momenta - masses * momenta.sum(axis=0) / masses.sum()
    atoms.set_momenta(momenta)


def _check_temperature(atoms: Atoms, temperature: float) -> None:
    """Raise if the atoms are much hotter than the thermostat."""
    free = int((~fixed_atoms(atoms)).sum())
    hot = 2.0 * atoms.get_kinetic_energy() / (3.0 * units.kB * max(free, 1))
    if not hot < _RUNAWAY_FACTOR * temperature + _RUNAWAY_OFFSET:
        raise LabelError(f"the dynamics became unstable ({hot:.0f} K); use a smaller time step")
