"""Measure the paper's own code: a process that runs one pass of a point convolution at each request.

It needs an environment with escnn 1.0.11, numpy below 2, and torch-geometric, and a checkout of the paper's repository
(github.com/maxxxzdn/implicit-steerable-kernels). The front script starts it:

    PYTHON paper_worker.py SOURCE CASE

Requests on the standard input are "train", "forward" and "memory", one a line; the answers are seconds or MB. The case
"O3" is the kernel of the paper for QM9, see ``kernel_throughput``; "SO2" has 16 channels with frequencies up to 2.
"""

import sys
import time
from pathlib import Path

import torch

NUM_NODES, DEGREE, ATTRIBUTES, LAYERS, FIELDS = 500, 4, 14, 3, 16
CHANNELS = {"O3": 24, "SO2": 16}


class PaperProblem:
    """The paper's convolution and one batch of input."""

    def __init__(self, source: str, case: str) -> None:
        sys.path.insert(0, source)
        from escnn import gspaces, nn
        from models.core.point_convolution import ImplicitPointConv

        torch.manual_seed(0)
        space = gspaces.flipRot3dOnR3() if case == "O3" else gspaces.rot2dOnR3()
        G = space.fibergroup
        field = G.bl_sphere_representation(L=2) if case == "O3" else G.bl_regular_representation(L=2)
        features = space.type(*[field] * CHANNELS[case])
        scalar = gspaces.no_base_space(G).type(*[G.trivial_representation] * ATTRIBUTES)
        self.conv = ImplicitPointConv(features, features, scalar, LAYERS, FIELDS)
        self.parameters = sum(p.numel() for p in self.conv.parameters())
        edges = NUM_NODES * DEGREE
        receivers = torch.repeat_interleave(torch.arange(NUM_NODES), DEGREE)
        self.edge_index = torch.stack([torch.randint(NUM_NODES, (edges,)), receivers])
        self.vectors, self.attributes = torch.randn(edges, 3), torch.randn(edges, ATTRIBUTES)
        values = torch.randn(NUM_NODES, features.size, requires_grad=True)
        self.x = nn.GeometricTensor(values, features, torch.randn(NUM_NODES, 3))
        self.leaves = [*self.conv.parameters(), values]

    def forward(self) -> torch.Tensor:
        """The convolution's result."""
        result: torch.Tensor = self.conv(self.x, self.edge_index, self.vectors, self.attributes).tensor
        return result

    def infer(self) -> None:
        """The forward pass only."""
        with torch.no_grad():
            self.forward()

    def train(self) -> None:
        """Forward, and backward to weights and features."""
        torch.autograd.grad(self.forward().square().sum(), self.leaves, allow_unused=True)


def main() -> None:
    """Answer requests until the input ends."""
    problem = PaperProblem(sys.argv[1], sys.argv[2])
    sys.stdout.write(f"ready {problem.parameters}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = line.strip()
        problem.conv.train(request == "train")  # in evaluation the linear layers keep their matrices
        start = time.perf_counter()
        if request == "memory":
            answer = float(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        else:
            (problem.train if request == "train" else problem.infer)()
            answer = time.perf_counter() - start
        sys.stdout.write(f"answer {answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
