"""Relaxation of many poses at once, each with its own L-BFGS memory and its own convergence."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Energies = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

CURVATURE = 70.0  # eV/A^2, assumed along directions that are not explored yet; as in ASE
MAX_STEP = 0.2  # A, of the atom that moves most
FAINT = 1e-6  # eV/A^2; a curvature below this is noise, and is not remembered
MEMORY = 20  # steps whose curvatures are remembered


@dataclass
class RelaxState:
    """Everything that the next step of every pose depends on.

    Attributes:
        positions: (P, N, 3), A.
        last_positions: Positions at the evaluation before, (P, N, 3), A.
        last_forces: Forces at the evaluation before, (P, N, 3), eV/A.
        moves: The latest steps, in a ring buffer, (P, MEMORY, 3N), A.
        changes: Changes of the gradient in these steps, times the sign of the curvature, (P, MEMORY, 3N), eV/A.
        inverses: One over the scalar product of step and change, (P, MEMORY); 0 for unused entries.
        energies: eV, (P,); NaN before the first evaluation.
        fmax: Largest force on an atom, eV/A, (P,); infinite before the first evaluation.
        evaluations: Number of evaluations of the energy, (P,); one more than the number of steps.
    """

    positions: FloatArray
    last_positions: FloatArray
    last_forces: FloatArray
    moves: FloatArray
    changes: FloatArray
    inverses: FloatArray
    energies: FloatArray
    fmax: FloatArray
    evaluations: NDArray[np.int64]

    @classmethod
    def start(cls, positions: FloatArray) -> Self:
        """Poses before their first evaluation."""
        count, size = len(positions), positions[0].size
        return cls(
            positions.copy(), positions.copy(), np.zeros_like(positions),
            np.zeros((count, MEMORY, size)), np.zeros((count, MEMORY, size)), np.zeros((count, MEMORY)),
            np.full(count, np.nan), np.full(count, np.inf), np.zeros(count, dtype=np.int64),
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """All arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def relax(
    state: RelaxState,
    energies: Energies,
    *,
    fmax: float,
    steps: int,
    after_step: Callable[[RelaxState], None] = lambda state: None,
) -> None:
    """Relax all poses by L-BFGS, in place; poses that are converged or not finite stay as they are.

    A molecule over a surface is stiff inside and weakly held from outside: the curvatures learned on the way make this
    ten times as fast as following forces. A negative curvature along a step, as happens far from a surface, is stored
    as positive, so that every step goes downhill.

    Args:
        state: The poses.
        energies: Computes energies and forces of some poses.
        fmax: A pose is converged when no force exceeds this, in eV/A.
        steps: Largest number of steps of a pose.
        after_step: Called after every step of all poses.

    Reference:
        D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989); without its line search.

    Example:
        >>> state = RelaxState.start(np.array([[[1.0, 0, 0]], [[0.0, 0, 0.5]]]))
        >>> relax(state, lambda x: (0.5 * (x**2).sum((1, 2)), -x), fmax=1e-4, steps=50)
        >>> bool(np.abs(state.positions).max() < 1e-3)
        True
    """
    while True:
        finite = np.isfinite(state.positions).all((1, 2))
        active = np.flatnonzero((state.fmax > fmax) & (state.evaluations <= steps) & finite)
        if not len(active):
            return
        state.energies[active], forces = energies(state.positions[active])
        largest = np.linalg.norm(forces, axis=2).max(1)
        state.fmax[active] = np.where(np.isfinite(largest + state.energies[active]), largest, np.nan)
        state.evaluations[active] += 1
        going = (state.fmax[active] > fmax) & (state.evaluations[active] <= steps)
        _step(state, active[going], forces[going])
        after_step(state)


def _step(state: RelaxState, poses: NDArray[np.int64], forces: FloatArray) -> None:
    """Store the last step of some poses, and make the next."""
    known = state.evaluations[poses] - 1  # steps made before
    flat = len(poses), state.moves.shape[2]
    place = (known - 1) % MEMORY
    move = (state.positions[poses] - state.last_positions[poses]).reshape(flat)
    change = (state.last_forces[poses] - forces).reshape(flat)
    product = (move * change).sum(1)
    state.moves[poses, place], state.changes[poses, place] = move, np.sign(product)[:, None] * change
    certain = (known > 0) & (np.abs(product) > FAINT * np.linalg.norm(move, axis=1) ** 2)
    state.inverses[poses, place] = np.where(certain, 1 / np.where(certain, np.abs(product), 1.0), 0.0)
    state.last_positions[poses], state.last_forces[poses] = state.positions[poses], forces

    moves = _inverse_hessian(state, poses, place, forces.reshape(flat)).reshape(forces.shape)
    longest = np.linalg.norm(moves, axis=2).max(1)
    state.positions[poses] += moves * np.minimum(1.0, MAX_STEP / np.maximum(longest, 1e-300))[:, None, None]


def _inverse_hessian(
    state: RelaxState, poses: NDArray[np.int64], newest: NDArray[np.int64], vectors: FloatArray
) -> FloatArray:
    """Multiply vectors (p, 3N) by the inverse Hessian of the memory: the two-loop recursion of L-BFGS."""
    order = [(newest - age) % MEMORY for age in range(MEMORY)]
    weights = []
    result = vectors.copy()
    for place in order:
        weights.append(state.inverses[poses, place] * (state.moves[poses, place] * result).sum(1))
        result -= weights[-1][:, None] * state.changes[poses, place]
    result /= CURVATURE
    for place, weight in zip(reversed(order), reversed(weights), strict=True):
        back = state.inverses[poses, place] * (state.changes[poses, place] * result).sum(1)
        result += (weight - back)[:, None] * state.moves[poses, place]
    return result
