"""Make the base model of properties that comes with the package: GFN2-xTB properties of molecules made from SMILES.

    python examples/10_property_base.py --work WORK [--molecules 32000] [--train-minutes 45] [--install]

1. molecules as for the base model (examples/08_base_model.py), at geometries of a force field;
2. energies of the frontier orbitals and their gap, the dipole moment and the energy of atomization, by GFN2-xTB, under
   the names of QM9's targets, so that fine-tuning to QM9 starts from these heads;
3. a training that starts from the base model's blocks;
4. errors on molecules that were held out, and the card. ``--install`` copies both into the package, where
   ``ik-e3nn finetune base-properties config.yaml`` finds them.

Every stage can be interrupted and continued with the same command.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read, write
from base_model.frames import isolated_atoms
from base_model.orbitals import single_point
from base_model.smiles import held_out, molecules
from tqdm import tqdm

from ik_e3nn.cli import main as command
from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import DataError
from ik_e3nn.models import load_model, read_model_info, save_model
from ik_e3nn.models.files.pretrained import FOLDER, PROPERTIES, PROPERTIES_CARD

METHOD = "GFN2-xTB"
SHARD = 200  # molecules
TARGETS = {"homo": "intensive eV", "lumo": "intensive eV", "gap": "intensive eV", "mu": "dipole_norm D",
           "U0_atom": "extensive eV"}  # fmt: skip
CARD = """# Base model of properties

{summary}

| property | unit | mean absolute error on {held_out:,} molecules held out | standard deviation of these values |
|---|---|---:|---:|
{rows}

**Data.** {molecules:,} neutral, closed-shell molecules of {elements} with up to {max_atoms} atoms. Their SMILES put
functional groups on scaffolds. Each molecule is at the lowest conformer of RDKit's force field (MMFF), not relaxed
further, with labels by {method}. `U0_atom` is the energy minus the energies of the atoms in their ground states,
without zero-point energy; `mu` is the length of the dipole moment. The names are those of QM9's targets, but the
values are not: orbital energies of {method} lie several eV below those of B3LYP.

**Use.** Fine-tune it: `ik-e3nn finetune base-properties config.yaml`, which first shifts the references of targets that
the model knows to the new labels. By itself it approximates {method} at such geometries. It has not learned charges,
radicals, metals or other elements, nor molecules much larger than these.

**Training.** It took {minutes:.0f} minutes of one core (`python examples/10_property_base.py`) and started from the
blocks of the base model. The model has {parameters:,} weights.
"""


def label(names: list[str], atoms_alone: dict[str, float]) -> list[Atoms]:
    """Molecules with their properties; molecules that cannot be built or labeled are left out."""
    found = []
    for name in names:
        try:
            made = molecule_from_smiles(name)
            values = single_point(made, METHOD)
        except (DataError, RuntimeError) as error:
            print(f"{name} is left out: {error}")
            continue
        values["U0_atom"] = values.pop("energy") - sum(atoms_alone[symbol] for symbol in made.get_chemical_symbols())
        found.append(Atoms(made.numbers, made.positions, info={"name": name, **values}))
    return found


def make_data(args: argparse.Namespace) -> dict[str, int]:
    """Label shard by shard, then write the files for training, validation and testing; return their sizes."""
    names = molecules(args.molecules, max_atoms=args.max_atoms)
    alone = {str(atom.symbols): atom.info["REF_energy"] for atom in isolated_atoms(METHOD.lower())}
    shards = args.work / "shards"
    shards.mkdir(exist_ok=True)
    parts: dict[str, list[Atoms]] = {"train": [], "valid": [], "test": []}
    for start in tqdm(range(0, len(names), SHARD), desc="labels", unit="shard"):
        file = shards / f"{start:06d}.xyz"
        if not file.exists():
            partial = file.with_suffix(".partial")
            write(partial, label(names[start : start + SHARD], alone), format="extxyz")
            os.replace(partial, file)
        for number, atoms in enumerate(read(file, ":")):
            test = held_out(atoms.info["name"], 0.05)
            parts["test" if test else "valid" if number % 20 == 0 else "train"].append(atoms)
    for name, frames in parts.items():
        write(args.work / f"{name}.xyz", frames, format="extxyz")
    return {name: len(frames) for name, frames in parts.items()}


def install(model: Path, card: str, facts: dict[str, object]) -> None:
    """Copy the model, without paths of the machine, and its card into the package."""
    save_model(load_model(model), FOLDER / PROPERTIES, summary=facts, overwrite=True)
    (FOLDER / PROPERTIES_CARD).write_text(card)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--molecules", type=int, default=32_000)
    parser.add_argument("--max-atoms", type=int, default=22)
    parser.add_argument("--train-minutes", type=float, default=45.0, help="minutes of processor time")
    parser.add_argument("--labels-only", action="store_true")
    parser.add_argument("--install", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    counts = make_data(args)
    if args.labels_only:
        return
    settings = {f"data.{name}": args.work / f"{name}.xyz" for name in ("train", "valid", "test")} | {
        "data.targets": json.dumps(TARGETS), "run.output": args.work / "run", "run.max_minutes": args.train_minutes,
        "run.clock": "cpu", "run.max_epochs": 100_000, "run.batch_size": 32,
    }  # fmt: skip
    if command(["finetune", "base", *(f"--{key}={value}" for key, value in settings.items()), "--resume"]):
        raise SystemExit("the training failed")
    model = args.work / "run" / "model.safetensors"
    errors = json.loads((args.work / "run" / "metrics.json").read_text())
    test = read(args.work / "test.xyz", ":")
    rows = []
    for name, kind in TARGETS.items():
        unit = kind.split()[1]
        spread = np.std([atoms.info[name] for atoms in test])
        rows.append(f"| {name} | {unit} | {errors['test'][f'{name}_mae_{unit}']:.3g} | {spread:.3g} |")
    facts = {"method": METHOD, "molecules": counts["train"] + counts["valid"], "held_out": counts["test"],
             "max_atoms": args.max_atoms, "minutes": args.train_minutes, "errors": errors["test"]}  # fmt: skip
    known = [chemical_symbols[z] for z in read_model_info(model)["config"]["species"]]
    summary = f"{METHOD} orbital energies, dipole moments and atomization energies of small organic molecules."
    text = CARD.format(**facts, summary=summary, rows="\n".join(rows), elements=", ".join(known),
                       parameters=errors["parameters"])  # fmt: skip
    (args.work / "README.md").write_text(text)
    print(text)
    if args.install:
        install(model, text, facts)


if __name__ == "__main__":
    main()
