"""Scalars of a group from vectors, and rounds of messages between scalars of particles and of pairs."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.symmetry import SymmetryGroup, trilinear_invariants


class VectorInvariants(ExactModule):
    r"""A scalar MLP of all linear and quadratic functions of some vectors that a group leaves unchanged.

    .. math:: y = \mathrm{MLP}\big( s,\; b \cdot x_a,\; x_a^T B x_c \big), \qquad a \le c, \quad
              b \in \mathrm{Inv}_G(1), \quad B \in \mathrm{Inv}_G(1 \otimes 1)

    Both functions are normalized over the data. At the start of trajectories it is the small deviations from what is
    usual there that tell something, such as those from a common speed.

    Args:
        num_scalars: Number of further scalars s.
        num_vectors: Number of vectors x.
        channels: Number of scalars of the result.
        group: The group G.

    Example:
        >>> model = VectorInvariants(1, 2, 8, SymmetryGroup("Cinfv"))
        >>> model(torch.rand(4, 5, 1), torch.randn(4, 5, 2, 3)).shape
        torch.Size([4, 5, 8])
    """

    linear: Tensor
    bilinear: Tensor

    def __init__(self, num_scalars: int, num_vectors: int, channels: int, group: SymmetryGroup) -> None:
        super().__init__()
        vector, scalar = o3.Irrep("1o"), o3.Irrep("0e")
        bilinear = trilinear_invariants(vector, vector, scalar, group)[..., 0]
        self.register_exact("linear", group.invariants(1, -1).T)
        self.register_exact("bilinear", bilinear.permute(1, 2, 0).flatten(1))  # (3, 3 * number of B)
        self.first, self.second = (index.tolist() for index in torch.triu_indices(num_vectors, num_vectors))
        self.found = num_vectors * self.linear.shape[1] + len(self.first) * len(bilinear)
        self.norm = nn.BatchNorm1d(self.found, affine=False, momentum=0.02)
        self.mlp = _mlp(num_scalars + self.found, channels)

    def forward(self, scalars: Tensor, vectors: Tensor) -> Tensor:
        """Map scalars (..., num_scalars) and vectors (..., num_vectors, 3) to scalars (..., channels)."""
        images = (vectors @ self.bilinear).unflatten(-1, (3, -1))[..., self.second, :, :]
        products = (vectors[..., self.first, :, None] * images).sum(-2)
        found = torch.cat([(vectors @ self.linear).flatten(-2), products.flatten(-2)], -1)
        if found.numel():
            found = self.norm(found.view(-1, self.found)).view(found.shape)
        result: Tensor = self.mlp(torch.cat([scalars, found], -1))
        return result


class Moment(nn.Module):
    """Scalars of particles and of unordered pairs from positions and velocities at one time.

    Args:
        num_scalars: Number of known scalars of a particle.
        channels: Number of scalars of the results.
        group: The group G.
        with_path: Whether the integral of positions over time is an input too.
    """

    def __init__(self, num_scalars: int, channels: int, group: SymmetryGroup, *, with_path: bool) -> None:
        super().__init__()
        self.particle = VectorInvariants(num_scalars, 2, channels, group)
        self.pair = VectorInvariants(0, 4 if with_path else 3, channels, group)

    def forward(
        self, scalars: Tensor, placed: Tensor, differences: Tensor, velocities: Tensor, ends: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Scalars of particles (B, N, channels) and of pairs (B, P, channels).

        Args:
            scalars: (B, N, num_scalars).
            placed: Positions, relative to the center along directions that G does not leave fixed, (B, N, 3).
            differences: Differences of both ends of pairs, in positions and maybe integrals, (B, P, 1 or 2, 3).
            velocities: (B, N, 3).
            ends: Particles of every pair, (P,) each.
        """
        particles = self.particle(scalars, torch.stack([placed, velocities], 2))
        ordered = [velocities[:, end] for end in ends]
        both = [
            torch.cat([sign * differences, torch.stack(order, 2)], 2)
            for sign, order in ((1, ordered), (-1, ordered[::-1]))
        ]
        x = torch.stack(both, 1)
        pairs = self.pair(x.new_zeros(*x.shape[:-2], 0), x).sum(1) * 0.5**0.5  # the order of the ends does not matter
        return particles, pairs


class Round(nn.Module):
    """Messages between scalars: particles see their pairs, and pairs then see their particles.

    Args:
        channels: Number of scalars of a particle and of a pair.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pair = _mlp(3 * channels, channels)
        self.gate = nn.Linear(channels, channels)
        self.particle = _mlp(2 * channels, channels)

    def forward(
        self, particles: Tensor, pairs: Tensor, ends: tuple[Tensor, Tensor], incidence: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New scalars of particles (B, N, channels) and of pairs (B, P, channels).

        Args:
            particles: (B, N, channels).
            pairs: (B, P, channels).
            ends: Particles of every pair, (P,) each.
            incidence: 1 for the particles of each pair, otherwise 0, (N, P).
        """
        message = incidence @ (torch.sigmoid(self.gate(pairs)) * pairs) * 0.5
        particles = particles + self.particle(torch.cat([bounded(particles), message], -1))
        seen = bounded(particles)
        a, b = (seen[:, end] for end in ends)
        return particles, pairs + self.pair(torch.cat([bounded(pairs), a + b, a * b], -1))


def bounded(x: Tensor) -> Tensor:
    """Features divided by the root of 1 plus their mean square."""
    return x * (1 + x.square().mean(-1, keepdim=True)).rsqrt()


def _mlp(dim_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim_in, channels), nn.SiLU(), nn.Linear(channels, channels))
