"""LAMMPS on several processes: conservation of energy, strong scaling, 100,000 atoms, and the cost of communication.

    ik-e3nn lammps build
    python -m examples.benchmarks.engines.lammps_scaling --work WORK [--parts nve scaling large table]

Every part is stored in ``results/lammps_scaling.json`` as soon as it is measured. Packages of the base model are made
once, in WORK. Nothing else should run meanwhile: with two processes, LAMMPS needs both cores.
"""

import argparse
import json
import re
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch._inductor.package.package
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from examples.benchmarks.engines.rows import commit, machine
from examples.benchmarks.engines.with_lammps import Case, package, packed
from ik_e3nn.models import InteratomicPotential, load_model, model_path
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.lammps.layers import layers

TABLE = Path(__file__).resolve().parents[1] / "results" / "lammps_scaling.json"
STEPS = 2000  # of the conservation of energy
STEP = 0.5  # fs
SKIN = 1.0  # A
HEADER = 48  # bytes of a ghost in every step: its position, and the force on it
FEATURES = 128  # numbers of an atom of the base model that are exchanged: 32 channels of degrees 0 and 1


def water(count: int) -> Atoms:
    """Molecules of water on a lattice at the density of the liquid."""
    return packed("H2O", count, 3.1)


def series(output: str) -> np.ndarray:
    """The rows of numbers that LAMMPS logs in its last run: step, total energy, ..."""
    lines = output.splitlines()
    start = max(k for k, line in enumerate(lines) if line.split()[:2] == ["Step", "TotEng"])
    rows = []
    for line in lines[start + 1 :]:
        if line.startswith("Loop time"):
            break
        rows.append([float(word) for word in line.split()])
    return np.array(rows)


def nve(work: Path) -> dict[str, Any]:
    """Drift and fluctuation of the total energy in ASE and in LAMMPS on one and two processes, float64."""
    case = Case(work, packed("CH4", 1, 5.9, face_centered=True), package(work, "float64"))
    found: dict[str, Any] = {"system": "methane crystal", "atoms": len(case.atoms), "steps": STEPS, "dtype": "float64"}
    momenta, energies = None, {}
    for ranks in (1, 2):
        output = case.integrate(STEPS, ranks, every=10)
        energies[f"LAMMPS, {ranks} process{'es'[: 2 * ranks - 2]}"] = series(output)[:, 1]
        momenta = case.first_momenta()
    atoms = case.atoms.copy()
    atoms.set_momenta(momenta)
    atoms.calc = IKCalculator("base", dtype="float64", device="cpu", compile=True)
    run, total = VelocityVerlet(atoms, STEP * units.fs), []
    run.attach(lambda: total.append(atoms.get_total_energy()), interval=10)
    run.run(STEPS)
    energies["ASE"] = np.array(total)
    picoseconds = np.arange(len(total)) * 10 * STEP / 1000
    for name, values in energies.items():
        change = 1000 * (values - values[0]) / len(atoms)
        slope, _ = np.polyfit(picoseconds, change, 1)
        found[name] = {"drift_meV_per_atom_per_ps": float(slope), "fluctuation_meV_per_atom": float(change.std())}
    one, two, ase = energies.values()
    found["one_to_two_processes_eV"] = float(abs(one - two).max())
    found["LAMMPS_to_ASE_eV"] = float(abs(one - ase).max())
    return found


def scaling(work: Path) -> dict[str, Any]:
    """Seconds of a step on one and two processes, in turn, with about 5,000 atoms in float32."""
    case = Case(work, water(12), package(work, "float32"))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    ghosts = {}
    for _ in range(3):
        for ranks, taken in seconds.items():
            output, _ = case.run(5, ranks)
            taken.append(loop_time(output) / 5)
            ghosts[ranks] = _number(r"(\d+) owned atoms and ghosts", output) / len(case.atoms) - 1
    one, two = (statistics.median(taken) for taken in seconds.values())
    return {
        "system": "water", "atoms": len(case.atoms), "dtype": "float32", "seconds_per_step_1": one,
        "seconds_per_step_2": two, "speedup": one / two, "ghosts_per_atom_1": ghosts[1], "ghosts_per_atom_2": ghosts[2],
        "ghosts_per_atom_1_formula": ghosts_per_atom(len(case.atoms), 1, 5.0 + SKIN, density(case.atoms)),
        "ghosts_per_atom_2_formula": ghosts_per_atom(len(case.atoms), 2, 5.0 + SKIN, density(case.atoms)),
    }  # fmt: skip


def large(work: Path) -> dict[str, Any]:
    """An MD of 100,000 atoms on two processes in float32: seconds of a step, and the memory of the larger process."""
    case = Case(work, water(33), package(work, "float32"))
    began = time.time()
    output = case.integrate(10, 2, every=1)
    total = series(output)[:, 1]
    return {
        "system": "water", "atoms": len(case.atoms), "dtype": "float32", "ranks": 2, "steps": 10,
        "seconds_per_step": loop_time(output) / 10, "seconds_in_all": time.time() - began,
        "memory_of_the_larger_process_MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "change_of_the_total_energy_meV_per_atom": float(1000 * abs(total - total[0]).max() / len(case.atoms)),
    }  # fmt: skip


def table(work: Path) -> dict[str, Any]:
    """Ghosts, volume of communication and time of a step on many processes, computed from the measured cost.

    A process owns a brick of the box, and its ghosts are all atoms within one cutoff of the brick (with a halo, one for
    each interaction) and the skin. With a halo, all interactions but the last also compute the atoms within the cutoffs
    of the later ones.
    """
    stored = json.loads(TABLE.read_text())
    second = stored["scaling"]["seconds_per_step_1"] / stored["scaling"]["atoms"]
    rho, share = density(water(1)), first_interaction(package(work, "float32"))
    rows = []
    for atoms in (10**4, 10**5, 10**6, 10**7):
        for ranks in (1, 8, 64, 1024):
            owned = atoms / ranks
            near, far = (ghosts_per_atom(atoms, ranks, reach + SKIN, rho) for reach in (5.0, 10.0))
            rows.append(
                {
                    "atoms": atoms,
                    "ranks": ranks,
                    "atoms_per_rank": owned,
                    "ghosts_per_atom": near,
                    "ghosts_per_atom_halo": far,
                    "MB_per_rank_and_step": owned * near * (HEADER + 2 * 4 * FEATURES) / 1e6,
                    "MB_per_rank_and_step_halo": owned * far * HEADER / 1e6,
                    "seconds_per_step": owned * second,
                    "seconds_per_step_halo": owned * second * (1 + share * near),
                }
            )
    return {"rows": rows, "density_per_A3": rho, "seconds_per_atom": second, "first_interaction": share}


def first_interaction(path: Path) -> float:
    """The share of the first interaction in the time of a step."""
    functions = layers(cast(InteratomicPotential, load_model(model_path("base"), device="cpu").potential), {})
    seconds = {}
    for name, layer in functions.items():
        example = layer.example()
        inputs = [example[key] for key in sorted(example)]
        compiled = torch._inductor.package.package.load_package(str(path), name, run_single_threaded=True)
        taken = []
        for _ in range(20):
            began = time.process_time()
            compiled(inputs)
            taken.append(time.process_time() - began)
        seconds[name] = statistics.median(taken)
    return (seconds["features_0"] + seconds["gradients_0"]) / sum(seconds.values())


def ghosts_per_atom(atoms: int, ranks: int, reach: float, rho: float) -> float:
    """Ghosts of a process for each of its owned atoms, in a periodic cube of constant density."""
    side = (atoms / rho) ** (1 / 3)
    brick = [side / count for count in grid(ranks)]
    return float(np.prod([length + 2 * reach for length in brick]) / np.prod(brick) - 1)


def grid(ranks: int) -> tuple[int, int, int]:
    """Numbers of bricks in the three directions with the smallest surface, as LAMMPS chooses them."""
    choices = [
        (a, b, ranks // a // b) for a in range(1, ranks + 1) if ranks % a == 0
        for b in range(1, ranks // a + 1) if ranks // a % b == 0
    ]  # fmt: skip
    return min(choices, key=sum)


def density(atoms: Atoms) -> float:
    """Atoms in a cubic Angstrom."""
    return len(atoms) / float(atoms.get_volume())


def loop_time(output: str) -> float:
    """Seconds of the last run."""
    return _number(r"Loop time of ([\d.e+-]+)", output)


def _number(pattern: str, text: str) -> float:
    return float(re.findall(pattern, text)[-1])


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {"nve": nve, "scaling": scaling, "large": large, "table": table}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for packages and runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        found = {**PARTS[part](arguments.work), "machine": machine(), "commit": commit()}
        print(part, json.dumps(found, indent=1), flush=True)
        stored = json.loads(TABLE.read_text()) if TABLE.exists() else {}
        TABLE.write_text(json.dumps({**stored, part: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
