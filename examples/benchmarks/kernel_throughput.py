"""Throughput and memory of one point convolution with the kernel of the paper for QM9.

O(3), 24 channels of l <= 2 in and out, a kernel MLP of 3 linear layers with 16 fields (l <= 4) and the paper's
pointwise nonlinearity on the sphere (``activation="sphere"``), 14 scalar edge attributes, 500 nodes with 4 edges each,
float32. The same function is timed in the fast form, with unsorted edges of random degree, depthwise, and in the naive
form that builds a matrix for every edge, all in turn in one process; peak memory is measured in separate processes.

    python examples/benchmarks/kernel_throughput.py --output kernel_throughput.json [--quick]

The paper's own code (escnn 1.0.11) trained 124 edges/s and ran 1,750 edges/s forward on a machine of this kind, with
2.5 GB.

Measured on two cores (``results/kernel_throughput.json``, 130,625 parameters): 17,500 edges/s in training and 47,800
forward, with 513 MB; 18,700 and 48,000 with unsorted edges of random degree. With the coarser grid that the sphere
activation had for l = 4 before, on another day: 26,300 and 72,800.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from e3nn import o3
from tqdm import tqdm

from ik_e3nn.basis import PolynomialBasis, spherical_irreps
from ik_e3nn.conv import PointConv
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.pictures import picture

PAPER_CODE = {"train_edges_per_s": 124, "forward_edges_per_s": 1750, "peak_memory_MB": 2500}
NUM_NODES, DEGREE, CHANNELS, FIELDS, L_MAX = 500, 4, 24, 16, 2
CASES = ("full", "full_random_degree", "depthwise", "naive")


class Problem:
    """A convolution with its kernel and one batch of input."""

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
        features = spherical_irreps(l_max, channels)
        filters = spherical_irreps(l_max, channels) if case == "depthwise" else spherical_irreps(2 * l_max, fields)
        self.kernel = ImplicitKernel(
            "14x0e", filters, basis=PolynomialBasis(3), depth=2, activation="sphere", batch_norm=True
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
        self.attributes = torch.randn(self.num_edges, o3.Irreps("14x0e").dim)
        self.features = torch.randn(nodes, features.dim, requires_grad=True)
        self.weights = [*self.kernel.parameters(), *self.conv.parameters()]

    def forward(self) -> torch.Tensor:
        """The convolution's result."""
        if not self.naive:
            return self.conv(self.features, self.edge_index, self.kernel.tiled(self.vectors, self.attributes))
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


def seconds(function: Callable[[], None]) -> float:
    """Wall time of one call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_in_turn(problems: dict[str, Problem], rounds: int) -> dict[str, dict[str, float]]:
    """Median edges/s of every problem, measured in turn, A B C A B C ..., so that other load affects all equally."""
    samples: dict[str, dict[str, list[float]]] = {name: {"train": [], "forward": []} for name in problems}
    for _ in tqdm(range(rounds + 1), desc="timing", unit="round"):
        for name, problem in problems.items():
            repeats = 1 if problem.naive else 3
            samples[name]["train"] += [seconds(problem.train) for _ in range(repeats)]
            samples[name]["forward"] += [seconds(problem.infer) for _ in range(repeats)]
    result = {}
    for name, problem in problems.items():
        warm = 1 if problem.naive else 3
        result[name] = {
            f"{kind}_edges_per_s": round(problem.num_edges / statistics.median(values[warm:]), 1)
            for kind, values in samples[name].items()
        }
    return result


def own_peak_memory() -> float:
    """Peak resident memory (MB) of this process.

    On Linux ``ru_maxrss`` includes the memory of the parent, so that its status file is read first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_memory(case: str) -> float:
    """Peak resident memory (MB) of a fresh process that trains three steps of a case."""
    command = [sys.executable, __file__, "--memory-of", case]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def paper_kernel(rounds: int) -> dict[str, dict[str, float]]:
    """The rows of the main table."""
    problems = {case: Problem(case) for case in CASES}
    rows = time_in_turn(problems, rounds)
    for case, problem in problems.items():
        rows[case]["parameters"] = sum(p.numel() for p in problem.weights)
        rows[case]["peak_memory_MB"] = peak_memory(case)
    return rows


def growth(quick: bool) -> dict[str, list[dict[str, float]]]:
    """Edges/s of the fast forms against the number of edges, channels and l."""
    sweeps: dict[str, list[int]] = {
        "nodes": [125, 500] if quick else [125, 500, 2000, 8000],
        "channels": [8, 24] if quick else [8, 16, 24, 48],
        "l_max": [1, 2] if quick else [1, 2, 3],
    }
    tables: dict[str, list[dict[str, float]]] = {}
    for parameter, values in sweeps.items():
        tables[parameter] = []
        for value in tqdm(values, desc=f"growth with {parameter}"):
            problems = {case: Problem(case, **{parameter: value}) for case in ("full", "depthwise")}
            for case, row in time_in_turn(problems, 1 if quick else 3).items():
                tables[parameter].append({"case": case, parameter: value, "edges": problems[case].num_edges, **row})
    return tables


def plot(tables: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Training edges/s against each parameter."""
    titles = {"nodes": "points", "channels": "channels", "l_max": "largest degree l_max"}
    with picture(path, 1, len(tables), height=3.0, sharey=True) as (figure, [panels]):
        for axes, (parameter, rows) in zip(panels, tables.items(), strict=True):
            for case in ("full", "depthwise"):
                chosen = [r for r in rows if r["case"] == case]
                axes.loglog([r[parameter] for r in chosen], [r["train_edges_per_s"] for r in chosen], "o-", label=case)
            places = sorted({r[parameter] for r in rows})
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.set_xlabel(titles[parameter])
        panels[0].axhline(PAPER_CODE["train_edges_per_s"], ls=":", c="k", label="paper's code (24 channels)")
        panels[0].set_ylabel("training, edges/s")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def report(rows: dict[str, dict[str, float]]) -> str:
    """The main table as text."""
    lines = [f"{'':20s}{'train e/s':>12s}{'x paper':>9s}{'forward e/s':>13s}{'x paper':>9s}{'params':>9s}{'MB':>7s}"]
    for case, r in rows.items():
        train, forward = r["train_edges_per_s"], r["forward_edges_per_s"]
        lines.append(
            f"{case:20s}{train:12,.0f}{train / PAPER_CODE['train_edges_per_s']:9.0f}{forward:13,.0f}"
            f"{forward / PAPER_CODE['forward_edges_per_s']:9.0f}{r['parameters']:9,.0f}{r['peak_memory_MB']:7,.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write; a plot goes beside it")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument("--memory-of", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        problem = Problem(args.memory_of)
        for _ in range(3):
            problem.train()
        sys.stdout.write(f"{own_peak_memory()}\n")
        return
    rows = paper_kernel(rounds=3 if args.quick else 10)
    tables = growth(args.quick)
    result = {
        "paper_kernel": rows,
        "paper_code": PAPER_CODE,
        "growth": tables,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    sys.stdout.write(report(rows) + "\n")
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        plot(tables, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
