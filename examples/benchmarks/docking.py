"""Pose search with a learned potential: does it find the global minimum of the reference, and does it save time?

    python examples/benchmarks/docking.py surface --work WORK [--model MODEL]
    python examples/benchmarks/docking.py site --work WORK --data-root DATA [--complex 6moa]

``surface``: molecules that are not in the training data, over graphite. The search with the model is compared with a
search with GFN2-xTB and Steele's wall, from the same poses. A minimum is found if the best pose of the model, relaxed
further with the reference, is at most 5 meV above the best pose of the reference. The model is trained on other
molecules unless one is given.

``site``: a ligand in the site of its crystal structure, with a substitute for a potential of proteins: van der
Waals forces of the universal force field between ligand and protein, and RDKit's MMFF94 within the ligand; no charges,
no water. The distance from the crystal pose is reported only.
"""

import argparse
import csv
import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers
from surface import run
from tqdm import tqdm

from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.data.generation.steele import UFF
from ik_e3nn_calculators.dock import DockSettings, RegionSettings, run_dock
from ik_e3nn_calculators.dock.search.energies import CalculatorEnergies
from ik_e3nn_calculators.dock.search.relax import RelaxState, relax
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import read_ligand

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS.parent / "docking.md"
TABLES = {
    "surface": {
        "molecule": "molecule over graphite",
        "found": "found",
        "above_reference_meV": "above the reference's best (meV)",
        "binding_model_eV": "binding, model (eV)",
        "binding_model_by_reference_eV": "the same pose by the reference (eV)",
        "binding_reference_eV": "best of the reference (eV)",
        "reference_calls": "reference calls",
        "reference_calls_after_model": "calls after the model",
        "seconds_reference": "reference (s)",
        "seconds_model": "model (s)",
    },
    "site": {
        "complex": "complex",
        "poses": "poses",
        "converged": "converged",
        "distinct": "distinct",
        "rmsd_of_best_A": "distance of the best pose from the crystal's (A)",
        "least_rmsd_A": "nearest of all (A)",
        "calculator": "energies",
    },
}
REFERENCE = "gfn2-xtb+steele"
TRAINED = [
    "CO", "CC=O", "CC(=O)O", "CCN", "CC#N", "c1ccccc1", "NC=O", "COC", "CC", "C=C", "CCO", "c1ccncc1", "CC(C)=O",
    "C1CC1",
]  # fmt: skip
UNSEEN = {"propane": "CCC", "furan": "c1ccoc1", "propanal": "CCC=O", "toluene": "Cc1ccccc1", "propylamine": "CCCN",
          "methyl acetate": "COC(C)=O"}  # fmt: skip
FRAMES, INTERVAL = 60, 20  # frames per training molecule, and steps between them
SAME = 0.005  # eV
FMAX = 0.005  # eV/A
Row = dict[str, Any]


def trained_model(work: Path, minutes: float) -> Path:
    """A potential for molecules over graphite, trained on other molecules than those of the search."""
    train, folder = work / "train.xyz", work / "model"
    if not train.exists():
        words = [
            "data",
            "generate",
            "--smiles",
            json.dumps(TRAINED),
            "--output",
            str(train),
            "--num_frames",
            str(FRAMES),
        ]
        words += ["--calculator", REFERENCE, "--heights", "[2.4, 9.0]", "--temperatures", "[200, 400]"]
        run([*words, "--interval", str(INTERVAL), "--num_conformers", "2", "--isolated_atoms", "true"])
    if not (folder / "model.safetensors").exists():
        config = work / "config.yaml"
        config.write_text(f"data: {{train: {train}, valid: 60}}\nrun: {{output: {folder}}}\n")
        sizes = {"num_channels": 16, "num_layers": 2, "l_max": 2, "l_features": 1, "correlation": 2}
        words = [f"--model.{name}={size}" for name, size in sizes.items()]
        words += ["--model.group=Cinfv", '--model.inputs=["surface"]', f"--run.max_minutes={minutes}"]
        run(["train", str(config), *words, "--run.max_epochs=100000", "--run.overwrite=true"])
    return folder / "model.safetensors"


def search(smiles: str, folder: Path, poses: int, **engine: str) -> Row:
    """The summary of one search, from its folder if available."""
    if not (folder / "summary.json").exists():
        start = time.perf_counter()
        settings = DockSettings(
            smiles, poses=poses, conformers=4, fmax=FMAX, steps=1000, region=RegionSettings(heights=(2.4, 5.0)),
            output=str(folder), **engine,
        )  # fmt: skip
        run_dock(settings)
        (folder / "seconds.json").write_text(json.dumps(time.perf_counter() - start))
    summary: Row = json.loads((folder / "summary.json").read_text())
    return summary | {"seconds": json.loads((folder / "seconds.json").read_text())}


def energy_by_reference(pose: Atoms, *, steps: int) -> tuple[Atoms, float, int]:
    """A pose relaxed with the reference, its energy, and the number of calculations."""
    energies = CalculatorEnergies(pose, Host(Atoms(), "surface"), calculator=make_calculator(REFERENCE))
    state = RelaxState.start(pose.positions[None])
    relax(state, energies, fmax=FMAX, steps=steps)
    relaxed = pose.copy()
    relaxed.positions = state.positions[0]
    return relaxed, float(state.energies[0]), energies.calls


def surface(args: argparse.Namespace) -> None:
    """Search for every unseen molecule with the model and with the reference."""
    model = args.model or trained_model(args.work, args.minutes)
    rows = []
    for name, smiles in tqdm(UNSEEN.items(), unit="molecule"):
        learned = search(smiles, args.work / f"{name}_model", args.poses, model=str(model))
        known = search(smiles, args.work / f"{name}_reference", args.reference_poses, calculator=REFERENCE)
        best = {kind: ase.io.read(args.work / f"{name}_{kind}" / "best.extxyz") for kind in ("model", "reference")}
        _, ours, calls = energy_by_reference(best["model"], steps=300)
        _, theirs, _ = energy_by_reference(best["reference"], steps=300)
        rows.append(
            {
                "molecule": name,
                "found": ours <= theirs + SAME,
                "above_reference_meV": 1000 * (ours - theirs),
                "binding_model_eV": learned["best_binding_eV"],
                "binding_model_by_reference_eV": known["best_binding_eV"] + ours - theirs,
                "binding_reference_eV": known["best_binding_eV"],
                "reference_calls": known["evaluations"],
                "reference_calls_after_model": calls,
                "seconds_model": learned["seconds"],
                "seconds_reference": known["seconds"],
                "poses_model": learned["poses"],
                "poses_reference": known["poses"],
            }
        )
        tqdm.write(
            f"{name}: {'found' if rows[-1]['found'] else 'missed'}, {rows[-1]['above_reference_meV']:.1f} meV above"
        )
    keep("surface", rows)


class StandIn(Calculator):
    """MMFF94 within the ligand, van der Waals forces of the universal force field between ligand and host.

    Args:
        molecule: The ligand, whose atoms come last in every structure.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    MAX_STRENGTH = 5.0  # eV of a pair; starting poses may touch

    def __init__(self, molecule: Chem.Mol) -> None:
        super().__init__()
        self.molecule = molecule
        self.field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            molecule, rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
        )

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energies and forces; see ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        unit, count = units.kcal / units.mol, self.molecule.GetNumAtoms()
        ligand, host = self.atoms.positions[-count:], self.atoms.positions[:-count]
        forces = np.zeros_like(self.atoms.positions)
        energy = self.field.CalcEnergy(ligand.ravel().tolist()) * unit
        forces[-count:] = -np.array(self.field.CalcGrad(ligand.ravel().tolist())).reshape(-1, 3) * unit
        if len(host):
            x, d = (np.array([UFF.get(s, (4.0, 0.2))[k] for s in self.atoms.symbols]) for k in (0, 1))
            minimum = np.sqrt(np.outer(x[-count:], x[:-count]))
            well = np.sqrt(np.outer(d[-count:], d[:-count])) * unit
            vectors = ligand[:, None] - host[None]
            r = np.linalg.norm(vectors, axis=2)
            s = (minimum / np.maximum(r, 0.5 * minimum)) ** 6
            energy += float((well * (s**2 - 2 * s)).sum())
            slope = np.where(r > 0.5 * minimum, well * 12 * (s - s**2) / r, 0.0)
            pull = (slope / r)[:, :, None] * vectors
            forces[-count:] -= pull.sum(1)
            forces[:-count] += pull.sum(0)
        self.results = {"energy": energy, "forces": forces}


def site(args: argparse.Namespace) -> None:
    """One complex of the protein-ligand data."""
    folder = args.data_root / "protein_ligand" / args.complex
    protein = next(iter(sorted(folder.glob("*.pdb.gz"))))
    ligand = folder / f"{args.complex}_ligand.sdf"
    host = args.work / protein.name.removesuffix(".gz")
    host.parent.mkdir(parents=True, exist_ok=True)
    host.write_bytes(gzip.decompress(protein.read_bytes()))
    molecule = read_ligand(str(ligand), 1, 0).molecule  # in the order of atoms of the search
    output = args.work / f"site_{args.complex}"
    settings = DockSettings(
        str(ligand), host=str(host), region=RegionSettings(around=str(ligand), radius=2.0), poses=args.poses,
        conformers=1, fmax=0.1, steps=200, output=str(output), overwrite=True,
    )  # fmt: skip
    summary = run_dock(settings, calculator=StandIn(molecule))
    with (output / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    row = {
        "complex": args.complex,
        "poses": summary.poses,
        "converged": summary.converged,
        "distinct": summary.distinct,
        "rmsd_of_best_A": float(rows[0]["rmsd_A"]),
        "least_rmsd_A": min(float(r["rmsd_A"]) for r in rows if r["cluster"] != "-1"),
        "calculator": "MMFF94 in the ligand, van der Waals forces with the protein (a stand-in)",
    }
    keep("site", [row])
    tqdm.write(json.dumps(row, indent=1))


def keep(what: str, rows: list[Row]) -> None:
    """Write the rows as JSON, and the page from all available rows."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"docking_{what}.json").write_text(json.dumps(rows, indent=1) + "\n")
    pages = {name: RESULTS / f"docking_{name}.json" for name in TABLES}
    lines = [
        "# Pose search\n",
        "Made by `docking.py`, whose first lines describe what is compared. The model was trained on other molecules: "
        f"{len(TRAINED)} times {FRAMES} frames, {INTERVAL} steps apart. Its data took at least "
        f"{len(TRAINED) * FRAMES * INTERVAL:,} reference calls, once.\n",
    ]
    for name, file in pages.items():
        if file.exists():
            lines += table(json.loads(file.read_text()), TABLES[name])
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


def table(rows: list[Row], columns: dict[str, str]) -> list[str]:
    """A table of some columns."""
    lines = [f"| {' | '.join(columns.values())} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        cells = [row[name] for name in columns]
        shown = [
            f"{cell:.3g}" if isinstance(cell, float) else {True: "yes", False: "no"}.get(cell, cell) for cell in cells
        ]
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return [*lines, ""]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["surface", "site"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a potential over graphite; trained here if absent")
    parser.add_argument("--minutes", type=float, default=12.0, help="training time")
    parser.add_argument("--poses", type=int, default=60)
    parser.add_argument("--reference-poses", type=int, default=60)
    parser.add_argument("--data-root", type=Path, help="folder with protein_ligand/")
    parser.add_argument("--complex", default="6moa")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.what == "site" and args.data_root is None:
        parser.error("site needs --data-root")
    surface(args) if args.what == "surface" else site(args)


if __name__ == "__main__":
    main()
