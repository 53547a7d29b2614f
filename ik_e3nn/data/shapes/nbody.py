"""Particles joined by springs and tied to a plane: trajectories whose only symmetry is about an axis."""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ik_e3nn.arrays import BoolArray, FloatArray

SPRING = 0.1  # strength of a spring between two particles
LINK_PROBABILITY = 0.5
SPREAD = 0.5  # standard deviation of the initial coordinates
SPEED = 0.5  # initial speed, in a random direction
MAX_FORCE = 100.0
TIMESTEP = 0.001


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of systems of unit masses, in the units of the model.

    Args:
        positions: (B, F, N, 3).
        velocities: (B, F, N, 3), at the same times.
        heights: L, rest length of the spring that ties a particle to the plane z = 0, (B, N).
        links: Which pairs are joined by a spring, (B, N, N), symmetric.
        stiffness: k of the springs to the plane.
        interval: Time between frames.
    """

    positions: FloatArray
    velocities: FloatArray
    heights: FloatArray
    links: BoolArray
    stiffness: float
    interval: float

    def energies(self) -> FloatArray:
        """Total energy, (B, F); conserved if no force is clipped."""
        x, v = self.positions, self.velocities
        kinetic = 0.5 * (v**2).sum((2, 3))
        distances = ((x[:, :, :, None] - x[:, :, None]) ** 2).sum(4)
        springs = 0.25 * SPRING * (self.links[:, None] * distances).sum((2, 3))  # the sum counts every pair twice
        plane = 0.5 * self.stiffness * ((x[..., 2] - self.heights[:, None]) ** 2).sum(2)
        total: FloatArray = kinetic + springs + plane
        return total


def simulate_nbody(
    num_systems: int,
    *,
    stiffness: float,
    seed: int,
    num_particles: int = 5,
    num_frames: int = 50,
    steps_per_frame: int = 100,
    progress: bool = False,
) -> Trajectories:
    r"""Simulate all systems at once.

    Each pair of particles is linked with probability 1/2 by a spring of zero length, and every particle is tied to the
    plane z = 0 by a spring that slides freely over it:

    .. math:: \ddot r_i = \mathrm{clip}\Big( 0.1 \sum_{j \in \text{links}(i)} (r_j - r_i) - k (z_i - L_i) \, e_z \Big)

    with :math:`L_i` uniform in [0, 1], coordinates from N(0, 0.5^2), speeds of 0.5 in random directions, and every
    component of a force clipped to 100. The integrator is velocity Verlet with a step of 0.001; the start is frame 0.

    Args:
        num_systems: Number B of systems.
        stiffness: k, at least 0.
        seed: The same seed gives the same systems, and the same starts for every stiffness.
        num_particles: Number N of particles.
        num_frames: Number F of frames.
        steps_per_frame: Steps between frames.
        progress: Show a progress bar.

    Returns:
        The trajectories.

    Raises:
        ValueError: A number is out of range.

    Reference:
        Kipf et al., Neural Relational Inference, ICML 2018 (the springs); Zhdanov et al., NeurIPS 2023, section 5.2
        (the plane).

    Example:
        >>> simulate_nbody(4, stiffness=10.0, seed=0, num_frames=3).positions.shape
        (4, 3, 5, 3)
    """
    least = {"num_systems": 1, "num_particles": 1, "num_frames": 1, "steps_per_frame": 1, "stiffness": 0}
    given = dict(zip(least, (num_systems, num_particles, num_frames, steps_per_frame, stiffness), strict=True))
    for name, number in given.items():
        if not number >= least[name]:
            raise ValueError(f"{name} must be at least {least[name]}; got {number}")
    links, heights, x, v = _starts(num_systems, num_particles, np.random.default_rng(seed))
    shape = (num_frames, num_particles, 3, num_systems)
    positions, velocities = np.empty(shape), np.empty(shape)
    force = _forces(x, links, heights, stiffness)
    for frame in tqdm(range(num_frames), desc=f"stiffness {stiffness:g}", unit="frame", disable=not progress):
        positions[frame], velocities[frame] = x, v
        for _ in range(steps_per_frame if frame < num_frames - 1 else 0):
            v = v + 0.5 * TIMESTEP * force
            x = x + TIMESTEP * v
            force = _forces(x, links, heights, stiffness)
            v = v + 0.5 * TIMESTEP * force
    return Trajectories(
        np.ascontiguousarray(positions.transpose(3, 0, 1, 2)),
        np.ascontiguousarray(velocities.transpose(3, 0, 1, 2)),
        heights.T.copy(),
        links.transpose(2, 0, 1).astype(bool),
        float(stiffness),
        TIMESTEP * steps_per_frame,
    )


def _starts(systems: int, particles: int, rng: np.random.Generator) -> tuple[FloatArray, ...]:
    """Links (N, N, B), heights (N, B), positions and velocities (N, 3, B): systems last, for speed."""
    upper = np.triu(rng.random((systems, particles, particles)) < LINK_PROBABILITY, 1)
    links = (upper | upper.transpose(0, 2, 1)).astype(float)
    heights = rng.random((systems, particles))
    x = SPREAD * rng.standard_normal((systems, particles, 3))
    v = rng.standard_normal((systems, particles, 3))
    v *= SPEED / np.linalg.norm(v, axis=2, keepdims=True)
    return tuple(np.ascontiguousarray(np.moveaxis(a, 0, -1)) for a in (links, heights, x, v))


def _forces(x: FloatArray, links: FloatArray, heights: FloatArray, stiffness: float) -> FloatArray:
    """Clipped forces (N, 3, B) at positions (N, 3, B)."""
    force = SPRING * ((links[:, :, None] * x).sum(1) - links.sum(1)[:, None] * x)
    force[:, 2] -= stiffness * (x[:, 2] - heights)
    return np.clip(force, -MAX_FORCE, MAX_FORCE)
