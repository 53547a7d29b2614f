"""One convolution with its kernel and one batch of input, in several forms."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.basis import PolynomialBasis, spherical_irreps
from ik_e3nn.conv import PointConv, ReceiverBlocks
from ik_e3nn.kernels import ImplicitKernel

NUM_NODES, DEGREE, CHANNELS, FIELDS, L_MAX, ATTRIBUTES = 500, 4, 24, 16, 2, 14
SMALL_GROUPS, SMALL_CHANNELS = ("SO2", "C4v", "D3"), 16
CASES = ("full", "full_random_degree", "depthwise", "naive", *SMALL_GROUPS)
COMPILED = "full_compiled"


class Problem:
    """A convolution with its kernel and one batch of input.

    Args:
        case: One of ``CASES``, or ``COMPILED``.
        nodes: Number of nodes.
        degree: Mean number of neighbors.
        channels: Channels of every degree of the features.
        fields: Filter fields of every degree.
        l_max: Largest degree of the features.
    """

    def __init__(
        self,
        case: str,
        *,
        nodes: int = NUM_NODES,
        degree: int = DEGREE,
        channels: int = CHANNELS,
        fields: int = FIELDS,
        l_max: int = L_MAX,
    ) -> None:
        torch.manual_seed(0)
        self.naive = case == "naive"
        features, group = spherical_irreps(l_max, channels), "O3"
        filters = spherical_irreps(l_max, channels) if case == "depthwise" else spherical_irreps(2 * l_max, fields)
        if case in SMALL_GROUPS:
            features, filters, group = spherical_irreps(1, SMALL_CHANNELS), spherical_irreps(1, fields), case
        self.kernel = ImplicitKernel(
            f"{ATTRIBUTES}x0e", filters, group, basis=PolynomialBasis(3), depth=2, activation="sphere", batch_norm=True
        )
        mode = "depthwise" if case == "depthwise" else "full"
        self.conv = PointConv(features, features, self.kernel, mode, num_neighbors=degree)
        if case == "full_random_degree":
            degrees = torch.poisson(torch.full((nodes,), float(degree))).long()
            receivers = torch.repeat_interleave(torch.arange(nodes), degrees)
            receivers = receivers[torch.randperm(len(receivers))]
        else:
            receivers = torch.repeat_interleave(torch.arange(nodes), degree)
        self.num_edges = len(receivers)
        self.edge_index = torch.stack([torch.randint(nodes, (self.num_edges,)), receivers])
        self.vectors = torch.randn(self.num_edges, 3)
        self.attributes = torch.randn(self.num_edges, o3.Irreps(self.kernel.irreps_attributes).dim)
        self.features = torch.randn(nodes, features.dim, requires_grad=True)
        self.weights = [*self.kernel.parameters(), *self.conv.parameters()]
        self.function: Callable[..., Tensor] = self._convolve
        self.blocks: ReceiverBlocks | None = None
        if case == COMPILED:  # a compiled program cannot choose the width of blocks from the data
            self.blocks = ReceiverBlocks.from_receivers(receivers, nodes, degree)
            self.function = torch.compile(self._convolve, dynamic=True)

    def _convolve(self, features: Tensor, vectors: Tensor, attributes: Tensor, blocks: ReceiverBlocks | None) -> Tensor:
        return self.conv(features, self.edge_index, self.kernel.tiled(vectors, attributes), blocks=blocks)

    def forward(self) -> Tensor:
        """The convolution's result."""
        if not self.naive:
            return self.function(self.features, self.vectors, self.attributes, self.blocks)
        matrices = self.kernel.matrix(self.conv, self.vectors, self.attributes)
        messages = torch.einsum("eij,ej->ei", matrices, self.features[self.edge_index[0]])
        return torch.zeros_like(self.features).index_add(0, self.edge_index[1], messages)

    def infer(self) -> None:
        """The forward pass only."""
        with torch.no_grad():
            self.forward()

    def train(self) -> None:
        """Forward, and backward to weights and features."""
        torch.autograd.grad(self.forward().square().sum(), [*self.weights, self.features], allow_unused=True)

    @property
    def num_weights(self) -> int:
        """Number of weights of kernel and convolution."""
        return sum(p.numel() for p in self.weights)


def own_peak_memory() -> float:
    """Peak resident memory (MB) of this process.

    On Linux ``ru_maxrss`` includes the memory of the parent, so that its status file is read first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write the peak memory of this process after three steps of the case that is its argument."""
    problem = Problem(sys.argv[1])
    for _ in range(3):
        problem.train()
    sys.stdout.write(f"{own_peak_memory()}\n")


if __name__ == "__main__":
    main()
