"""Integration of pair and external forces over time, forwards or backwards."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

TOLERANCE = 1e-5  # of the number of steps: 3 / 0.5 may round to more than 6 in float32


class Forces(NamedTuple):
    r"""Forces on the particles of B systems, in numbers that do not change during a roll-out.

    .. math:: F_i(x) = \sum_j K_{ij} (x_j - x_i) + W^T \mathrm{silu}(o_i + V^T x_i) + s_i + S^T x_i

    Attributes:
        coupling: The pair forces as one matrix, (B, 3N, 3N): K between different particles, and minus their sums.
        offset: o, (B, N, H), of H hidden units.
        lift: V, (3, H).
        push: W, (H, 3).
        steady: s, (B, N, 3).
        slope: S, (3, 3).
    """

    coupling: Tensor
    offset: Tensor
    lift: Tensor
    push: Tensor
    steady: Tensor
    slope: Tensor

    def pair(self, positions: Tensor) -> Tensor:
        """Sum over pairs (B, N, 3) at positions (B, N, 3)."""
        return (self.coupling @ positions.flatten(1)[..., None]).view_as(positions)

    def external(self, positions: Tensor) -> Tensor:
        """External forces (B, N, 3) at positions (B, N, 3)."""
        return silu(self.offset + positions @ self.lift) @ self.push + self.steady + positions @ self.slope


def coupling_matrix(springs: Tensor, first: Tensor, second: Tensor, particles: int) -> Tensor:
    r"""The matrix A with :math:`(A x)_i = \sum_j K_{ij} (x_j - x_i)`.

    The forces of a pair are opposite, so that momentum is conserved; if every K is symmetric, energy is conserved too.

    Args:
        springs: K of every unordered pair, (B, P, 3, 3).
        first: First particles of the pairs, (P,).
        second: Second particles of the pairs, (P,).
        particles: Number N of particles.

    Returns:
        (B, 3N, 3N).

    Example:
        >>> A = coupling_matrix(torch.eye(3).view(1, 1, 3, 3), torch.tensor([0]), torch.tensor([1]), 2)
        >>> (A[0] @ torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0, 0.0]))[[0, 3]]
        tensor([ 2., -2.])
    """
    numbers = torch.arange(particles, device=first.device)[:, None]
    ends = (numbers == second).to(springs) - (numbers == first).to(springs)  # (N, P)
    blocks = torch.einsum("np,bpij,mp->bnimj", ends, springs, ends)
    return -blocks.reshape(springs.shape[0], 3 * particles, 3 * particles)


class RollOut(nn.Module):
    r"""Integrate :math:`\ddot x = F(x)` by the velocity Verlet method, with external forces in shorter steps.

    The integration is symplectic, and reversible for whole numbers of steps. All masses are 1. All steps have the same
    length, for every time to integrate over, and only the last is shorter: so learned forces can make up for the errors
    of the steps. Systems do not depend on each other.

    Args:
        step: Length of the steps for pair forces, in the unit of time of the velocities.
        substeps: Number of shorter steps for external forces, within each step.

    Reference:
        Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992).
    """

    def __init__(self, step: float, substeps: int) -> None:
        super().__init__()
        self.length, self.step = step, Step(substeps)

    def forward(
        self, forces: Forces, positions: Tensor, velocities: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Integrate over a time.

        Args:
            forces: The forces F.
            positions: (B, N, 3).
            velocities: (B, N, 3).
            span: The time of every system, (B,); negative for the past.

        Returns:
            Positions and velocities at the end, and the integral of positions over time by the trapezoidal rule, all
            of shape (B, N, 3).
        """
        state = (positions, velocities, forces.pair(positions), forces.external(positions))
        path = torch.zeros_like(positions)
        longest = float(span.detach().abs().max()) if len(span) else 0.0
        for k in range(math.ceil(longest / self.length - TOLERANCE)):
            dt = (span.abs() - k * self.length).clamp(0, self.length) * span.sign()
            before, dt = state[0], dt[:, None, None]
            state = self.step(forces, *state, dt)
            path = path + 0.5 * dt * (before + state[0])
        return state[0], state[1], path


class Step(nn.Module):
    """One step of a :class:`RollOut`: the part of it that is compiled.

    Args:
        substeps: Number of shorter steps for external forces.
    """

    def __init__(self, substeps: int) -> None:
        super().__init__()
        self.substeps = substeps

    def forward(
        self, forces: Forces, positions: Tensor, velocities: Tensor, pair: Tensor, external: Tensor, dt: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positions, velocities, pair and external forces after a step of length dt (B, 1, 1), from those before."""
        x, v, short = positions, velocities + 0.5 * dt * pair, dt / self.substeps
        for _ in range(self.substeps):
            v = v + 0.5 * short * external
            x = x + short * v
            external = forces.external(x)
            v = v + 0.5 * short * external
        pair = forces.pair(x)
        return x, v + 0.5 * dt * pair, pair, external
