"""Train for hours instead of minutes, one core for each training, and compare with published errors.

    python examples/benchmarks/full_budget.py --data-root DATA --work WORK --only acac:medium --hours 2.5 [--core 1]

Trainings are resumable: the same command continues a killed one, and leaves out what is finished. The time is that of
the processor, without compilation, so that other work on the machine does not matter much. Results of earlier calls in
``results/full_budget.json`` are kept; every call writes the page and the plot anew.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import yaml
from ase.io import write
from full_budget import report
from full_budget.sets import SETS, load
from potentials.runs import commit

from ik_e3nn.cli import main as command

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "full_budget.json"
PRESETS = ("small", "medium", "large")
Row = dict[str, Any]


def train(name: str, preset: str, args: argparse.Namespace) -> Row:
    """Train and test a model, or continue; the result of an earlier call if it is finished.

    Args:
        name: Key of ``SETS``.
        preset: Size of the model.
        args: The command line.

    Raises:
        RuntimeError: The training failed.
    """
    folder = args.work / f"{name}_{preset}_seed{args.seed}_{args.hours:g}h"
    result = folder / "row.json"
    if result.exists():
        row: Row = json.loads(result.read_text())
        return row
    data, run = args.work / "data" / name, folder / "run"
    if not (data / "test.xyz").exists():
        data.mkdir(parents=True, exist_ok=True)
        for part, frames in load(name, args.data_root).items():
            write(data / f"{part}.xyz", frames, format="extxyz")
    settings = {
        "data": {part: str(data / f"{part}.xyz") for part in ("train", "valid", "test")},
        "model": {"preset": preset, "r_max": 5.0},
        "loss": SETS[name].loss,
        "run": {
            "output": str(run), "max_epochs": 1_000_000, "max_minutes": 60 * args.hours, "clock": "cpu",
            "num_threads": 1, "device": "cpu", "compile": True, "progress": False, "seed": args.seed,
            "batch_size": SETS[name].batch_size,
        },
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    if command(["train", str(config), *(["--resume"] if (run / "metrics.jsonl").exists() else [])]):
        raise RuntimeError(f"the training of {name} with the preset {preset} failed; see the message above")
    metrics = json.loads((run / "metrics.json").read_text())
    curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    row = {
        "set": name,
        "preset": preset,
        "seed": args.seed,
        "core_hours": metrics["seconds"] / 3600,
        **{key: metrics["test"][key] for key in report.ERRORS},
        "epochs": metrics["epochs"],
        "parameters": metrics["parameters"],
        "commit": commit(),
        "curve": [
            {"core_hours": point["seconds"] / 3600, **{key: point[f"valid/{key}"] for key in report.ERRORS}}
            for point in curve[:: max(1, len(curve) // 100)]
        ],
    }
    result.write_text(json.dumps(row, indent=1))
    return row


def main() -> None:
    """Run the missing trainings and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with acac_3bpa_ethanol/, rmd17/, ...")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--only", nargs="+", metavar="SET:PRESET", help="trainings; by default all sets, two sizes")
    parser.add_argument("--hours", type=float, default=2.5, help="processor time of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--core", type=int, help="core to use; by default the first that is allowed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file; a page and a plot go with it")
    args = parser.parse_args()
    args.work = args.work.resolve()
    pairs = [pair.split(":") for pair in args.only or [f"{name}:{size}" for name in SETS for size in PRESETS[:2]]]
    for pair in pairs:
        if len(pair) != 2 or pair[0] not in SETS or pair[1] not in PRESETS:
            parser.error(f"--only takes SET:PRESET with a set out of {', '.join(SETS)}; got {':'.join(pair)}")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0)) if args.core is None else args.core})
    for name, preset in pairs:
        report.add(train(name, preset, args), args.output)


if __name__ == "__main__":
    main()
