"""Measure the effect of each part of the potential: errors of variants at equal cost of training.

    python examples/benchmarks/ablation.py --data-root DATA --work WORK [--minutes 5] [--lanes 2]

Every variant is the default model with one change, trained eagerly on one core, ``--lanes`` at a time. All have the
same budget, the cost of the default in ``--minutes``: first the time of an epoch is measured while the default trains
on another core, and the ratio gives the number of epochs. The best four by validation error, and the default, then
train on aspirin and with a second seed. Finished parts are stored in the work folder and skipped; results go to
results/ablation.json and ablation.md.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from ablation import report
from ablation.variants import VARIANTS
from potentials import sets
from tqdm import tqdm

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "ablation.json"
BEST = 4
BATCH = 5
TIMED_EPOCHS = 4
Row = dict[str, Any]


def train(name: str, data: Path, folder: Path, epochs: int, seed: int) -> Row:
    """Train and test a variant in this process."""
    from ik_e3nn.cli import main as command

    VARIANTS[name].apply()
    settings: dict[str, Any] = {
        "data.train": data / "train.xyz", "data.valid": data / "valid.xyz", "data.test": data / "test.xyz",
        "run.output": folder, "run.overwrite": True, "run.max_epochs": epochs, "run.num_threads": 1,
        "run.progress": False, "run.seed": seed, "run.device": "cpu", "run.batch_size": BATCH,
    }  # fmt: skip
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text("{}\n")
    if command(["train", str(config), *(f"--{k}={v}" for k, v in (settings | VARIANTS[name].settings).items())]):
        raise RuntimeError(f"training of {name!r} failed")
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "valid_force_rmse_meV_per_A": metrics["valid"]["force_rmse_meV_per_A"],
        "force_rmse_meV_per_A": metrics["test"]["force_rmse_meV_per_A"],
        "energy_rmse_meV_per_atom": metrics["test"]["energy_rmse_meV_per_atom"],
        "epochs": metrics["epochs"],
        "train_seconds": metrics["seconds"],
        "parameters": metrics["parameters"],
    }


class Lab:
    """Run each training in its own process on one core, and store its results in the work folder.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cores = sorted(os.sched_getaffinity(0))
        self.free: Queue[int] = Queue()
        for core in self.cores[: args.lanes]:
            self.free.put(core)

    def start(self, name: str, data_set: str, seed: int, epochs: int, core: int, result: Path) -> subprocess.Popen[str]:
        """Start a training on a core."""
        command = [sys.executable, __file__, "--data-root", self.args.data_root, "--work", self.args.work]
        command += ["--run", name, "--set", data_set, "--seed", seed, "--epochs", epochs, "--result", result]
        with open(result.with_suffix(".log"), "w") as log:
            return subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                text=True,
            )

    def timed(self, name: str, data_set: str) -> tuple[float, float]:
        """Seconds per epoch of a variant and of the default, measured while both train at once on two cores.

        Raises:
            RuntimeError: One of the trainings failed.
        """
        file = self.args.work / data_set / f"{name.replace(' ', '_')}_timed.json"
        if not file.exists():
            sides = [(name, self.cores[0], "itself"), ("default", self.cores[-1], "default")]
            results = [file.with_name(f"{file.stem}_{side}.json") for *_, side in sides]
            running = [
                self.start(variant, data_set, 0, 100_000, core, result)
                for (variant, core, _), result in zip(sides, results, strict=True)
            ]
            try:
                seconds = self._epochs_of(running, [result.with_suffix("") / "metrics.jsonl" for result in results])
            finally:
                for process in running:
                    process.kill()
                    process.wait()
            file.write_text(json.dumps(seconds))
        mine, default = json.loads(file.read_text())
        return mine, default

    def _epochs_of(self, running: list[subprocess.Popen[str]], logs: list[Path]) -> list[float]:
        """Median seconds per epoch of some trainings, measured until each has had enough epochs."""
        for log in logs:
            log.unlink(missing_ok=True)
        while True:
            time.sleep(0.5)
            for process, log in zip(running, logs, strict=True):
                if process.poll() is not None:
                    raise RuntimeError(f"a training ended too early, see {log.parent}.log")
            lines = [log.read_text().splitlines() if log.exists() else [] for log in logs]
            if min(map(len, lines)) > TIMED_EPOCHS:
                rows = [[json.loads(line)["seconds"] for line in part if line.endswith("}")] for part in lines]
                return [statistics.median(b - a for a, b in itertools.pairwise(part)) for part in rows]

    def cost(self, name: str, data_set: str) -> float:
        """Time of an epoch as a multiple of the default's; 1 if only the loss or the optimizer differs."""
        if VARIANTS[name].costs_the_same:
            return 1.0
        mine, default = self.timed(name, data_set)
        return mine / default

    def rows(self, jobs: list[tuple[str, str, int]]) -> list[Row]:
        """Rows of (variant, set, seed); a training that fails is reported and left out."""
        budgets = {}
        for data_set in dict.fromkeys(data_set for _, data_set, _ in jobs):
            budgets[data_set] = 60 * self.args.minutes / statistics.mean(self.timed("default", data_set))
        costs: dict[tuple[str, str], float] = {}
        for name, data_set in tqdm(list(dict.fromkeys(job[:2] for job in jobs)), desc="costs", unit="variant"):
            try:
                costs[name, data_set] = self.cost(name, data_set)
            except RuntimeError as error:
                tqdm.write(f"{name} on {data_set}: {error}")
        jobs = [job for job in jobs if job[:2] in costs]

        def work(job: tuple[str, str, int]) -> Row:
            name, data_set, seed = job
            cost = costs[name, data_set]
            row = self.trained(name, data_set, seed, max(1, round(budgets[data_set] / cost)))
            return row and row | {"cost": cost}

        with ThreadPoolExecutor(self.args.lanes) as pool:
            return [row for row in tqdm(pool.map(work, jobs), total=len(jobs), unit="training") if row]

    def trained(self, name: str, data_set: str, seed: int, epochs: int) -> Row:
        """Result of a training on the next free core, or from an earlier call; empty if it failed."""
        result = self.args.work / data_set / f"{name.replace(' ', '_')}_seed{seed}_epochs{epochs}.json"
        if not result.exists():
            core = self.free.get()
            self.start(name, data_set, seed, epochs, core, result).wait()
            self.free.put(core)
        if not result.exists():
            tqdm.write(f"{name} on {data_set} failed, see {result.with_suffix('.log')}")
            return {}
        row: Row = json.loads(result.read_text())
        tqdm.write(f"{data_set:8s} {name:32s} {row['force_rmse_meV_per_A']:7.1f} meV/A {row['epochs']:5d} epochs")
        return row


def main() -> None:
    """Run the missing trainings and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with acac_3bpa_ethanol/ and rmd17/")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--lanes", type=int, default=2, help="trainings at a time, one core each")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    for name, kind in (("run", str), ("set", str), ("seed", int), ("epochs", int), ("result", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work = args.work.resolve()
    if args.run:
        row = {"variant": args.run, "what": VARIANTS[args.run].what, "set": args.set, "seed": args.seed}
        row |= train(args.run, args.work / args.set / "data", args.result.with_suffix(""), args.epochs, args.seed)
        partial = args.result.with_suffix(".partial")
        partial.write_text(json.dumps(row, indent=1))
        partial.rename(args.result)
        return
    for data_set in ("acac", "aspirin"):
        sets.prepare(data_set, args.data_root, args.work / data_set / "data", "fit")
    lab = Lab(args)
    rows = lab.rows([(name, "acac", 0) for name in args.variants])
    ranked = [row["variant"] for row in sorted(rows, key=lambda row: row["valid_force_rmse_meV_per_A"])]
    best = dict.fromkeys([*ranked[:BEST], "default"])
    rows += lab.rows([(name, *where) for where in (("aspirin", 0), ("acac", 1)) for name in best])
    page = HERE / "ablation.md" if args.output == OUTPUT else args.output.with_suffix(".md")
    report.write(rows, args.output, page, minutes=args.minutes, batch=BATCH, best=BEST)


if __name__ == "__main__":
    main()
