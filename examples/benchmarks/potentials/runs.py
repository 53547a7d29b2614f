"""Run workers, one process at a time, and store their results in the work folder."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from tqdm import tqdm

from potentials.recipes import MODELS, settings_of
from potentials.sets import SETS

# The memory settings of ``ik_e3nn.memory`` for all packages: NequIP trained up to 1.4 times as fast with them.
KEPT_MEMORY = str(1 << 30)
HERE = Path(__file__).parent


class WorkerError(RuntimeError):
    """A worker failed; the message contains the end of its log."""


@dataclass(frozen=True)
class Bench:
    """Folders and settings of all runs.

    Args:
        work: Work folder: WORK/SET/data and WORK/SET/MODEL.
        pythons: Interpreter of each package.
        minutes: Training time of each model: processor time with one thread, and otherwise wall time.
        threads: Threads of each process.
        eager: Train without compiling.
    """

    work: Path
    pythons: dict[str, str]
    minutes: float
    threads: int
    eager: bool = False

    def settings(self, data_set: str, model: str) -> dict[str, Any]:
        """Settings of a model."""
        return settings_of(model, data_set, eager=self.eager)

    @property
    def clock(self) -> str:
        """The kind of training time: processor time, which other processes hardly change, if there is one thread."""
        return "cpu" if self.threads == 1 else "wall"

    @property
    def thread_counts(self) -> list[int]:
        """Numbers of threads, one and all: which is faster depends on the package and the size of the system."""
        return sorted({1, self.threads})

    def folder(self, data_set: str, model: str) -> Path:
        """Folder of a model of a set."""
        return self.work / data_set / model

    def data(self, data_set: str) -> Path:
        """Folder of the frames of a set."""
        return self.work / data_set / "data"

    def has_stress(self, data_set: str) -> bool:
        """Whether stress is trained on."""
        return SETS[data_set].stress

    def compiler_cache(self, job: Path) -> Path:
        """Folder of the compiler's results; an own one for each training, so that compilation is timed without any."""
        return job.parent / "inductor"

    def summary(self, data_set: str) -> dict[str, Any]:
        """What ``sets.prepare`` wrote about a set."""
        return read_json(self.data(data_set) / "set.json")

    def done(self, data_set: str, model: str, task: str) -> bool:
        """Whether a task is finished."""
        return (self.folder(data_set, model) / f"{task}.json").exists()

    def job(self, data_set: str, model: str, task: str, **more: Any) -> Path:
        """Write the job file of a task."""
        folder = self.folder(data_set, model)
        content = {
            "task": task,
            "folder": str(folder),
            "data": str(self.data(data_set)),
            "set": self.summary(data_set),
            "settings": self.settings(data_set, model),
            "stress": self.has_stress(data_set),
            "minutes": self.minutes,
            "clock": self.clock,
            "threads": self.threads,
            "result": str(folder / f"{task}.partial"),
        } | more
        path = folder / f"{task}_job.json"
        path.write_text(json.dumps(content, indent=1))
        return path

    def start(self, model: str, job: Path, **streams: Any) -> subprocess.Popen[str]:
        """Start a worker."""
        package = MODELS[model].package
        # Workers set their threads. OMP_NUM_THREADS stays unset, as for most users, because our calculator reads it.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {
            "MALLOC_TRIM_THRESHOLD_": KEPT_MEMORY,
            "MALLOC_MMAP_THRESHOLD_": KEPT_MEMORY,
            "OPENBLAS_NUM_THREADS": str(self.threads),
            "TORCHINDUCTOR_CACHE_DIR": str(self.compiler_cache(job)),
            "PYTHONUNBUFFERED": "1",
        }
        if package == "mace":  # e3nn 0.4.4 and whole models in pickles
            environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
        command = [self.pythons[package], str(HERE / f"worker_{package}.py"), str(job)]
        return subprocess.Popen(command, env=environment, cwd=job.parent, text=True, **streams)

    def run(self, data_set: str, model: str, task: str, **more: Any) -> dict[str, Any]:
        """Run a task to its end, with a progress bar.

        Raises:
            WorkerError: It failed.
        """
        folder = self.folder(data_set, model)
        log = folder / f"{task}.log"
        with log.open("w") as stream:
            job = self.job(data_set, model, task, **more)
            process = self.start(model, job, stdout=stream, stderr=subprocess.STDOUT)
            try:
                _watch(process, f"{task} {data_set}:{model}", folder, 60 * self.minutes if task == "train" else None)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise WorkerError(f"{task} of {data_set}:{model} failed with exit status {process.returncode}:\n{end}")
        return read_json(folder / f"{task}.partial")

    def finish(self, data_set: str, model: str, task: str, result: dict[str, Any]) -> None:
        """Mark a task as finished, with its result."""
        folder = self.folder(data_set, model)
        (folder / f"{task}.json").write_text(json.dumps(result, indent=1))
        (folder / f"{task}.partial").unlink(missing_ok=True)


def train(bench: Bench, data_set: str, model: str, *, redo: bool = False) -> None:
    """Train a model unless it is trained; files of a killed run are removed first."""
    folder = bench.folder(data_set, model)
    if bench.done(data_set, model, "train") and not redo:
        before = read_json(folder / "train_job.json")
        now = {"settings": bench.settings(data_set, model), "minutes": bench.minutes, "threads": bench.threads}
        now["clock"] = bench.clock
        changed = [name for name, value in now.items() if before.get(name, "wall") != value]
        note = f" with other {', '.join(changed)}; --redo trains it anew" if changed else ""
        tqdm.write(f"{data_set}:{model} is trained{note}")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    origin = {"commit": commit(), "machine": machine(bench.threads), "busy_before": round(busy(), 3)}
    bench.finish(data_set, model, "train", bench.run(data_set, model, "train") | origin)


def evaluate(bench: Bench, data_set: str, model: str) -> None:
    """Predict the test frames and compare with their labels; for the speed alone they are not compared."""
    predictions = bench.folder(data_set, model) / "predictions.npz"
    if not bench.done(data_set, model, "train") or bench.done(data_set, model, "predict"):
        return
    if bench.eager and predictions.exists():
        return
    result = bench.run(data_set, model, "predict")
    if bench.eager:
        return
    with np.load(predictions) as predicted:
        found = errors(bench.data(data_set) / "test.xyz", {name: predicted[name] for name in predicted})
    bench.finish(data_set, model, "predict", result | found)
    tqdm.write(f"{data_set}:{model} " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))


def errors(test: Path, predicted: dict[str, np.ndarray]) -> dict[str, float]:
    """Errors on test frames: per atom for energies, over all components for forces and stress.

    Args:
        test: The labeled frames.
        predicted: "energy" (B,), "forces" (N, 3) and perhaps "stress" (B, 3, 3), in eV and A.
    """
    frames = read(test, ":")
    atoms = np.array([len(frame) for frame in frames])
    wrong = {
        ("energy", "meV_per_atom"): (predicted["energy"] - [f.info["REF_energy"] for f in frames]) / atoms,
        ("force", "meV_per_A"): predicted["forces"] - np.concatenate([f.arrays["REF_forces"] for f in frames]),
    }
    if "stress" in predicted:
        labels = [np.reshape(f.info["REF_stress"], (3, 3)) for f in frames]
        wrong["stress", "meV_per_A3"] = predicted["stress"] - np.array(labels)
    found = {}
    for (label, unit), difference in wrong.items():
        found[f"{label}_rmse_{unit}"] = 1e3 * float(np.sqrt(np.mean(difference**2)))
        found[f"{label}_mae_{unit}"] = 1e3 * float(np.mean(np.abs(difference)))
    return found


def read_json(path: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(path.read_text())


def commit() -> str:
    """Short hash of this checkout, with a plus sign where the library differs from it."""
    git = ["git", "-C", str(HERE)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    top = HERE.parents[2]
    sources = [str(top / name) for name in ("ik_e3nn", "calculators")]
    changes = subprocess.run([*git, "status", "--porcelain", *sources], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + "+" * bool(changes.stdout.strip())


def busy(interval: float = 3.0) -> float:
    """Share of processor time that other processes take, over some seconds; Linux only."""

    def times() -> tuple[int, int]:
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(numbers), numbers[3] + numbers[4]

    total, idle = times()
    time.sleep(interval)
    later_total, later_idle = times()
    return 1 - (later_idle - idle) / (later_total - total)


def machine(threads: int) -> str:
    """Processor, cores and threads."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
    return f"{names[0] if names else sys.platform}, {os.cpu_count()} cores, {threads} threads"


def _watch(process: subprocess.Popen[str], title: str, folder: Path, limit: float | None) -> None:
    """Show the progress of a process until it ends: seconds of training from its learning curve, or wall time."""
    form = "{desc} {bar} {n:.0f}/{total:.0f} s{postfix}" if limit else "{desc} {elapsed}{postfix}"
    with tqdm(total=limit, desc=title, bar_format=form) as bar:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5.0)
            row = _last_row(folder)
            if row and limit:
                bar.n = min(row["seconds"], limit)
                bar.set_postfix_str(f"valid F RMSE {row['force']:.1f} meV/A", refresh=False)
            bar.refresh()


def _last_row(folder: Path) -> dict[str, float] | None:
    """The newest row of a learning curve; that of our own training has its own names while it runs."""
    for name, key in (("curve.jsonl", "force_rmse_meV_per_A"), ("run/metrics.jsonl", "valid/force_rmse_meV_per_A")):
        lines = (folder / name).read_text().splitlines() if (folder / name).exists() else []
        if lines and lines[-1].endswith("}"):
            row = json.loads(lines[-1])
            return {"seconds": row["seconds"], "force": row[key]}
    return None
