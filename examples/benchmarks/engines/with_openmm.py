"""OpenMM against the ASE calculator: energies, forces, conservation of energy, and processor time of a step.

Writes the rows of OpenMM in ``examples/benchmarks/results/engines.json``:

    python -m examples.benchmarks.engines.with_openmm
"""

import time

import numpy as np
import openmm
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from openmm import app, unit
from openmmml import MLPotential

from examples.benchmarks.engines.rows import replace_rows
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.openmm.factory import IKPotentialFactory

STEP = 0.5  # fs
PICOSECOND = 2000  # steps
TURNS, STEPS = 5, 50  # of the clock
KJ = units.kJ / units.mol

MLPotential.registerImplFactory("ik_e3nn", IKPotentialFactory())  # also where the package is not installed


def methane() -> Atoms:
    """A crystal of methane, 40 atoms."""
    cell = molecule("CH4")
    cell.set_cell([4.4, 4.5, 4.6])
    cell.pbc = True
    cell = cell.repeat(2)
    cell.rattle(0.03, seed=0)
    return cell


def in_openmm(atoms: Atoms, dtype: str) -> openmm.Context:
    """A Context with velocity Verlet, as in ASE, on the platform Reference, which rounds nothing."""
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for number in atoms.numbers:
        topology.addAtom("X", app.Element.getByAtomicNumber(int(number)), residue)
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors(atoms.cell.array / 10 * unit.nanometer)
    system = MLPotential("ik_e3nn", model="base", dtype=dtype).createSystem(topology, removeCMMotion=False)
    integrator = openmm.CustomIntegrator(STEP / 1000)
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    integrator.addComputePerDof("x", "x+dt*v")
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    for index, mass in enumerate(atoms.get_masses()):
        system.setParticleMass(index, mass)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    context.setVelocities(atoms.get_velocities() * units.fs * 100)
    return context


def clock(run, steps: int) -> float:
    """Processor time in ms of one of so many steps."""
    start = time.process_time()
    run(steps)
    return 1e3 * (time.process_time() - start) / steps


def fluctuations(context: openmm.Context, dynamics: VelocityVerlet) -> tuple[float, float]:
    """Standard deviation of the total energy in a picosecond, in meV, of OpenMM and of ASE."""
    totals = []
    for _ in range(PICOSECOND // 10):
        context.getIntegrator().step(10)
        dynamics.run(10)
        state = context.getState(getEnergy=True)
        whole = state.getPotentialEnergy() + state.getKineticEnergy()
        totals.append((whole.value_in_unit(unit.kilojoule_per_mole) * KJ, dynamics.atoms.get_total_energy()))
    one, other = 1e3 * np.std(totals, axis=0)
    return float(one), float(other)


def compared(name: str, atoms: Atoms, dtype: str) -> dict[str, object]:
    """The row of one system."""
    atoms = atoms.copy()
    speeds = np.sqrt(units.kB * 300 / atoms.get_masses())[:, None]
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)) * speeds)
    context = in_openmm(atoms, dtype)
    atoms.calc = IKCalculator("base", dtype=dtype)
    dynamics = VelocityVerlet(atoms, STEP * units.fs)
    state = context.getState(getEnergy=True, getForces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * KJ / 10
    errors = abs(energy - atoms.get_potential_energy()), abs(forces - atoms.get_forces()).max()
    step = context.getIntegrator().step
    if name == "ethanol" and dtype == "float64":
        here, ase = fluctuations(context, dynamics)
        print(f"standard deviation of the energy in a picosecond: {here:.4f} meV in OpenMM, {ase:.4f} in ASE")
    evaluator = IKCalculator("base", dtype=dtype).evaluator
    path = []
    dynamics.attach(lambda: path.append(atoms.positions.copy()))

    def model_alone(steps: int) -> None:
        still = atoms.copy()
        for positions in path[-steps:]:
            still.positions = positions
            evaluator.evaluate(still, {}, stress=False, atomic_stress=False)

    step(20), dynamics.run(20)
    turns = [[clock(step, STEPS), clock(dynamics.run, STEPS), clock(model_alone, STEPS)] for _ in range(TURNS)]
    here, ase, alone = np.median(turns, axis=0)
    print(f"{name} {dtype}: {here:.2f} ms a step in OpenMM, {ase:.2f} in ASE, {alone:.2f} in the model", *errors)
    return {
        "system": name, "ranks": 1, "dtype": dtype, "atoms": len(atoms), "energy_error_eV": float(errors[0]),
        "force_error_eV_per_A": float(errors[1]), "ms_per_step": round(here, 2), "ase_ms_per_step": round(ase, 2),
        "share_not_model": round(1 - alone / here, 3),
    }  # fmt: skip


def main() -> None:
    """Compare, and write the rows."""
    torch.set_num_threads(1)
    systems = {"ethanol": molecule("CH3CH2OH"), "methane crystal": methane()}
    pairs = [(name, dtype) for name in systems for dtype in ("float32", "float64")]
    replace_rows("openmm", [compared(name, systems[name], dtype) for name, dtype in pairs])


if __name__ == "__main__":
    main()
