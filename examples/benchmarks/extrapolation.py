"""Compare how potentials extrapolate: trained on dynamics at 300 K, tested at 600 and 1,000 K and on rigid scans.

    python examples/benchmarks/extrapolation.py --work WORK \
        --mace-python MACE_VENV/bin/python --nequip-python NEQUIP_VENV/bin/python [--minutes 4] [--seeds 3]

Everything is labeled by GFN2-xTB, which takes some minutes for each molecule. Every package trains on the same frames
for the same processor time of one core, with its settings of ``potentials.py``; compilation is not counted. Finished
parts are stored in the work folder and skipped, and every call adds its results to the page. A second call for other
molecules or models may run beside the first, with ``--core 1``.
"""

import argparse
import os
import sys
from pathlib import Path

from extrapolation import molecules, report
from extrapolation.training import Trainings
from potentials.recipes import MODELS
from tqdm import tqdm

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "extrapolation.json"
COMPARED = ("ours-small", "ours-medium", "mace", "nequip-cosine")


def main() -> None:
    """Run the missing parts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--mace-python", help="interpreter with mace-torch 0.3.16")
    parser.add_argument("--nequip-python", help="interpreter with nequip 0.19")
    parser.add_argument("--molecules", nargs="+", choices=list(molecules.MOLECULES), default=list(molecules.MOLECULES))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(COMPARED))
    parser.add_argument("--minutes", type=float, default=4.0, help="training time of each model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--core", type=int, help="core to use; by default the first that is allowed")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file; the page and a plot go with it")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0)) if args.core is None else args.core})
    work = args.work.resolve()
    pythons = {"ours": sys.executable, "mace": args.mace_python or "", "nequip": args.nequip_python or ""}
    for molecule in args.molecules:
        molecules.make_frames(molecule, work / "frames")
        molecules.prepare(molecule, work / "frames", work / molecule / "data")
    for seed in range(args.seeds):
        trainings = Trainings(work, pythons, args.minutes, threads=1, seed=seed)
        for molecule in args.molecules:
            for model in args.models:
                if pythons[MODELS[model].package]:
                    report.add([trainings.row(molecule, model)], args.output)
                else:
                    tqdm.write(f"no --{MODELS[model].package}-python: {model} is left out")


if __name__ == "__main__":
    main()
