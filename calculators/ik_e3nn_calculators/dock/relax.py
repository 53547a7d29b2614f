"""Relaxation of many poses at once, each with its own step and its own end."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Energies = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

# The usual constants of FIRE; times in A / (eV/A)^(1/2) for unit masses, as in ASE.
TIMESTEP, MAX_TIMESTEP, MAX_STEP = 0.1, 1.0, 0.2
ALPHA, SLOWER, FASTER, LESS_ALPHA, PATIENCE = 0.1, 0.5, 1.1, 0.99, 5


@dataclass
class FireState:
    """Everything that the next step of every pose depends on.

    Attributes:
        positions: (P, N, 3), A.
        velocities: (P, N, 3).
        timestep: (P,).
        alpha: (P,).
        downhill: Steps downhill since the last turn, (P,).
        energies: eV, (P,); NaN before the first evaluation.
        fmax: Largest force on an atom, eV/A, (P,); infinite before the first evaluation.
        evaluations: How often its energy was computed, (P,); one more than its steps.
    """

    positions: FloatArray
    velocities: FloatArray
    timestep: FloatArray
    alpha: FloatArray
    downhill: NDArray[np.int64]
    energies: FloatArray
    fmax: FloatArray
    evaluations: NDArray[np.int64]

    @classmethod
    def start(cls, positions: FloatArray) -> Self:
        """Poses at rest."""
        count = len(positions)
        return cls(
            positions.copy(), np.zeros_like(positions), np.full(count, TIMESTEP), np.full(count, ALPHA),
            np.zeros(count, dtype=np.int64), np.full(count, np.nan), np.full(count, np.inf),
            np.zeros(count, dtype=np.int64),
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """All arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def relax(
    state: FireState,
    energies: Energies,
    *,
    fmax: float,
    steps: int,
    after_step: Callable[[FireState], None] = lambda state: None,
) -> None:
    """Relax all poses by FIRE, in place; those that are converged, or whose numbers are not finite, are left alone.

    Args:
        state: The poses.
        energies: Energies and forces of some poses.
        fmax: A pose is converged when no force exceeds this, in eV/A.
        steps: Largest number of steps of a pose.
        after_step: Called after every step of all.

    Reference:
        E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).

    Example:
        >>> state = FireState.start(np.array([[[1.0, 0, 0]], [[0.0, 0, 0.5]]]))
        >>> relax(state, lambda x: (0.5 * (x**2).sum((1, 2)), -x), fmax=1e-4, steps=500)
        >>> bool(np.abs(state.positions).max() < 1e-3)
        True
    """
    while True:
        finite = np.isfinite(state.positions).all((1, 2))
        active = np.flatnonzero((state.fmax > fmax) & (state.evaluations <= steps) & finite)
        if not len(active):
            return
        state.energies[active], forces = energies(state.positions[active])
        state.fmax[active] = np.linalg.norm(forces, axis=2).max(1)
        state.fmax[active] = np.where(
            np.isfinite(state.fmax[active] + state.energies[active]), state.fmax[active], np.nan
        )
        state.evaluations[active] += 1
        going = (state.fmax[active] > fmax) & (state.evaluations[active] <= steps)
        _step(state, active[going], forces[going])
        after_step(state)


def _step(state: FireState, poses: NDArray[np.int64], forces: FloatArray) -> None:
    """One step of FIRE of some poses."""
    v = state.velocities[poses]
    power = (forces * v).sum((1, 2))
    moving = v.any((1, 2))
    down = moving & (power > 0)
    turn = moving & ~down
    ratio = np.sqrt((v**2).sum((1, 2)) / (forces**2).sum((1, 2)))
    alpha = state.alpha[poses][:, None, None]
    mixed = (1 - alpha) * v + alpha * forces * ratio[:, None, None]
    v = np.where(down[:, None, None], mixed, 0.0)
    patient = down & (state.downhill[poses] > PATIENCE)
    timestep, small = state.timestep[poses], state.alpha[poses]
    timestep = np.where(
        patient, np.minimum(timestep * FASTER, MAX_TIMESTEP), np.where(turn, timestep * SLOWER, timestep)
    )
    state.alpha[poses] = np.where(patient, small * LESS_ALPHA, np.where(turn, ALPHA, small))
    state.downhill[poses] = np.where(down, state.downhill[poses] + 1, 0)
    state.timestep[poses] = timestep
    v = v + timestep[:, None, None] * forces
    moves = timestep[:, None, None] * v
    lengths = np.sqrt((moves**2).sum((1, 2)))
    moves *= np.minimum(1.0, MAX_STEP / np.maximum(lengths, 1e-300))[:, None, None]
    state.velocities[poses] = v
    state.positions[poses] += moves
