"""The common part of the workers; each runs in the interpreter of its package, with only NumPy, torch and ASE.

A worker gets its job as JSON on the command line and prints its result as JSON in its last line.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

Job = dict[str, Any]
KELVIN, TIMESTEP = 300.0, 1.0  # K, fs


def silicon(repeats: int) -> Atoms:
    """A rattled crystal of diamond silicon with 8 atoms for each of repeats^3 cells."""
    atoms = bulk("Si", cubic=True).repeat(repeats)
    atoms.rattle(0.02, seed=0)
    return atoms


def synchronized_seconds(function: Callable[[], Any], device: str) -> float:
    """Seconds of a call, until the device has finished."""
    start = time.perf_counter()
    function()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(job: Job, calculator: Any, model_call: Callable[[Atoms], Callable[[], Any]]) -> dict[str, Any]:
    """Time the model alone and whole steps of NVE dynamics through ASE.

    Args:
        job: "repeats", "device", and the numbers of steps "warm_up" and "timed".
        calculator: The ASE calculator of the package.
        model_call: Makes a call of the model alone, with a graph that is ready.

    Returns:
        "atoms", medians "model_s" and "step_s", and "memory_gib" on a GPU.
    """
    atoms, device = silicon(job["repeats"]), job["device"]
    atoms.calc = calculator
    speeds = (units.kB * KELVIN / atoms.get_masses()) ** 0.5
    atoms.set_velocities(speeds[:, None] * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, TIMESTEP * units.fs)
    dynamics.run(job["warm_up"])
    step = [synchronized_seconds(lambda: dynamics.run(1), device) for _ in range(job["timed"])]
    call = model_call(atoms)
    for _ in range(job["warm_up"]):
        call()
    model = [synchronized_seconds(call, device) for _ in range(job["timed"])]
    found = {"atoms": len(atoms), "model_s": statistics.median(model), "step_s": statistics.median(step)}
    if device.startswith("cuda"):
        found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def main(run: Callable[[Job], dict[str, Any]]) -> None:
    """Run the job on the command line; an error of any kind is a result."""
    job = json.loads(sys.argv[1])
    torch.manual_seed(0)
    try:
        result = run(job)
    except torch.cuda.OutOfMemoryError:
        result = {"error": "out of memory"}
    except Exception as error:  # noqa: BLE001 - any error of a package is a result and goes into the table
        result = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]}
    sys.stdout.write("\n" + json.dumps(result) + "\n")
