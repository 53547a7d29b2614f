"""The paper's own code, in a process of another environment that is asked for one pass at a time."""

import os
import statistics
import subprocess
from pathlib import Path
from typing import IO, cast

import torch

WORKER = Path(__file__).with_name("paper_worker.py")
GROUPS = ("O3", "SO2")
NUM_EDGES = 2000
# by group, where it is not measured in the same run: on two cores of a machine of this kind
STORED: dict[str, dict[str, float]] = {
    "O3": {"train_edges_per_s": 154, "forward_edges_per_s": 1935, "peak_memory_MB": 2460},
    "SO2": {"train_edges_per_s": 1930, "forward_edges_per_s": 16700, "peak_memory_MB": 760},
}


class PaperCode:
    """A process that runs the paper's convolution of one group.

    Args:
        python: Interpreter of an environment with escnn; see ``paper_worker``.
        source: Checkout of the paper's repository.
        group: "O3" or "SO2".
    """

    def __init__(self, python: Path, source: Path, group: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": ""}
        self.process = subprocess.Popen(
            [python, WORKER, source, group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.requests, self.answers = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
        self.parameters = self._answer("ready")
        self.samples: dict[str, list[float]] = {"train": [], "forward": []}

    def ask(self, request: str) -> float:
        """Seconds of one pass, for "train" and "forward", or MB, for "memory"."""
        self.requests.write(request + "\n")
        self.requests.flush()
        return self._answer("answer")

    def measure(self) -> None:
        """Time one training step and one forward pass."""
        for kind, values in self.samples.items():
            values.append(self.ask(kind))

    def rates(self) -> dict[str, float]:
        """Median edges/s without the first round, and the number of parameters."""
        rows = {
            f"{kind}_edges_per_s": round(NUM_EDGES / statistics.median(v[1:] or v), 1)
            for kind, v in self.samples.items()
        }
        return {**rows, "parameters": self.parameters}

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _answer(self, word: str) -> float:
        for line in self.answers:
            if line.startswith(word):
                return float(line.split()[1])
        raise RuntimeError(f"the process of the paper's code ended without an answer: {self.process.args}")


def peak_memory(python: Path, source: Path, group: str) -> float:
    """Peak resident memory (MB) of a fresh process after two training steps."""
    code = PaperCode(python, source, group)
    for _ in range(2):
        code.ask("train")
    memory = code.ask("memory")
    code.close()
    return memory
