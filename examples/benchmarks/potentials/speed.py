"""Time all models of a set in turn, A B C A B C ..., in processes with one model each."""

import json
import math
import statistics
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from ase.io import read
from tqdm import tqdm

from potentials.runs import Bench, WorkerError, commit, read_json
from potentials.sets import count_edges

REPLY = "REPLY "
BATCH_EDGES = 8000
REPEATS = {"throughput": 3, "latency": 20, "calculator": 20}


@dataclass(frozen=True)
class Compiled:
    """How a package compiles its models.

    Args:
        documented: The documented way.
        ahead: Whether this is a separate step, done by ``Worker.compile``.
    """

    documented: str
    ahead: bool


_OURS = Compiled("compile_potential(model), IKCalculator(compile=True)", ahead=True)
_NEQUIP = Compiled("nequip-compile --mode aotinductor, targets ase and batch", ahead=True)
COMPILED = {
    "ours-small": _OURS,
    "ours-medium": _OURS,
    "ours-large": _OURS,
    "mace": Compiled("MACECalculator(compile_mode='default', fullgraph=False)", ahead=False),
    "nequip": _NEQUIP,
    "nequip-cosine": _NEQUIP,
}


@dataclass
class Form:
    """A model in one form, eager or compiled, and its measurements.

    Args:
        model: Name of the model.
        threads: CPU threads; compiled code is for this number.
        compiled: Whether this is a compiled form.
    """

    model: str
    threads: int
    compiled: bool = False
    samples: dict[str, list[float]] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.model}{compiled_name(self.threads) if self.compiled else ''}"


def compiled_name(threads: int) -> str:
    """Suffix of the name of a model for its compiled form."""
    return f" (compiled, {threads} thread{'s' * (threads > 1)})"


class Served:
    """A worker process that answers one request at a time.

    Args:
        bench: Where and how.
        data_set: The set.
        form: Its model.
        structures: Test frames in the large batch.
    """

    def __init__(self, bench: Bench, data_set: str, form: Form, structures: int) -> None:
        job = bench.job(
            data_set,
            form.model,
            "serve",
            compiled=form.compiled,
            threads=form.threads,
            throughput_structures=structures,
            result="",
        )
        self._log_file = bench.folder(data_set, form.model) / f"serve{f'_compiled_{form.threads}' * form.compiled}.log"
        self._log = self._log_file.open("w")
        self._process = bench.start(form.model, job, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            if line.startswith(REPLY):
                self._lines.put(line)
        self._lines.put("")

    def ask(self, line: str, timeout: float = 1800.0) -> dict[str, Any]:
        """Answer to a request.

        Raises:
            WorkerError: The package raised an error, the process ended, or nothing came in time.
        """
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            reply = self._lines.get(timeout=timeout)
        except Empty:
            raise WorkerError(f"no answer to {line!r} within {timeout:.0f} s") from None
        except BrokenPipeError:
            reply = ""
        if not reply:
            end = self._log_file.read_text(errors="replace").strip().splitlines()[-1:]
            raise WorkerError(f"{line}: the process ended: {' '.join(end)[:1000]}")
        answer: dict[str, Any] = json.loads(reply[len(REPLY) :])
        if "error" in answer:
            raise WorkerError(f"{line}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def compile_model(bench: Bench, data_set: str, model: str, threads: int) -> None:
    """Make the compiled form of a model before it is used, if there is one; an error is stored as the result."""
    task = f"compile_{threads}"
    if model not in COMPILED or not COMPILED[model].ahead:
        return
    if bench.done(data_set, model, task) or not bench.done(data_set, model, "train"):
        return
    try:
        result = bench.run(data_set, model, task, threads=threads)
    except WorkerError as error:
        result = {"error": str(error)}
    bench.finish(data_set, model, task, result)


def measure(bench: Bench, data_set: str, models: list[str], rounds: int) -> None:
    """Measure all trained models of a set, eager and compiled, and write WORK/SET/speed.json."""
    trained = [model for model in models if bench.done(data_set, model, "train")]
    forms = [Form(model, bench.threads) for model in trained]
    for threads in bench.thread_counts:
        forms += [Form(model, threads, compiled=True) for model in trained if model in COMPILED]
    path = bench.work / data_set / "speed.json"
    stamps = {model: (bench.folder(data_set, model) / "train.json").stat().st_mtime for model in trained}
    if not forms or (path.exists() and read_json(path)["of"] == stamps):
        return
    frames = read(bench.data(data_set) / "test.xyz", ":")
    count = min(len(frames), math.ceil(BATCH_EDGES / bench.summary(data_set)["edges_per_frame"]["test"]))
    edges = sum(count_edges(atoms) for atoms in frames[:count])
    servers: dict[str, Served] = {}
    try:
        for form in tqdm(forms, desc=f"loading {data_set}", unit="model"):
            servers[form.name] = Served(bench, data_set, form, count)
            _guarded(form, lambda f=form: _warm_up(f, servers[f.name]))
        for _ in tqdm(range(rounds), desc=f"speed {data_set}", unit="round"):
            for form in forms:
                _guarded(form, lambda f=form: _sample(f, servers[f.name]))
    finally:
        for server in servers.values():
            server.close()
    _write(path, forms, stamps, count, edges)


def _guarded(form: Form, function: Any) -> None:
    """Make a call unless this form failed before; an error is stored as a note."""
    if "error" not in form.result:
        try:
            function()
        except WorkerError as error:
            form.result["error"] = str(error)


def _warm_up(form: Form, server: Served) -> None:
    form.result |= server.ask("prepare_throughput") | server.ask("prepare_latency")


def _sample(form: Form, server: Served) -> None:
    for what, repeats in REPEATS.items():
        seconds = server.ask(f"{what} {repeats} {form.threads}")["seconds"]
        form.samples.setdefault(what, []).append(seconds)
    if not form.compiled:
        for what in ("latency", "calculator"):
            seconds = server.ask(f"{what} {REPEATS[what]} 1")["seconds"]
            form.samples.setdefault(f"{what}_one_thread", []).append(seconds)


def _write(path: Path, forms: list[Form], stamps: dict[str, float], count: int, edges: int) -> None:
    names = {
        f"{what}{threads}": f"{what}{threads}_ms"
        for what in ("latency", "calculator")
        for threads in ("", "_one_thread")
    }
    for form in forms:
        medians = {what: statistics.median(samples) for what, samples in form.samples.items()}
        form.result |= {names[what]: 1e3 * value for what, value in medians.items() if what in names}
        if "throughput" in medians:
            form.result["throughput_edges_per_s"] = edges / medians["throughput"]
        form.result["samples_seconds"] = form.samples
    content = {
        "of": stamps,
        "commit": commit(),
        "structures": count,
        "edges": edges,
        "forms": {form.name: form.result for form in forms},
    }
    path.write_text(json.dumps(content, indent=1))
