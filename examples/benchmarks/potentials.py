"""Compare our potential with MACE 0.3.16 and NequIP 0.19: the same frames, cores and training time.

    python examples/benchmarks/potentials.py --data-root DATA --work WORK \
        --mace-python MACE_VENV/bin/python --nequip-python NEQUIP_VENV/bin/python [--minutes 12]

Each package lives in an environment of its own; ours is that of the interpreter that runs this script. Stages:
``prepare`` writes the frames, ``train`` trains (one process after the other), ``evaluate`` measures errors, ``speed``
times all models of a set in turn, ``table`` writes the results. Without a stage all of them run. Finished parts are
stored in the work folder and skipped; a killed training starts again. Nothing else should run on the machine.

Training time is ``--minutes`` for everyone, counted from the first training step to the end of the last validation:
starting the interpreter, reading data, building and compiling a model are not part of it (``seconds_before_training``).
Neither MACE nor NequIP has such a limit of its own: their loops end their last epoch early, validate it and stop.
"""

import argparse
import signal
import sys
from pathlib import Path

from potentials import report, runs, sets, speed
from potentials.recipes import DEFAULT_MODELS, MODELS
from tqdm import tqdm

HERE = Path(__file__).parent
SPEED_ONLY_MINUTES = 0.1
STAGES = ("prepare", "train", "evaluate", "speed", "table")
OUTPUT = HERE / "results" / "potentials.json"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"any of {', '.join(STAGES)}; all if none is given")
    parser.add_argument("--data-root", type=Path, required=True, help="folder with acac_3bpa_ethanol/, rmd17/, ...")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--mace-python", help="interpreter with mace-torch 0.3.16")
    parser.add_argument("--nequip-python", help="interpreter with nequip 0.19")
    parser.add_argument("--sets", nargs="+", choices=list(sets.SETS), default=list(sets.SETS))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(DEFAULT_MODELS))
    parser.add_argument("--only", nargs="+", metavar="SET:MODEL", help="train and evaluate these alone")
    parser.add_argument("--minutes", type=float, default=12.0, help="training time of each model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the speed measurement")
    parser.add_argument(
        "--e0", choices=["isolated", "fit"], default="isolated", help="where E0s come from, if possible"
    )
    parser.add_argument(
        "--speed-only",
        action="store_true",
        help="trains for seconds, for the speed of models whose errors are in --output from another work folder",
    )
    parser.add_argument("--redo", action="store_true", help="train again what is trained already")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file; a plot goes beside it")
    parser.add_argument("--page", type=Path, help="Markdown page; beside the script, or beside another --output")
    args = parser.parse_args()
    unknown = [stage for stage in args.stages if stage not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]}: choose from {', '.join(STAGES)}")
    return args


def chosen(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Pairs of set and model, in the order in which they are trained."""
    if args.only:
        pairs = [tuple(pair.split(":")) for pair in args.only]
        wrong = [pair for pair in pairs if len(pair) != 2 or pair[0] not in sets.SETS or pair[1] not in MODELS]
        if wrong:
            sys.exit(f"--only takes SET:MODEL, for example acac:mace; got {':'.join(wrong[0])}")
        return [(pair[0], pair[1]) for pair in pairs]
    pairs = [(data_set, model) for data_set in args.sets for model in args.models]
    given = {"ours": sys.executable, "mace": args.mace_python, "nequip": args.nequip_python}
    absent = {package for package, python in given.items() if not python}
    for package in sorted(absent & {MODELS[model].package for _, model in pairs}):
        tqdm.write(f"no --{package}-python: {package} is left out")
    return [(data_set, model) for data_set, model in pairs if MODELS[model].package not in absent]


def measure_speed(bench: runs.Bench, data_set: str, rounds: int) -> None:
    """Compile and time all trained models of a set."""
    models = [model for model in MODELS if bench.pythons[MODELS[model].package]]
    for model in models:
        for threads in bench.thread_counts:
            speed.compile_model(bench, data_set, model, threads)
    speed.measure(bench, data_set, models, rounds)


def main() -> None:
    """Run the stages."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the worker is stopped too
    args = parse()
    stages = set(args.stages or STAGES)
    if args.speed_only:
        args.minutes = SPEED_ONLY_MINUTES
    pythons = {"ours": sys.executable, "mace": args.mace_python or "", "nequip": args.nequip_python or ""}
    bench = runs.Bench(args.work.resolve(), pythons, args.minutes, args.threads, args.speed_only)
    pairs = chosen(args)
    failed = []
    for data_set in dict.fromkeys(data_set for data_set, _ in pairs):
        if "prepare" in stages:
            sets.prepare(data_set, args.data_root, bench.data(data_set), args.e0)
    for number, (data_set, model) in enumerate(pairs, start=1):
        try:
            if "train" in stages:
                tqdm.write(f"[{number}/{len(pairs)}] {data_set}:{model}")
                runs.train(bench, data_set, model, redo=args.redo)
            if "evaluate" in stages:
                runs.evaluate(bench, data_set, model)
        except runs.WorkerError as error:
            tqdm.write(str(error))
            failed.append(f"{data_set}:{model}")
    if "speed" in stages:
        for data_set in dict.fromkeys(data_set for data_set, _ in pairs):
            measure_speed(bench, data_set, args.rounds)
    if "table" in stages:
        page = args.page or (HERE / "potentials.md" if args.output == OUTPUT else args.output.with_suffix(".md"))
        report.write(bench, args.output, page)
        tqdm.write(f"results are in {args.output} and {page}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the same command tries them again")


if __name__ == "__main__":
    main()
