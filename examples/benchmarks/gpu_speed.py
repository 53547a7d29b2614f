"""Measure potentials on a GPU: dynamics of 1,000 atoms of silicon, the largest system, and training.

    python examples/benchmarks/gpu_speed.py [--mace-python MACE/bin/python] [--nequip-python NEQUIP/bin/python]

NVE dynamics through ASE in single precision: 200 steps, then 100 that are timed, each until the GPU has finished; the
model alone in the same way. All models are untrained, which does not change their time. Every measurement has its own
process; errors are part of the table. ``--device cpu --quick`` tries the script without a GPU.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from gpu_speed import report
from tqdm import tqdm

HERE = Path(__file__).parent
PRESETS = ("small", "medium", "large")
LARGEST = (5, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63)  # cells along each axis; 8 atoms in a cell


def run(python: str, package: str, **job: Any) -> dict[str, Any]:
    """The result of a worker."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [python, str(HERE / "gpu_speed" / f"worker_{package}.py"), json.dumps(job)]
    answer = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    lines = answer.stdout.strip().splitlines()
    if answer.returncode or not lines:
        return {"error": f"the process ended with status {answer.returncode}"}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def largest(python: str, package: str, sizes: tuple[int, ...], job: dict[str, Any]) -> dict[str, Any]:
    """The largest of some crystals for which dynamics works, and the first for which it does not."""
    found: dict[str, Any] = {"atoms": 0}
    for repeats in sizes:
        result = run(python, package, **job | {"repeats": repeats, "warm_up": 2, "timed": 3})
        if "error" in result:
            return found | {"then": result["error"]}
        found = result
    return found | {"then": "no larger one was tried"}


def main() -> None:
    """Run all measurements, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--mace-python", help="interpreter with mace-torch 0.3.16")
    parser.add_argument("--nequip-python", help="interpreter with nequip 0.19")
    parser.add_argument("--quick", action="store_true", help="few atoms and steps, to try the script")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "gpu_speed.json")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --device cpu --quick tries the script without one")
    job: dict[str, Any] = {"task": "dynamics", "device": args.device, "repeats": 1 if args.quick else 5}
    job |= {"warm_up": 2, "timed": 3, "seconds": 0.1} if args.quick else {"warm_up": 200, "timed": 100, "seconds": 5.0}
    sizes = LARGEST[:0] if args.quick else LARGEST
    cases = [(sys.executable, "ours", preset, form) for preset in PRESETS for form in (False, not args.quick)]
    for package, python in (("mace", args.mace_python), ("nequip", args.nequip_python)):
        cases += [(python, package, package, True)] if python else []
    rows: list[dict[str, Any]] = []
    for python, package, model, form in tqdm(list(dict.fromkeys(cases))):
        this = job | {"model": model, "compile": form}
        label = ("compiled" if form else "eager") if package == "ours" else "as it comes"
        row = {"package": package, "model": model, "form": label}
        row |= run(python, package, **this) | {"largest": largest(python, package, sizes, this)}
        if package == "ours":
            row["training"] = run(python, package, **this | {"task": "train"})
        rows.append(row)
        report.write(rows, _machine(args.device), args.output)


def _machine(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"CPU ({platform.machine()})"
    return {"device": name, "torch": torch.__version__}


if __name__ == "__main__":
    main()
