"""Many molecules at once against one after the other, with ``ik-e3nn md`` and ``ik-e3nn relax``: wall time of a step.

Writes the rows ``many`` of ``examples/benchmarks/results/engines.json``. Times are those of whole runs, files
included, divided by the number of steps of a molecule; both ways take turns, and medians are given:

    python -m examples.benchmarks.engines.with_many
"""

import csv
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from examples.benchmarks.engines.rows import replace_rows
from examples.benchmarks.engines.small_molecules import molecules
from ik_e3nn_calculators import (
    IKCalculator,
    ManyMDSettings,
    ManyRelaxSettings,
    MDSettings,
    RelaxSettings,
    run_many_md,
    run_many_relax,
    run_md,
    run_relax,
)

TURNS = 3  # of the clock
QUIET = {"progress": False, "plots": False, "overwrite": True, "device": "cpu"}
COMMANDS = {
    "md": (
        ManyMDSettings,
        run_many_md,
        MDSettings,
        run_md,
        {"steps": 50, "ensemble": "langevin"},
    ),
    "relax": (ManyRelaxSettings, run_many_relax, RelaxSettings, run_relax, {"fmax": 0.02}),
}


def compared(command: str, dtype: str, folder: Path) -> dict[str, object]:
    """The row of one command."""
    many_settings, run_many, one_settings, run_one, options = COMMANDS[command]
    structures: list[Atoms] = molecules()
    options = {**options, **QUIET, "dtype": dtype}

    def together() -> None:
        run_many(many_settings("unused", output=str(folder / "many"), **options), structures=structures)

    def alone() -> None:
        calculator = IKCalculator("base", dtype=dtype, device="cpu")
        for k, atoms in enumerate(structures):
            settings = one_settings("unused", seed=k, output=str(folder / str(k)), **options)
            run_one(settings, atoms=atoms, calculator=calculator)

    clock(together), clock(alone)
    times = np.array([[clock(together), clock(alone)] for _ in range(TURNS)])
    here, ase = np.median(times, axis=0)
    with (folder / "many" / "structures.csv").open() as file:
        table = list(csv.DictReader(file))
    steps = sum(int(row["steps"]) for row in table) / len(table)
    pairs = [(last(folder / "many" / row["folder"]), last(folder / row["structure"])) for row in table]
    print(f"{command} {dtype}: {here:.2f} s together, {ase:.2f} s one by one, ratio {ase / here:.2f}", flush=True)
    print(f"  ratio of each turn: {np.round(times[:, 1] / times[:, 0], 2).tolist()}", flush=True)
    return {
        "system": f"20 molecules, {command}", "ranks": 1, "dtype": dtype, "atoms": sum(map(len, structures)),
        "energy_error_eV": max(abs(a.get_potential_energy() - b.get_potential_energy()) for a, b in pairs),
        "force_error_eV_per_A": max(float(np.abs(a.get_forces() - b.get_forces()).max()) for a, b in pairs),
        "ms_per_step": round(1e3 * here / steps, 2), "ase_ms_per_step": round(1e3 * ase / steps, 2),
    }  # fmt: skip


def last(folder: Path) -> Atoms:
    """The last structure of a run."""
    return ase.io.read(folder / "final.extxyz")


def clock(run: Callable[[], object]) -> float:
    """Wall time of a run in s."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Compare, and write the rows."""
    logging.getLogger("ik_e3nn_calculators").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            compared(command, dtype, Path(folder) / command / dtype)
            for command in COMMANDS
            for dtype in ("float32", "float64")
        ]
    replace_rows("ase", rows)


if __name__ == "__main__":
    main()
