"""Frames from Langevin dynamics on the reference method itself."""

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ik_e3nn.data.generation.labeling import Labeler, LabelError
from ik_e3nn.data.generation.sampling import (
    Frame,
    Origin,
    Sampler,
    constrained_forces,
    constrained_momenta,
    constrained_positions,
    fixed_atoms,
)

FloatArray = NDArray[np.float64]

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
        masses, free = atoms.get_masses()[:, None], ~fixed_atoms(atoms)
        constrained_positions(atoms, atoms.positions)  # constraints on bond lengths adopt the start
        labeler.forget()
        if previous is None:
            steps += self.equilibration
            momenta = np.sqrt(masses * units.kB * temperature) * rng.normal(size=(len(atoms), 3))
            momenta = _without_drift(atoms, momenta)
            forces = labeler.forces(atoms)
        else:
            atoms.positions = previous.positions
            forces = previous.labels.forces
            momenta = np.zeros((len(atoms), 3)) if previous.momenta is None else previous.momenta
        for _ in range(steps):
            momenta, forces = self._step(atoms, momenta, forces, temperature, rng, labeler)
        _check_temperature(momenta, masses, free, temperature)
        return Frame(atoms.positions.copy(), atoms.cell.array.copy(), labeler.label(atoms), momenta)

    def _step(
        self,
        atoms: Atoms,
        momenta: FloatArray,
        forces: FloatArray,
        temperature: float,
        rng: np.random.Generator,
        labeler: Labeler,
    ) -> tuple[FloatArray, FloatArray]:
        """Move the atoms by half kick, half drift, thermostat, half drift, half kick; return new momenta and forces."""
        masses = atoms.get_masses()[:, None]
        decay = np.exp(-self.friction * self.timestep)
        noise = np.sqrt((1.0 - decay**2) * masses * units.kB * temperature)
        momenta = self._kicked(atoms, momenta, forces)
        momenta = self._drifted(atoms, momenta)
        momenta = _without_drift(atoms, decay * momenta + noise * rng.normal(size=momenta.shape))
        momenta = self._drifted(atoms, momenta)
        forces = labeler.forces(atoms)
        return self._kicked(atoms, momenta, forces), forces

    def _kicked(self, atoms: Atoms, momenta: FloatArray, forces: FloatArray) -> FloatArray:
        """Momenta after half a step under the forces."""
        pull = constrained_forces(atoms, forces) if atoms.constraints else forces
        return constrained_momenta(atoms, momenta + 0.5 * self.timestep * pull)

    def _drifted(self, atoms: Atoms, momenta: FloatArray) -> FloatArray:
        """Move the atoms for half a step under their constraints, and return the momenta of that motion."""
        masses, before = atoms.get_masses()[:, None], atoms.get_positions()
        goal = before + 0.5 * self.timestep * momenta / masses
        atoms.positions = constrained_positions(atoms, goal)
        if not atoms.constraints or np.array_equal(atoms.positions, goal):
            return momenta
        made = momenta + (atoms.positions - goal) * masses / (0.5 * self.timestep)
        return constrained_momenta(atoms, made)


def _without_drift(atoms: Atoms, momenta: FloatArray) -> FloatArray:
    """Momenta under the constraints, or, if there are none, without the drift of the center of mass."""
    if atoms.constraints or len(momenta) == 1:
        return constrained_momenta(atoms, momenta)
    masses = atoms.get_masses()[:, None]
    return momenta - masses * momenta.sum(axis=0) / masses.sum()


def _check_temperature(momenta: FloatArray, masses: FloatArray, free: NDArray[np.bool_], temperature: float) -> None:
    """Raise if the atoms are much hotter than the thermostat."""
    kinetic = 0.5 * (momenta**2 / masses).sum()
    hot = 2.0 * kinetic / (3.0 * units.kB * max(int(free.sum()), 1))
    if not hot < _RUNAWAY_FACTOR * temperature + _RUNAWAY_OFFSET:
        raise LabelError(f"the dynamics became unstable ({hot:.0f} K); use a smaller time step")
