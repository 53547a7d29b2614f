r"""Implicit against analytic kernels on point clouds, for many symmetry groups: the paper's figure 3.

    python examples/benchmarks/point_clouds.py --work WORK                        # procedural furniture, on CPU
    python examples/benchmarks/point_clouds.py --work WORK --modelnet ModelNet40 --device cuda --lanes 1 \
        --epochs 200 --minutes 600

Every training runs in a separate process, ``--lanes`` at a time, one core each. Training clouds are rotated about z;
the tests are listed in the page. Finished rows are stored in the work folder and skipped. Results go to
results/point_clouds.json, .png and point_clouds.md.

Zhdanov et al., NeurIPS 2023, section 5.3.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from point_clouds import networks, report, sets, training
from tqdm import tqdm

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "point_clouds.json"
Row = dict[str, Any]
Job = tuple[str, str, int]


def settings_of(args: argparse.Namespace) -> Row:
    """Settings of a training."""
    return {
        "size": "furniture" if args.modelnet is None else "modelnet",
        "classes": len(sets.FURNITURE) if args.modelnet is None else args.classes,
        **{key: getattr(args, key) for key in ("sampling", "depth", "epochs", "minutes", "batch", "lr", "device")},
    }


def check_work(args: argparse.Namespace) -> None:
    """Store the settings in the work folder, or stop if its rows were made with other settings."""
    settings = settings_of(args) | {
        key: str(getattr(args, key)) for key in ("points", "train_clouds", "test_clouds", "modelnet")
    }
    file = args.work / "settings.json"
    if not file.exists():
        args.work.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=1))
    known = json.loads(file.read_text())
    if known != settings:
        raise SystemExit(f"{args.work} holds rows of other settings ({known}); give another --work")


def print_parameters(args: argparse.Namespace) -> None:
    """How well the numbers of parameters match."""
    settings = settings_of(args)
    wanted = networks.SIZES[settings["size"]]["parameters"]
    chosen = {key: settings[key] for key in ("size", "sampling", "depth")}
    for group in args.groups:
        for kernel in args.kernels:
            model = networks.matched(group, kernel, settings["classes"], **chosen)
            count = networks.parameters(model)
            tqdm.write(
                f"{group:6s} {kernel:8s} {count:9,d} parameters ({count / wanted - 1:+6.1%}), channels "
                f"{model.channels}, {networks.flops_per_cloud(model) / 1e6:.0f} MFLOP a cloud"
            )


class Lanes:
    """Run each training in its own process on one core, and store its rows in the work folder.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.free: Queue[int] = Queue()
        for core in sorted(os.sched_getaffinity(0))[: args.lanes]:
            self.free.put(core)

    def rows(self, jobs: list[Job]) -> list[Row]:
        """All rows of all trainings; a training that fails is reported and left out."""
        with ThreadPoolExecutor(self.args.lanes) as pool:
            parts = tqdm(pool.map(self.trained, jobs), total=len(jobs), unit="training")
            return [row for part in parts for row in part]

    def trained(self, job: Job) -> list[Row]:
        """Rows of a training on the next free core, or from an earlier call; none if it failed."""
        group, kernel, seed = job
        result = self.args.work / f"{group}_{kernel}_{seed}.json"
        if not result.exists():
            core = self.free.get()
            log = result.with_suffix(".log")
            with open(log, "w") as file:
                subprocess.run(
                    ["taskset", "-c", str(core), sys.executable, *sys.argv, "--run", *map(str, job)],
                    stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
                )  # fmt: skip
            self.free.put(core)
        if not result.exists():
            tqdm.write(f"{group} {kernel} seed {seed} failed, see {result.with_suffix('.log')}")
            return []
        rows: list[Row] = json.loads(result.read_text())
        found = ", ".join(f"{row['test_rotation']} {row['accuracy']:.1%}" for row in rows)
        tqdm.write(f"{group:6s} {kernel:8s} seed {seed}: {found}; {rows[0]['train_seconds']:.0f} s")
        return rows


def main() -> None:
    """Run the missing trainings and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for clouds and finished rows")
    parser.add_argument("--groups", nargs="+", default=list(networks.GROUPS))
    parser.add_argument("--kernels", nargs="+", choices=networks.KERNELS, default=list(networks.KERNELS[:2]))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--depth", type=int, default=1, help="hidden layers of the implicit kernels")
    parser.add_argument("--sampling", choices=("random", "farthest"), default="farthest")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=30.0, help="most that a training may take")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--points", type=int, help="of a cloud: 128 for furniture, 1024 for ModelNet")
    parser.add_argument("--train-clouds", type=int, default=480, help="furniture only")
    parser.add_argument("--test-clouds", type=int, default=480, help="furniture only")
    parser.add_argument("--modelnet", type=Path, help="folder or archive of ModelNet, in place of furniture")
    parser.add_argument("--classes", type=int, choices=(10, 40), default=40, help="of ModelNet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lanes", type=int, default=2, help="trainings at a time, one core each")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work = args.work.resolve()
    data = args.work / "clouds"
    check_work(args)
    if args.run:
        group, kernel, seed = args.run
        rows = training.run(group, kernel, int(seed), data, settings_of(args))
        partial = args.work / f"{group}_{kernel}_{seed}.partial"
        partial.write_text(json.dumps(rows, indent=1))
        partial.rename(partial.with_suffix(".json"))
        return
    sizes = {"train": args.train_clouds, "test": args.test_clouds}
    points = args.points or (128 if args.modelnet is None else 1024)
    sets.prepare(data, sizes, points, args.modelnet, args.classes)
    print_parameters(args)
    jobs = [(group, kernel, seed) for seed in args.seeds for group in args.groups for kernel in args.kernels]
    rows = Lanes(args).rows(jobs)
    page = HERE / "point_clouds.md" if args.output == OUTPUT else args.output.with_suffix(".md")
    report.write(rows, args.output, page, settings_of(args)["size"])


if __name__ == "__main__":
    main()
