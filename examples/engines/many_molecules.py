"""Many molecules at once with TorchSim: relax them, then run dynamics of all of them at 300 K.

    pip install "ik-e3nn[torchsim]"                       # Python 3.12
    python examples/engines/many_molecules.py [--input structures.extxyz] [--model base] [--time_ps 1]

Relaxed structures go to relaxed.extxyz, in the order of the input; trajectories, one file for each molecule, to
dynamics/.
"""

import argparse
from pathlib import Path

import torch
import torch_sim as ts
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from ik_e3nn_calculators.torchsim import IKModel

NAMES = ("CH3CH2OH", "CH3COOH", "C6H6", "CH3CONH2", "CH3CN", "trans-butane", "C4H4O", "CH3SH", "CH3NO2", "CH3Cl")
FORCE = 0.01  # eV/A, largest force of a relaxed structure
EDGES = 20_000  # in a batch on a CPU; on a GPU TorchSim finds out what the memory holds
CHARGES = {"charge": "charge", "spin": "spin"}  # TorchSim reads from atoms.info only what is named here


def relaxed(structures: list[Atoms], model: IKModel) -> ts.SimState:
    """The structures in their minima. Batches are refilled when a structure is finished."""
    on_gpu = model.device.type == "cuda"
    batcher = ts.InFlightAutoBatcher(
        model, memory_scales_with=model.memory_scales_with, max_memory_scaler=None if on_gpu else EDGES
    )
    return ts.optimize(
        ts.io.atoms_to_state(structures, model.device, model.dtype, system_extras_map=CHARGES),
        model,
        optimizer=ts.Optimizer.fire,
        convergence_fn=ts.generate_force_convergence_fn(FORCE),
        max_steps=2000,
        autobatcher=batcher,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help="a file of structures; by default ten small molecules")
    parser.add_argument("--model", default="base")
    parser.add_argument("--time_ps", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=Path("."))
    given = parser.parse_args()
    structures = read(given.input, ":") if given.input else [molecule(name) for name in NAMES]
    model = IKModel(given.model)
    (given.output / "dynamics").mkdir(parents=True, exist_ok=True)

    state = relaxed(structures, model)
    found = model(state)
    largest = [float(part.norm(dim=1).max()) for part in found["forces"].split(state.n_atoms_per_system.tolist())]
    ended = state.to_atoms(system_extras_map=CHARGES)
    for atoms, energy, force in zip(ended, found["energy"].tolist(), largest, strict=True):
        atoms.info["energy"] = energy
        print(f"{atoms.get_chemical_formula():12} {energy:14.4f} eV, largest force {force:.4f} eV/A")
    write(given.output / "relaxed.extxyz", ended)

    files = [given.output / "dynamics" / f"{number}.h5" for number in range(len(structures))]
    end = ts.integrate(
        system=state,
        model=model,
        integrator=ts.Integrator.nvt_langevin,
        n_steps=round(1000 * given.time_ps / 0.5),
        timestep=0.0005,  # ps
        temperature=300,
        trajectory_reporter={"filenames": files, "state_frequency": 20},
    )
    kinetic = ts.calc_temperature(masses=end.masses, momenta=end.momenta, system_idx=end.system_idx)
    print(f"mean temperature at the end: {float(torch.mean(kinetic)):.0f} K")


if __name__ == "__main__":
    main()
