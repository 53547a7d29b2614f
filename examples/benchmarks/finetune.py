"""Compare fine-tuned models with models trained from scratch, at equal time.

    python examples/benchmarks/finetune.py --data-root DATA --work WORK [--old HELDOUT.xyz] [--minutes 4]

Every training has its own folder in the work folder: finished trainings are skipped, killed ones resume. A work
folder is for one set of models, minutes and overrides. Rows are added to results/finetune.json, which keeps rows of
problems that are not run; finetune.md is made from this file.
"""

import argparse
import hashlib
import json
from pathlib import Path

from finetune import report
from finetune.problems import METHODS, PROBLEMS, Job, Row
from tqdm import tqdm

from ik_e3nn.models import model_path
from ik_e3nn.models.files.pretrained import BASE_PROPERTIES

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "finetune.json"


def check_same_settings(args: argparse.Namespace, models: list[Path]) -> None:
    """Store the common settings in the work folder, or stop if its trainings were made with other settings."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in models]
    settings = {"models": digests, "minutes": args.minutes, "override": args.override}
    file = args.work / "settings.json"
    args.work.mkdir(parents=True, exist_ok=True)
    if not file.exists() and not any(args.work.glob("*/row.json")):
        file.write_text(json.dumps(settings, indent=1))
    known = json.loads(file.read_text()) if file.exists() else "unknown"
    if known != settings:
        raise SystemExit(
            f"{args.work} holds trainings of other settings ({known}, now {settings}); give another --work"
        )


def trained(name: str, job: Job, args: argparse.Namespace) -> list[Row]:
    """The rows of a training, one per target, from its folder if it is finished."""
    place = f"{name}_{job.method.replace(' ', '_')}_{job.train_size}_{job.seed}"
    folder = args.work / place
    file = folder / "row.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = PROBLEMS[name].run(job, args.data_root, folder)
        rows = [{"problem": name, **row} for row in ([found] if isinstance(found, dict) else found)]
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(rows, indent=1))
        partial.rename(file)
    content = json.loads(file.read_text())
    return [content] if isinstance(content, dict) else content


def main() -> None:
    """Run all trainings, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--base", help="model file of a potential; that of the package if absent")
    parser.add_argument("--properties", default=BASE_PROPERTIES, help="model file of properties; the same")
    parser.add_argument("--old", type=Path, help="data like the base's own, for replay and for what is forgotten")
    parser.add_argument("--minutes", type=float, default=4.0, help="time of a training")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--sizes", nargs="+", type=int, help="instead of a problem's own")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("override", nargs="*", help="--section.field=value of all trainings, after --")
    args = parser.parse_args()
    args.work = args.work.resolve()
    base, properties = (model_path(one).resolve() for one in (args.base, args.properties))
    check_same_settings(args, [base, properties])
    old = None if args.old is None else args.old.resolve()
    methods = [method for method in args.methods if method != "replay" or old is not None]
    jobs = [
        (name, Job(method, size, seed, base, properties, old, args.minutes, tuple(args.override)))
        for name in args.problems
        for seed in args.seeds
        for size in args.sizes or PROBLEMS[name].sizes
        for method in methods
        if method in PROBLEMS[name].methods
    ]
    before = json.loads(args.output.read_text()) if args.output.exists() else []
    rows: list[Row] = [row for row in before if row["problem"] not in args.problems]
    page = HERE / "finetune.md" if args.output == OUTPUT else args.output.with_suffix(".md")
    for name, job in tqdm(jobs, desc="trainings"):
        rows = sorted([*rows, *trained(name, job, args)], key=lambda row: list(PROBLEMS).index(row["problem"]))
        report.write(rows, args.output, page)
    print(page.read_text())


if __name__ == "__main__":
    main()
