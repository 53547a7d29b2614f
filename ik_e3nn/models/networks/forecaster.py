"""Forecasts of particle positions by a steerable message-passing network, equivariant under a given group."""

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import spherical_irreps
from ik_e3nn.basis.edge import PolynomialBasis
from ik_e3nn.constants import ExactModule
from ik_e3nn.conv import PointConv, ReceiverBlocks
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.models.networks.modes import in_own_precision
from ik_e3nn.nn import DampedSquare, EquivariantLinear, EquivariantMLP
from ik_e3nn.symmetry import SymmetryGroup

REACH = 4.0  # initial width of the Gaussian window of kernels, in the unit of the positions


class Forecaster(ExactModule):
    r"""Predict future positions of particles that interact with each other and with an external field.

    .. math:: h_{ij}^{(t)} &= K_t\big(r_{ij}; h_{ij}^{(t-1)}, f_i^{(t)}, f_j^{(t)}\big) \\
              f_i^{(t+1)} &= f_i^{(t)} + \mathrm{MLP}\Big( L f_i^{(t)} + \sum_j K(h_{ij}^{(t)}) f_j^{(t)} \Big) \\
              x_i(t) &= x_i + t v_i + L_t(f_i^{(0)}) + \mathrm{MLP}_t(f_i^{(T)})

    Each kernel is implicit: a G-equivariant MLP of the edge, of the output of the last kernel, and of the features of
    both ends. Along directions that G leaves fixed, the network depends on absolute positions, along the others only on
    relative positions. All times t share everything but the last maps: predicting positions at other times, also in the
    past, trains the network on the forces, and improves the predictions for the time of interest.

    Args:
        group: Symmetry group G of the dynamics, or its name.
        num_scalars: Number of known scalars of every particle.
        channels: Number of fields of every degree.
        num_layers: Number of rounds of messages T.
        l_max: Largest degree of all fields. With 0 and the group "C1" it is a plain message-passing network.
        times: Times of the predictions, in the unit of time of the velocities; they may be negative.

    Raises:
        ValueError: No times are given.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 5.2.

    Example:
        >>> model = Forecaster("SO2", 1, channels=4, num_layers=2)
        >>> model(torch.randn(3, 5, 3), torch.randn(3, 5, 3), torch.rand(3, 5, 1)).shape
        torch.Size([3, 1, 5, 3])
    """

    fixed: Tensor
    times: Tensor

    def __init__(
        self,
        group: SymmetryGroup | str,
        num_scalars: int = 0,
        *,
        channels: int = 16,
        num_layers: int = 4,
        l_max: int = 1,
        times: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        if not times:
            raise ValueError("a forecaster needs at least one time; got none")
        self.register_exact("times", torch.tensor(list(times), dtype=torch.float64).view(-1, 1, 1))
        self.group = SymmetryGroup.from_config(group)
        hidden = spherical_irreps(l_max, channels)
        fixed = self.group.invariants(1, -1)
        self.register_exact("fixed", fixed.T @ fixed)
        irreps_in = o3.Irreps([(num_scalars, "0e"), (2, "1o")])
        self.embedding = EquivariantMLP(irreps_in, hidden, hidden, self.group, layers=2, activation="product")
        self.layers = nn.ModuleList(Message(hidden, self.group, first=t == 0) for t in range(num_layers))
        out = o3.Irreps([(len(times), "1o")])
        self.readout = EquivariantMLP(hidden, hidden, out, self.group, layers=2, activation="product")
        self.linear = EquivariantLinear(irreps_in, out, self.group, bias=True)
        for module in self.modules():
            if isinstance(module, DampedSquare):
                module.gain = 1.0  # products may start small beside skip connections; used for the N-body table
        with torch.no_grad():  # an untrained model predicts motion with constant velocity
            self.linear.weight.zero_()
            self.readout.last.weight.zero_()

    @in_own_precision
    def forward(self, positions: Tensor, velocities: Tensor, scalars: Tensor) -> Tensor:
        """Predict the positions at all times.

        Args:
            positions: (B, N, 3).
            velocities: (B, N, 3), per unit of time.
            scalars: (B, N, num_scalars).

        Returns:
            Positions (B, len(times), N, 3).
        """
        systems, particles, _ = positions.shape
        edge_index = _all_pairs(systems, particles, positions.device)
        flat = positions.flatten(0, 1)
        vectors = flat[edge_index[1]] - flat[edge_index[0]]
        center = positions.mean(1, keepdim=True)
        placed = positions - center + center @ self.fixed
        inputs = torch.cat([scalars, placed, velocities], -1).flatten(0, 1)
        blocks = ReceiverBlocks.from_receivers(edge_index[1], systems * particles)
        features, fields = self.embedding(inputs), None
        for layer in self.layers:
            features, fields = layer(features, fields, vectors, edge_index, blocks)
        steps = (self.linear(inputs) + self.readout(features)).view(systems, particles, -1, 3).transpose(1, 2)
        return positions[:, None] + velocities[:, None] * self.times + steps


class Message(nn.Module):
    """One round of messages; it also returns the filter fields of every edge, for the next round."""

    def __init__(self, hidden: o3.Irreps, group: SymmetryGroup, *, first: bool) -> None:
        super().__init__()
        attributes = o3.Irreps() if first else hidden
        basis = PolynomialBasis(max(hidden.lmax, 1), sigma=REACH)
        self.kernel = ImplicitKernel(attributes, hidden, group, basis=basis, depth=1, activation="product")
        self.sender = EquivariantLinear(hidden, self.kernel.irreps_hidden, group)
        self.receiver = EquivariantLinear(hidden, self.kernel.irreps_hidden, group)
        self.conv = PointConv(hidden, hidden, self.kernel, "depthwise", num_neighbors=4.0)
        self.skip = EquivariantLinear(hidden, hidden, group, bias=True)
        self.mlp = EquivariantMLP(hidden, hidden, hidden, group, layers=2, activation="product")

    def forward(
        self, features: Tensor, fields: Tensor | None, vectors: Tensor, edge_index: Tensor, blocks: ReceiverBlocks
    ) -> tuple[Tensor, Tensor]:
        """New features (N, hidden) and filter fields (E, hidden)."""
        ends = self.sender(features)[edge_index[0]] + self.receiver(features)[edge_index[1]]
        fields = self.kernel(vectors, fields, ends * 0.5**0.5)
        message = self.conv(features, edge_index, fields, blocks=blocks)
        return features + self.mlp((self.skip(features) + message) * 0.5**0.5), fields


def _all_pairs(systems: int, particles: int, device: torch.device) -> Tensor:
    """Senders and receivers of all ordered pairs within every system, (2, E), sorted by receiver."""
    receiver, sender = torch.where(~torch.eye(particles, dtype=torch.bool, device=device))
    start = particles * torch.arange(systems, device=device)[:, None]
    return torch.stack([(sender + start).flatten(), (receiver + start).flatten()])
