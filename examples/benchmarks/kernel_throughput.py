"""Throughput and memory of one point convolution with the kernel of the paper for QM9.

O(3), 24 channels of l <= 2 in and out, a kernel MLP of 3 linear layers with 16 fields (l <= 4) and the paper's
pointwise nonlinearity on the sphere (``activation="sphere"``), 14 scalar edge attributes, 500 nodes with 4 edges each,
float32. The same function is timed in the fast form, with unsorted edges of random degree, depthwise, and in the naive
form that builds a matrix for every edge; ``--compiled`` adds the fast form compiled (some minutes of compilation).
All are timed in turn in one process; peak memory is measured in separate processes.

SO2, C4v and D3 are convolutions of small groups in full mode, for comparison with the paper's SO(2): 16 channels, 3
linear layers with 16 fields, the same attributes and edges. The types differ: the paper's features are one irrep of
every frequency up to 2 (5 numbers a channel), ours l <= 1 (4 numbers: two invariants and one vector of the plane under
SO(2)), with filters of l <= 1.

    python examples/benchmarks/kernel_throughput.py --output kernel_throughput.json [--quick] [--compiled]
        [--paper-python PYTHON --paper-source DIR]

With ``--paper-python`` and ``--paper-source`` the paper's own code runs in the same rounds, in a process of its
environment, and the ratios are those of one run; see ``kernel_throughput/paper_worker.py`` for what it needs.
Otherwise ratios are to figures of another day (``kernel_throughput/paper.py``).
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from kernel_throughput import problem as problems_module
from kernel_throughput import report
from kernel_throughput.paper import GROUPS, STORED, PaperCode, peak_memory
from kernel_throughput.problem import CASES, COMPILED, Problem
from tqdm import tqdm


def seconds(function: Callable[[], None]) -> float:
    """Wall time of one call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_in_turn(
    problems: dict[str, Problem], rounds: int, others: list[PaperCode] | None = None
) -> dict[str, dict[str, float]]:
    """Median edges/s of every problem, measured in turn, A B C A B C ..., so that other load affects all equally.

    Args:
        problems: The problems by name.
        rounds: Number of rounds; one more, the first, is not counted.
        others: The paper's code, which is measured once in every round.
    """
    samples: dict[str, dict[str, list[float]]] = {name: {"train": [], "forward": []} for name in problems}
    for _ in tqdm(range(rounds + 1), desc="timing", unit="round"):
        for name, problem in problems.items():
            repeats = 1 if problem.naive else 3
            samples[name]["train"] += [seconds(problem.train) for _ in range(repeats)]
            samples[name]["forward"] += [seconds(problem.infer) for _ in range(repeats)]
        for code in others or []:
            code.measure()
    result = {}
    for name, problem in problems.items():
        warm = 1 if problem.naive else 3
        result[name] = {
            f"{kind}_edges_per_s": round(problem.num_edges / statistics.median(values[warm:]), 1)
            for kind, values in samples[name].items()
        }
    return result


def own_peak_memory(case: str) -> float:
    """Peak resident memory (MB) of a fresh process that trains three steps of a case."""
    command = [sys.executable, str(problems_module.__file__), case]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main_table(args: argparse.Namespace) -> tuple[report.Rows, report.Rows]:
    """The rows of the main table, and those of the paper's code, measured or stored."""
    problems = {case: Problem(case) for case in (*CASES, *([COMPILED] if args.compiled else []))}
    paths = (args.paper_python, args.paper_source)
    codes = {group: PaperCode(*paths, group) for group in GROUPS} if args.paper_python else {}
    rows = time_in_turn(problems, 3 if args.quick else 10, list(codes.values()))
    for case, problem in problems.items():
        rows[case] |= {"parameters": problem.num_weights, "peak_memory_MB": own_peak_memory(case)}
    paper = {group: {**code.rates(), "peak_memory_MB": peak_memory(*paths, group)} for group, code in codes.items()}
    for code in codes.values():
        code.close()
    return rows, paper or STORED


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


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write; a plot goes beside it")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument("--compiled", action="store_true", help="also time the convolution compiled")
    parser.add_argument("--paper-python", type=Path, help="interpreter of an environment for the paper's code")
    parser.add_argument("--paper-source", type=Path, help="checkout of the paper's code")
    args = parser.parse_args()
    if bool(args.paper_python) != bool(args.paper_source):
        parser.error("--paper-python and --paper-source belong together: give both or none")
    rows, paper = main_table(args)
    tables = growth(args.quick)
    result = {
        "paper_kernel": rows,
        "paper_code": paper,
        "growth": tables,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    sys.stdout.write(report.table(rows, paper) + "\n")
    if args.paper_python:
        result["ratios"] = report.ratios(rows, paper)
        sys.stdout.write(f"ratios of this run: {json.dumps(result['ratios'])}\n")
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        report.plot(tables, paper["O3"]["train_edges_per_s"], args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
