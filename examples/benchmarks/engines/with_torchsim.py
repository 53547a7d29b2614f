"""TorchSim against the ASE calculator: energies, forces, pressures, and processor time of a step.

Writes the rows of TorchSim in ``examples/benchmarks/results/engines.json``; times are those of a step of all
structures, with ASE one after the other:

    python -m examples.benchmarks.engines.with_torchsim
"""

import time
from collections.abc import Callable

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

from examples.benchmarks.engines.rows import replace_rows
from examples.benchmarks.engines.small_molecules import molecules
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.torchsim import IKModel

STEP = 0.5 * units.fs
TURNS = 5  # of the clock


def crystals() -> list[Atoms]:
    """Four crystals of methane with 40 atoms each, at different densities."""
    found = []
    for number in range(4):
        cell = molecule("CH4")
        cell.set_cell(np.array([4.4, 4.5, 4.6]) + 0.05 * number)
        cell.pbc = True
        found.append(cell.repeat(2))
    return found


def compared(name: str, structures: list[Atoms], dtype: str) -> dict[str, object]:
    """The row of some structures."""
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.03, seed=seed)
        atoms.calc = IKCalculator("base", dtype=dtype)
    periodic = bool(structures[0].pbc.any())
    model = IKModel("base", dtype=dtype, compute_stress=periodic)
    start = ts.initialize_state(structures, model.device, model.dtype)
    out = model(start)
    sizes = [len(atoms) for atoms in structures]
    pairs = list(zip(structures, out["energy"].tolist(), out["forces"].split(sizes), strict=True))
    errors = [abs(energy - atoms.get_potential_energy()) for atoms, energy, _ in pairs]
    worst = [np.abs(forces.numpy() - atoms.get_forces()).max() for atoms, _, forces in pairs]
    pressures = [
        abs(float(stress.trace()) - atoms.get_stress(voigt=False).trace()) / 3 / units.GPa
        for atoms, stress in zip(structures, out["stress"], strict=True)
    ] if periodic else []  # fmt: skip
    start.rng = 0
    model.compute_stress = False
    state = ts.nve_init(start, model, kT=300 * units.kB)
    runs = []
    for atoms, momenta in zip(structures, state.momenta.split(sizes), strict=True):
        atoms.calc = IKCalculator("base", dtype=dtype)
        atoms.set_momenta(momenta.numpy())
        runs.append(VelocityVerlet(atoms, STEP))
    kept = []

    def in_torchsim() -> None:
        nonlocal state
        state = ts.nve_step(state, model, dt=torch.tensor(STEP, dtype=torch.float64))
        kept.append(state.clone())

    def in_ase() -> None:
        for run in runs:
            run.run(1)

    clocks: list[Callable[[], object]] = [in_torchsim, in_ase, lambda: model(kept.pop())]
    steps = 3000 // sum(sizes)
    for one in clocks:
        clock(one, 2)
    turns = np.array([[clock(one, steps) for one in clocks] for _ in range(TURNS)])
    here, ase, alone = np.median(turns, axis=0)
    print(f"{name} {dtype}: {here:.1f} ms a step in TorchSim, {ase:.1f} in ASE, {alone:.1f} in the model", flush=True)
    print(f"errors {max(errors):.1e} eV, {max(worst):.1e} eV/A, {max(pressures, default=0):.1e} GPa", flush=True)
    return {
        "system": name, "ranks": 1, "dtype": dtype, "atoms": sum(sizes), "energy_error_eV": float(max(errors)),
        "force_error_eV_per_A": float(max(worst)), "pressure_error_GPa": max(pressures, default=None),
        "ms_per_step": round(here, 2), "ase_ms_per_step": round(ase, 2), "share_not_model": round(1 - alone / here, 3),
    }  # fmt: skip


def clock(step: Callable[[], object], steps: int) -> float:
    """Processor time in ms of one of so many steps."""
    start = time.process_time()
    for _ in range(steps):
        step()
    return 1e3 * (time.process_time() - start) / steps


def main() -> None:
    """Compare, and write the rows."""
    torch.set_num_threads(1)
    systems = {"20 molecules": molecules, "4 methane crystals": crystals}
    replace_rows(
        "torchsim",
        [compared(name, make(), dtype) for name, make in systems.items() for dtype in ("float32", "float64")],
    )


if __name__ == "__main__":
    main()
