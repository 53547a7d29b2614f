r"""Measure the speed of the interatomic potential, and compare it with the limits of the machine.

Six parts, all on generated structures:

    floor    time of every block, compared with the minimum for its FLOPs and bytes
    compile  gain by compiling for inference: latency and throughput
    md       one step of dynamics, split into neighbor list, graph, model and the rest; memory over the steps
    auto     a step of ``ik-e3nn md CCO``, before the model is compiled beside the run, meanwhile and after
    scaling  time and memory per atom against the number of atoms
    training time of a training step by part, of the data loader, and of validation

    python examples/benchmarks/potential_speed.py [PART ...] [--train-compile] [--quick]

Parts that are run replace their entries in results/potential_speed.json; the plots and potential_speed.md are made anew
from all entries. The machine should be idle.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet
from model_speed import page
from model_speed.common import QUICK, Plan, batch_of, dataset, in_turn, make_model, molecules, seconds
from model_speed.floor import floor
from model_speed.training import step_times
from tqdm import tqdm

from ik_e3nn.models import compile_for_training, compile_potential
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.sets.loader import BatchLoader, sizes_of
from ik_e3nn.training.sets.sampler import EpochSampler
from ik_e3nn_calculators import IKCalculator, MDSettings, run_md
from ik_e3nn_calculators.md.record import Record
from ik_e3nn_calculators.md.velocities import set_thermal_velocities

HERE = Path(__file__).resolve().parent
SYSTEMS = {"copper": 2.0, "water": 0.5}  # and their timesteps in fs
TRAINING_BATCH = 5


def in_fresh_process(job: str, **options: Any) -> dict[str, Any]:
    """Result of one of ``JOBS`` in a separate process."""
    command = [
        sys.executable,
        __file__,
        "--job",
        json.dumps({"job": job, "threads": torch.get_num_threads(), **options}),
    ]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return result


# ----------------------------------------------------------------------------------------------- compile, and training


def compile_once(options: dict[str, Any]) -> dict[str, Any]:
    """Seconds that compiling takes in a fresh process."""
    model = make_model(options["quick"])
    start = time.perf_counter()
    done = compile_potential(model) if options["kind"] == "inference" else compile_for_training(model)
    return {"seconds": time.perf_counter() - start, "done": done}


def compile_gain(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Latency and throughput, eager and compiled, and the time for compiling."""
    structures, eager = molecules(plan.molecules), make_model(args.quick)
    one, batch = batch_of(structures[:1], eager), batch_of(structures, eager)
    models = {"eager": eager}
    compiled = make_model(args.quick)
    if args.compile and compile_potential(compiled):
        models["compiled"] = compiled
    result: dict[str, Any] = {"atoms": {"one": one["batch"].numel(), "batch": batch["batch"].numel()}}
    for name, graph in (("latency_s", one), ("batch_s", batch)):
        result[name] = in_turn({k: lambda m=m, g=graph: m(g) for k, m in models.items()}, plan.seconds)
    result["compiling_s"] = args.compiling.get("inference")
    return result


def training(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Time of the parts of a training step, of the loader and of validation, for batches of small molecules."""
    models = {"eager": make_model(args.quick)}
    if args.train_compile:
        trained = make_model(args.quick)
        if compile_for_training(trained):
            models["compiled"] = trained
    structures, loading = molecules(min(plan.molecules, 4)) * 50, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cache in (("memory", None), ("disk", Path(folder))):
            data = dataset(structures, models["eager"], cache)
            batches = BatchLoader(data, EpochSampler(sizes_of(data), BatchLimits(TRAINING_BATCH), seed=0))
            epoch = in_turn({"epoch": lambda batches=batches: list(batches)}, plan.seconds)["epoch"]
            loading[name] = epoch / len(batches.sampler)
        batch = next(iter(batches))
    parts = step_times(models, batch, plan.seconds)
    averaged = make_model(args.quick)
    validation = in_turn({"eager": lambda: averaged(batch)}, plan.seconds)["eager"]
    return {
        "batch": TRAINING_BATCH, "atoms": batch["batch"].numel(), "edges": batch["edge_index"].shape[1],
        "loader_s": loading, "parts_s": parts, "validation_s": validation,
        "compiling_s": args.compiling.get("training"),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- dynamics


def box(system: str, repeats: int) -> Atoms:
    """Copper, or water: randomly rotated molecules on a grid with the density of the liquid."""
    if system == "copper":
        atoms = bulk("Cu", cubic=True).repeat(repeats)
    else:
        rng, side = np.random.default_rng(0), round(1.17 * repeats)
        atoms = Atoms(cell=[3.1 * side] * 3, pbc=True)
        for place in np.ndindex(side, side, side):
            one = molecule("H2O")
            one.rotate(rng.uniform(0, 360), rng.standard_normal(3))
            one.translate(3.1 * np.array(place))
            atoms += one
    atoms.rattle(0.02, seed=0)
    return atoms


class Stopwatch:
    """Sum the time of methods by wrapping them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Time a method of an object from now on."""
        original = getattr(owner, method)
        self.seconds[name] = 0.0

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start

        setattr(owner, method, timed)


def memory(kind: str = "VmRSS") -> float:
    """Resident memory of this process in MiB, now or ("VmHWM") its maximum so far."""
    return float(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) / 1024


def count_objects() -> int:
    """Number of live Python objects, and of tensors among them."""
    gc.collect()
    return len(gc.get_objects())


def run_dynamics(options: dict[str, Any]) -> dict[str, Any]:
    """Split the time of the steps of dynamics into its parts, and follow the memory."""
    atoms, steps = box(options["system"], options["repeats"]), options["steps"]
    calculator = IKCalculator(make_model(options["quick"]), device="cpu", compile=options["compiled"])
    atoms.calc = calculator
    set_thermal_velocities(atoms, 300.0, np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, SYSTEMS[options["system"]] * units.fs)
    dynamics.run(5)
    evaluator, watch = calculator.evaluator, Stopwatch()
    rebuilds = evaluator.rebuilds
    watch.watch(evaluator._skin, "update", "list")
    watch.watch(evaluator, "graph", "graph")
    watch.watch(evaluator.model, "prepare", "blocks")
    watch.watch(evaluator.model, "forward", "model")
    trace, objects, start = [(0, memory())], [count_objects()], time.perf_counter()
    for step in range(10, steps + 1, 10):
        dynamics.run(10)
        trace.append((step, memory()))
    total, s = time.perf_counter() - start, watch.seconds
    objects.append(count_objects())
    split = {
        "neighbor list": s["list"], "graph": s["graph"] - s["list"], "edges in blocks": s["blocks"],
        "model": s["model"] - s["blocks"], "ASE and the rest": total - s["graph"] - s["model"],
    }  # fmt: skip
    halves = np.array_split([mib for _, mib in trace[1:]], 2)
    return {
        "system": options["system"], "form": "compiled" if evaluator.model.compiled is not None else "eager",
        "atoms": len(atoms), "edges": evaluator._edges["edge_index"].shape[1], "steps": steps,
        "rebuilds": evaluator.rebuilds - rebuilds, "seconds_per_step": {k: v / steps for k, v in split.items()},
        "not_model": 1 - split["model"] / total, "memory_mib": trace, "objects": objects,
        "half_mib": [float(half.mean()) for half in halves],
    }  # fmt: skip


def md(plan: Plan, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Dynamics of about 1,000 atoms, every system and form in a separate process."""
    cases = [(system, compiled) for system in SYSTEMS for compiled in ((False, True) if args.compile else (False,))]
    options = {"repeats": plan.md_repeats, "steps": plan.md_steps, "quick": args.quick}
    return [in_fresh_process("dynamics", system=s, compiled=c, **options) for s, c in tqdm(cases, desc="dynamics")]


def run_auto(options: dict[str, Any]) -> dict[str, Any]:
    """Processor time of the steps of a small molecule that compiles beside its run, with an empty cache at first."""
    times, states = [time.process_time()], ["eager"]
    calculator, add = IKCalculator("base", device="cpu", compile="auto"), Record.add
    start, walls = time.perf_counter(), []

    def timed(self: Record, *, save: bool = False) -> None:
        add(self, save=save)
        times.append(time.process_time())
        code = calculator.code
        states.append("compiled" if code.is_compiled else "beside the compiler" if code.is_compiling else "eager")
        walls.append(time.perf_counter() - start)

    Record.add = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IK_E3NN_CACHE"] = os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/cache"
        settings = MDSettings("CCO", steps=options["steps"], output=f"{folder}/md", progress=False, plots=False)
        summary = run_md(settings, calculator=calculator)
    taken = np.diff(times)[1:]
    phases = {
        name: taken[[state == name for state in states[2:]]] for name in ("eager", "beside the compiler", "compiled")
    }
    switch = summary.compiled_from
    return {
        "atoms": summary.num_atoms, "steps": summary.steps, "switch_step": switch,
        "switch_s": None if switch is None else walls[switch],
        "cpu_ms": {name: 1e3 * float(np.median(one)) for name, one in phases.items() if len(one)},
    }  # fmt: skip


def auto(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Dynamics of ethanol with the base model, in a separate process; with ``--quick`` too short to be compiled."""
    return in_fresh_process("auto", steps=200 if args.quick else 30_000)


# ----------------------------------------------------------------------------------------------------------- scaling


def run_crystal(options: dict[str, Any]) -> dict[str, Any]:
    """Time and memory for energy, forces and stress of a silicon crystal, including the neighbor list."""
    calculator = IKCalculator(make_model(options["quick"]), device="cpu", compile=options["compiled"])
    small = bulk("Si", cubic=True)
    small.calc = calculator
    small.get_stress()
    before = memory("VmHWM")
    atoms = bulk("Si", cubic=True).repeat(options["cells"])
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    if options["compiled"]:  # code for this size is made or loaded
        atoms.get_stress()

    def evaluate() -> None:
        calculator.reset()
        atoms.get_stress()

    taken = in_turn({"step": evaluate}, 0.5)["step"] if len(atoms) < 5000 else seconds(evaluate)
    return {
        "atoms": len(atoms), "edges": calculator.evaluator._edges["edge_index"].shape[1],
        "form": "compiled" if options["compiled"] else "eager", "seconds": taken,
        "peak_mib": memory("VmHWM"), "before_mib": before,
    }  # fmt: skip


def scaling(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Crystals of all sizes, eager and compiled; large ones are evaluated in tiles."""
    cases = [(cells, compiled) for compiled in ((False, True) if args.compile else (False,)) for cells in plan.crystals]
    rows = [
        in_fresh_process("crystal", cells=cells, compiled=compiled, quick=args.quick)
        for cells, compiled in tqdm(cases, desc="scaling")
    ]
    result: dict[str, Any] = {"rows": rows, "atoms_per_gib": {}}
    for form in dict.fromkeys(row["form"] for row in rows):
        a, b = [row for row in rows if row["form"] == form][-2:]
        slope = (b["peak_mib"] - a["peak_mib"]) / (b["atoms"] - a["atoms"])
        result["atoms_per_gib"][form] = 1024 / slope if slope > 0 else None
    return result


# -------------------------------------------------------------------------------------------------------------- main

JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "compile": compile_once, "dynamics": run_dynamics, "auto": run_auto, "crystal": run_crystal
}  # fmt: skip
PARTS: dict[str, Callable[[Plan, argparse.Namespace], Any]] = {
    "floor": lambda plan, args: floor(plan, quick=args.quick, compiled=args.compile),
    "compile": compile_gain, "md": md, "auto": auto, "scaling": scaling, "training": training,
}  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="out of floor, compile, md, auto, scaling, training; or all"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "potential_speed.json")
    parser.add_argument("--page", type=Path, help="potential_speed.md beside this script, or beside another --output")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice if absent")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="eager models alone")
    parser.add_argument("--train-compile", action="store_true", help="also compile the training step: some minutes")
    parser.add_argument("--quick", action="store_true", help="a small model and small systems, to try the script")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part(s) {', '.join(sorted(unknown))}: choose out of {', '.join(PARTS)}")
    return args


def measure(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Run the parts, and store the results after each."""
    plan = QUICK if args.quick else Plan()
    args.compiling = {}
    chosen = set(args.parts or PARTS)
    kinds = ["inference"] * (args.compile and bool(chosen & {"floor", "compile", "md"}))
    kinds += ["training"] * (args.train_compile and "training" in chosen)
    for kind in kinds:
        tqdm.write(f"compiling for {kind}, twice")
        first, again = (in_fresh_process("compile", kind=kind, quick=args.quick) for _ in range(2))
        args.compiling[kind] = {"first": first["seconds"], "again": again["seconds"], "done": first["done"]}
    for part in args.parts or PARTS:
        tqdm.write(part)
        results[part] = PARTS[part](plan, args)
        results["machine"] = {
            "processor": platform.machine(), "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(), "torch": torch.__version__, "quick": args.quick,
        }  # fmt: skip
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    """Run from the command line."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.job:
        torch.set_num_threads(args.job["threads"])
        sys.stdout.write(json.dumps(JOBS[args.job["job"]](args.job)) + "\n")
        return
    results = json.loads(args.output.read_text()) if args.output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:  # machine code is compiled again, for all processes
        os.environ["IK_E3NN_CACHE"] = os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        measure(args, results)
    where = args.page or (HERE if args.output.parent == HERE / "results" else args.output.parent) / "potential_speed.md"
    page.write(results, args.output.with_suffix(""), where)


if __name__ == "__main__":
    main()
