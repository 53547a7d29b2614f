"""Steerable convolutions on grids: equivariance at all angles, digits trained upright and tested rotated, speed.

    python examples/benchmarks/grids.py --work WORK [--minutes 3] [--seeds 2] [--only angles digits speed]

``digits`` needs scikit-learn. Finished rows are stored in WORK and not computed again; the page is written from the
available rows.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from grids import angles, digits, report, speed
from tqdm import tqdm

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "grids.json"
Row = dict[str, Any]
Job = tuple[str, Callable[[], Row]]


def jobs(args: argparse.Namespace) -> dict[str, list[Job]]:
    """Names and functions of all rows, by part."""
    cases = [(n, s, w) for w in angles.WIDTHS for n in angles.SIZES for s in angles.SIGMAS]
    networks = [(model, seed) for seed in range(args.seeds) for model in digits.MODELS]
    return {
        "angles": [(f"{n}_{s:g}_{w:g}", lambda n=n, s=s, w=w: angles.measure(n, s, w)) for n, s, w in cases],
        "digits": [(f"{m}_{s}", lambda m=m, s=s: digits.train_row(m, s, args.minutes)) for m, s in networks],
        "speed": [
            (f"{name}_{args.device}".replace(" ", "_"), lambda name=name: speed.measure(name, args.device))
            for name in speed.CASES
        ],
    }


def rows_of(part: str, todo: list[Job], work: Path, *, compute: bool) -> Iterator[Row]:
    """Stored rows, and rows that are computed now."""
    for name, function in tqdm(todo, desc=part, unit="row", disable=not compute):
        file = work / f"{part}_{name}.json"
        if compute and not file.exists():
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(function()))
            os.replace(partial, file)
        if file.exists():
            yield json.loads(file.read_text())


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("grids_work"), help="folder for finished rows")
    parser.add_argument(
        "--only", nargs="+", choices=["angles", "digits", "speed"], default=["angles", "speed", "digits"]
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of one training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="of the part on speed")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = {part: list(rows_of(part, todo, args.work, compute=part in args.only)) for part, todo in jobs(args).items()}
    page = HERE / "grids.md" if args.output == OUTPUT else args.output.with_suffix(".md")
    report.write(rows, args.output, page, points=digits.POINTS)


if __name__ == "__main__":
    main()
