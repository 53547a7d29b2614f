"""Forecasts of particle positions: learned forces of a given group, integrated over time."""

from typing import cast

import torch
from torch import Tensor, nn

from ik_e3nn.models.networks.learned_forces import ExternalForces, PairForces
from ik_e3nn.models.networks.modes import in_own_precision
from ik_e3nn.models.networks.moments import Moment, Round, bounded
from ik_e3nn.models.networks.roll_out import Forces, RollOut, coupling_matrix
from ik_e3nn.symmetry import SymmetryGroup


class Forecaster(nn.Module):
    r"""Predict positions of particles at any time by integrating learned pair and external forces.

    .. math:: \ddot x_i = \sum_j K(r_{ij}, a_{ij}) \, (x_j - x_i) + F(P x_i, s_i)

    K is an implicit G-equivariant kernel of the present distances and of scalars :math:`a_{ij}` of the pair, and is
    held during the integration. F depends on the place along the directions that G leaves fixed, with the projection
    P, and on the known scalars of the particle.

    What joins a pair is unknown, and present positions and velocities hardly show it. The start does, because starts
    have a distribution of their own: all speeds may be equal then. The scalars a are therefore found in several passes.
    Each integrates back to the start, with the forces found so far, and reads positions and velocities there, and the
    integrals of the differences of positions, which say how the start would change with the force of a pair. What is
    usual at the start is learned like all else.

    The network commutes with G, and with shifts along all directions that G does not leave fixed.

    Args:
        group: Symmetry group G of the dynamics, or its name.
        num_scalars: Number of known scalars of every particle.
        channels: Number of scalars of particles and of pairs.
        num_layers: Number of rounds of messages before each integration.
        passes: Number of passes back to the start; without any, forces are found from the present and the time since
            the start.
        step: Length of the steps of integrations for pair forces, in the unit of time of the velocities.
        substeps: Number of shorter steps within each step, for external forces.
        size: Typical acceleration, in which external forces are measured: forces of this size are learned fast.

    Raises:
        ValueError: A number is out of range.

    Reference:
        Zhdanov et al., NeurIPS 2023, sections 3.1-3.3 (the kernel) and 5.2 (the task).

    Example:
        >>> model = Forecaster("SO2", 1, channels=8)
        >>> x, v, s = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.rand(2, 5, 1)
        >>> model(x, v, s, elapsed=torch.full((2,), 3.0), times=torch.tensor([1.0, -3.0])).shape
        torch.Size([2, 2, 5, 3])
    """

    def __init__(
        self,
        group: SymmetryGroup | str,
        num_scalars: int = 0,
        *,
        channels: int = 64,
        num_layers: int = 2,
        passes: int = 1,
        step: float = 0.5,
        substeps: int = 2,
        size: float = 1.0,
    ) -> None:
        super().__init__()
        least = {"channels": 1, "num_layers": 1, "passes": 0, "substeps": 1, "num_scalars": 0}
        given = dict(zip(least, (channels, num_layers, passes, substeps, num_scalars), strict=True))
        for name, number in given.items():
            if number < least[name]:
                raise ValueError(f"{name} of a forecaster must be at least {least[name]}; got {number}")
        for name, value in {"step": step, "size": size}.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} of a forecaster must be positive and finite; got {value}")
        self.group = SymmetryGroup.from_config(group)
        self.num_scalars = num_scalars
        self.roll_out = RollOut(step, substeps)
        self.moments = nn.ModuleList(
            Moment(num_scalars + 1, channels, self.group, with_path=k > 0) for k in range(passes + 1)
        )
        self.rounds = nn.ModuleList(
            nn.ModuleList(Round(channels) for _ in range(num_layers)) for _ in range(passes + 1)
        )
        self.pair_forces = PairForces(channels, self.group)
        self.external_forces = ExternalForces(num_scalars, self.group, size=size)

    @in_own_precision
    def forward(self, positions: Tensor, velocities: Tensor, scalars: Tensor, elapsed: Tensor, times: Tensor) -> Tensor:
        """Predict the positions at some times.

        Args:
            positions: (B, N, 3).
            velocities: (B, N, 3), per unit of time.
            scalars: (B, N, num_scalars).
            elapsed: Time since the start of every system, (B,), at least 0.
            times: Times from now, the same for all systems (T,) or not (B, T); negative in the past.

        Returns:
            Positions (B, T, N, 3).

        Raises:
            ValueError: A tensor has another shape, a time is not finite, or an elapsed time is negative.
        """
        self._check(positions, velocities, scalars, elapsed, times)
        times = times.expand(positions.shape[0], -1)
        forces = self.forces(positions, velocities, scalars, elapsed)
        places = [self.roll_out(forces, positions, velocities, time)[0] for time in times.t().contiguous()]
        return torch.stack(places, 1)

    def forces(self, positions: Tensor, velocities: Tensor, scalars: Tensor, elapsed: Tensor) -> Forces:
        """The forces that the forecast integrates; the arguments are those of ``forward``."""
        particles = positions.shape[1]
        ends, incidence = _pairs(particles, positions)
        vectors = positions[:, ends[1]] - positions[:, ends[0]]
        known = torch.cat([scalars, elapsed[:, None, None].expand(-1, particles, 1)], -1)
        external = self.external_forces(scalars)
        now, *starts = self.moments
        state = now(known, self._placed(positions), vectors[:, :, None], velocities, ends)
        for number, rounds in enumerate(self.rounds):
            for layer in cast(nn.ModuleList, rounds):
                state = layer(*state, ends, incidence)
            springs = self.pair_forces(vectors, state[1])
            forces = Forces(coupling_matrix(springs, *ends, particles), **external)
            if number == len(starts):
                break
            x, v, path = self.roll_out(forces, positions, velocities, -elapsed)
            differences = torch.stack([y[:, ends[1]] - y[:, ends[0]] for y in (x, path)], 2)
            seen = starts[number](known, self._placed(x), differences, v, ends)
            state = tuple(bounded(old) + new for old, new in zip(state, seen, strict=True))
        return forces

    def _placed(self, positions: Tensor) -> Tensor:
        """Positions relative to the center along directions that the group does not leave fixed."""
        center = positions.mean(1, keepdim=True)
        return positions - center + center @ self.external_forces.fixed

    def _check(self, positions: Tensor, velocities: Tensor, scalars: Tensor, elapsed: Tensor, times: Tensor) -> None:
        if positions.ndim != 3 or positions.shape[2] != 3:
            raise ValueError(f"positions must have shape (B, N, 3); got {tuple(positions.shape)}")
        systems, particles, _ = positions.shape
        expected = {
            "velocities": (velocities, (systems, particles, 3)),
            "scalars": (scalars, (systems, particles, self.num_scalars)),
            "elapsed": (elapsed, (systems,)),
        }
        for name, (tensor, shape) in expected.items():
            if tensor.shape != shape:
                raise ValueError(f"{name} must have shape {shape} for these positions; got {tuple(tensor.shape)}")
        if times.ndim not in (1, 2) or times.shape[-1] == 0 or (times.ndim == 2 and times.shape[0] != systems):
            raise ValueError(
                f"times must have shape (T,) or ({systems}, T), with at least one time; got {tuple(times.shape)}"
            )
        for name, tensor in {"elapsed": elapsed, "times": times}.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name} must be finite; got {tensor.tolist()}")
        if (elapsed < 0).any():
            raise ValueError(f"elapsed is the time since the start, at least 0; got {elapsed.tolist()}")


def _pairs(particles: int, like: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Ends of all unordered pairs, (P,) each, and 1 where a particle belongs to a pair, (N, P)."""
    first, second = torch.triu_indices(particles, particles, 1, device=like.device)
    numbers = torch.arange(particles, device=like.device)[:, None]
    return (first, second), ((numbers == first) | (numbers == second)).to(like)
