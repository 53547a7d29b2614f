"""The common part of all workers; it runs in the interpreter of each package, with only numpy, ASE and torch.

A worker is started with a JSON file that names its task: "train", "predict" or "serve". A serving worker keeps its
model in memory and measures one thing for each line it reads, so that the models of a set can be timed in turn.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read

REPLY = "REPLY "
VALID_ROWS = "curve.jsonl"


class Clock:
    """The time limit of a training run, including all validations.

    Args:
        minutes: The limit.
        folder: Folder of ``curve.jsonl``, which gets one row for each validation.
        kind: "wall", or "cpu" for the processor time of this process, which other processes on the machine hardly
            change; for one thread.
    """

    def __init__(self, minutes: float, folder: Path, kind: str) -> None:
        self.limit = 60.0 * minutes
        self._now = {"wall": time.perf_counter, "cpu": time.process_time}[kind]
        self.edges = 0
        self.steps = 0
        self._file = folder / VALID_ROWS
        self._file.write_text("")
        self._start: float | None = None
        self._validation = 0.0
        self._pass_ended = 0.0
        self._last_validated = 0.0

    def start(self) -> None:
        """Start at the first training step; later calls do nothing."""
        if self._start is None:
            self._start = self._now()

    @property
    def seconds(self) -> float:
        """Seconds since the first step."""
        return 0.0 if self._start is None else self._now() - self._start

    @property
    def share(self) -> float:
        """Share of the time for training steps that is spent."""
        return self.seconds / max(self.limit - self._validation, 1e-3)

    def stepped(self, edges: int) -> None:
        """Count a training step."""
        self.steps += 1
        self.edges += edges

    def pass_ended(self) -> None:
        """Record that the training steps of an epoch are over and its validation begins."""
        self._pass_ended = self.seconds

    def validated(self, epoch: int, errors: dict[str, float]) -> None:
        """Add a row to the learning curve."""
        self._last_validated = self.seconds
        self._validation = self._last_validated - self._pass_ended
        with self._file.open("a") as file:
            file.write(json.dumps({"seconds": round(self.seconds, 2), "epoch": epoch} | errors) + "\n")

    def result(self) -> dict[str, Any]:
        """The result of ``Worker.train``; training ended with its last validation."""
        return {
            "train_seconds": self._last_validated,
            "train_steps": self.steps,
            "train_edges_per_s": self.edges / max(self._last_validated, 1e-9),
            "last_validation_seconds": self._validation,
        }


class Worker:
    """One package; each method is called in its own process, except the methods that ``serve`` calls.

    Args:
        job: The job file: "folder" of the run, "data" folder, "set" (E0s ...), "settings", "minutes", "threads", ...
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.folder = Path(job["folder"])
        self.data = Path(job["data"])
        self.settings: dict[str, Any] = job["settings"]
        self.stress: bool = job["stress"]

    def train(self) -> dict[str, Any]:
        """Train, write the model to the folder, and return the time."""
        raise NotImplementedError

    def compile(self) -> None:
        """Make the compiled form in a separate process, if this is a separate step."""

    def load(self, compiled: bool) -> None:
        """Load the trained model."""
        raise NotImplementedError

    def batch(self, structures: Sequence[Atoms]) -> Any:
        """Graphs of the structures, ready for ``call``."""
        raise NotImplementedError

    def call(self, batch: Any, stress: bool) -> tuple[Any, Any, Any]:
        """Energy (B,), forces (N, 3) and, if requested, stress (B, 3, 3), as tensors."""
        raise NotImplementedError

    def calculator(self) -> Any:
        """The package's ASE calculator."""
        raise NotImplementedError

    def parameters(self) -> int:
        """Number of trainable parameters."""
        raise NotImplementedError

    def versions(self) -> list[str]:
        """Names of the distributions whose versions are recorded."""
        raise NotImplementedError


def predict(worker: Worker, structures: Sequence[Atoms], batch_size: int = 5) -> dict[str, np.ndarray]:
    """Energies (B,), forces (N, 3) and, for a set with stress, stresses (B, 3, 3) of structures."""
    parts = []
    for first in range(0, len(structures), batch_size):
        energy, forces, stress = worker.call(worker.batch(structures[first : first + batch_size]), worker.stress)
        part = {"energy": energy.reshape(-1), "forces": forces} | ({"stress": stress} if worker.stress else {})
        parts.append({name: value.detach().double().numpy() for name, value in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def peak_memory_MB() -> float:  # noqa: N802 - a unit
    """Peak resident memory of this process; Linux only."""
    return float(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


class Server:
    """Measures a loaded model on demand.

    Args:
        worker: With its model loaded.
        structures: Structures for measurements: the first one, and a batch of as many as the job requires.
    """

    def __init__(self, worker: Worker, structures: Sequence[Atoms]) -> None:
        self.worker = worker
        self.structure = structures[0].copy()
        self.structures = list(structures)
        self.calls: dict[str, Callable[[], Any]] = {}
        self._rng = np.random.default_rng(0)

    def prepare_throughput(self) -> dict[str, float]:
        """Make the large batch, call it three times, and report the peak memory of a process that did only this.

        The forces are compared with those of ``predict``, because a fast model may be a wrong one.
        """
        batch = self.worker.batch(self.structures)
        self.calls["throughput"] = lambda: self.worker.call(batch, self.worker.stress)
        first = seconds(self.calls["throughput"])
        self.calls["throughput"]()
        forces = self.calls["throughput"]()[1].detach().double().numpy()
        memory = peak_memory_MB()
        with np.load(self.worker.folder / "predictions.npz") as predictions:
            difference = float(np.abs(forces - predictions["forces"][: len(forces)]).max())
        return {"first_call_seconds": first, "peak_memory_MB": memory, "largest_force_difference": difference}

    def prepare_latency(self) -> dict[str, float]:
        """Make the single structure's graph and the calculator, and warm both up."""
        batch = self.worker.batch([self.structure])
        self.calls["latency"] = lambda: self.worker.call(batch, self.worker.stress)
        self.structure.calc = self.worker.calculator()
        self.calls["calculator"] = self._calculate
        start = time.perf_counter()
        for name in ("latency", "calculator"):
            for _ in range(5):
                self.calls[name]()
        return {"warm_up_seconds": time.perf_counter() - start}

    def measure(self, name: str, repeats: int, threads: int) -> dict[str, float]:
        """Median seconds of a call."""
        torch.set_num_threads(threads)
        self.calls[name]()  # warm caches again: other models ran in between
        return {"seconds": statistics.median(seconds(self.calls[name]) for _ in range(repeats))}

    def _calculate(self) -> None:
        """Energy and forces after a step as in molecular dynamics."""
        self.structure.positions += self._rng.normal(scale=0.002, size=self.structure.positions.shape)
        self.structure.get_potential_energy()
        self.structure.get_forces()

    def answer(self, line: str) -> dict[str, Any]:
        """Run a line: ``prepare_throughput``, ``prepare_latency``, or a measurement, its repeats and threads."""
        words = line.split()
        if words[0].startswith("prepare"):
            return dict(getattr(self, words[0])())
        return self.measure(words[0], int(words[1]), int(words[2]))


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def serve(worker: Worker) -> None:
    """Answer lines of standard input until it closes."""
    job = worker.job
    worker.load(job["compiled"])
    server = Server(worker, read(worker.data / "test.xyz", ":")[: job["throughput_structures"]])
    for line in sys.stdin:
        try:
            answer = server.answer(line)
        except Exception as error:  # noqa: BLE001 - any error of a package is a result and goes into the notes
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        sys.stdout.write(REPLY + json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(package: type[Worker]) -> None:
    """Run the job named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    worker = package(job)
    if job["task"] == "serve":
        serve(worker)
        return
    started = time.perf_counter()
    if job["task"] == "train":
        result = worker.train()
    elif job["task"].startswith("compile"):
        worker.compile()
        result = {"compile_seconds": time.perf_counter() - started}
    else:
        worker.load(compiled=False)
        np.savez(worker.folder / "predictions.npz", **predict(worker, read(worker.data / "test.xyz", ":")))
        result = {"parameters": worker.parameters(), "versions": _versions(worker.versions())}
    Path(job["result"]).write_text(json.dumps(result))


def _versions(names: Sequence[str]) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in (*names, "e3nn", "torch")}
