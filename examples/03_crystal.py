"""A crystal with stress: train on EMT copper, then compare equation of state and elastic constants with EMT.

    python examples/03_crystal.py [--output crystal]

Reference: ASE's EMT (Jacobsen, Stoltze and Norskov, Surf. Sci. 366, 394, 1996). Takes about three minutes on two cores.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.io import write
from ase.units import GPa

from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.pictures import picture
from ik_e3nn.training import DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig, train
from ik_e3nn_calculators import IKCalculator


def train_model(folder: Path) -> Path:
    """Train a potential on rattled and strained cells of 32 atoms, labeled by EMT, and return the model file."""
    model = folder / "training" / "model.safetensors"
    if model.exists():
        return model
    start, data = folder / "cu.xyz", folder / "frames.xyz"
    if not data.exists():
        write(start, bulk("Cu", cubic=True) * (2, 2, 2))
        generate(
            GenerateSettings(
                str(data),
                structures=[str(start)],
                calculator="emt",
                method="rattle",
                num_frames=160,
                displacement=0.08,
                strain=0.05,
            )
        )
    config = TrainConfig(
        data=DataConfig(train=str(data), valid=20),
        model={"r_max": 4.5, "num_channels": 16},
        loss=LossConfig(forces_weight=10.0, stress_weight=1000.0),
        optimizer=OptimizerConfig(lr=0.05),
        run=RunConfig(output=str(folder / "training"), max_epochs=200, max_minutes=2.0, batch_size=4),
    )
    return train(config, resume=model.parent.exists()).model


def equation_of_state(calculator: Calculator) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Volumes and energies per atom, lattice constant (A) and bulk modulus (GPa) of fcc copper."""
    volumes, energies = [], []
    for a in np.linspace(3.42, 3.78, 13):
        atoms = bulk("Cu", a=a, cubic=True)
        atoms.calc = calculator
        volumes.append(atoms.get_volume() / 4)
        energies.append(atoms.get_potential_energy() / 4)
    v0, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    return np.array(volumes), np.array(energies), float((4 * v0) ** (1 / 3)), float(modulus / GPa)


def elastic_constants(calculator: Calculator, lattice_constant: float, strain: float = 1e-3) -> dict[str, float]:
    """C11, C12 and C44 in GPa, from central differences of the stress."""

    def stress(component: tuple[int, int], amount: float) -> np.ndarray:
        atoms: Atoms = bulk("Cu", a=lattice_constant, cubic=True)
        deformation = np.eye(3)
        deformation[component] += amount / (1 if component[0] == component[1] else 2)
        if component[0] != component[1]:
            deformation[component[::-1]] += amount / 2
        atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        atoms.calc = calculator
        return atoms.get_stress() / GPa

    normal = (stress((0, 0), strain) - stress((0, 0), -strain)) / (2 * strain)
    shear = (stress((1, 2), strain) - stress((1, 2), -strain)) / (2 * strain)
    return {"C11": float(normal[0]), "C12": float(normal[1]), "C44": float(shear[3])}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("crystal"), help="folder for everything")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args.output.mkdir(parents=True, exist_ok=True)
    calculators = {"EMT": EMT(), "ik_e3nn": IKCalculator(train_model(args.output), dtype="float64")}
    table: dict[str, dict[str, float]] = {}
    with picture(args.output / "equation_of_state.png", width=5.0) as (_, [[axes]]):
        for (name, calculator), style in zip(calculators.items(), ("ko", "C1-"), strict=True):
            volumes, energies, a, modulus = equation_of_state(calculator)
            axes.plot(volumes, energies - energies.min(), style, label=name)
            table[name] = {"lattice constant (A)": a, "bulk modulus (GPa)": modulus, **elastic_constants(calculator, a)}
        axes.set(xlabel="volume (A$^3$/atom)", ylabel="energy (eV/atom)", title="fcc copper")
        axes.legend()
    (args.output / "summary.json").write_text(json.dumps(table, indent=1) + "\n")
    print(f"{'':24s}" + "".join(f"{name:>10s}" for name in table))
    for quantity in table["EMT"]:
        print(f"{quantity:24s}" + "".join(f"{row[quantity]:10.3f}" for row in table.values()))
    print(f"model, data, plot and summary.json: {args.output.resolve()}")


if __name__ == "__main__":
    main()
