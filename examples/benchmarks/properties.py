"""Every property of the kit for every preset, eager and compiled, in both precisions.

    python examples/benchmarks/properties.py [--no-compile] [--output results/properties.json]

Equivariance, permutations, translations, batching, repeatability, extensivity, smoothness at the cutoff, forces and
stress by finite differences, on a molecule, a skewed crystal, a slab and a single atom, for models with random weights.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from tqdm import tqdm

from ik_e3nn.models import PRESETS, InteratomicPotential, compile_potential
from ik_e3nn.testing import check_potential

OUTPUT = Path(__file__).parent / "results" / "properties.json"
R_MAX = 4.0


def structures() -> list[Atoms]:
    """A molecule, a skewed crystal, a slab without third cell vector, and one atom."""
    methanol, crystal, slab = molecule("CH3OH"), bulk("Cu", cubic=True), fcc111("Cu", (1, 1, 2), vacuum=0.0)
    shear = np.array([[1.0, 0.06, 0.0], [0.0, 1.0, -0.04], [0.03, 0.0, 1.0]])
    crystal.set_cell(crystal.cell @ shear, scale_atoms=True)
    slab.cell[2], slab.pbc = 0, (True, True, False)
    for seed, atoms in enumerate((methanol, crystal, slab)):
        atoms.rattle(0.05, seed=seed)
    return [methanol, crystal, slab, Atoms("O")]


def main() -> None:
    """Check everything, print failures, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-compile", action="store_true", help="eager models alone")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    forms = ("eager",) if args.no_compile else ("eager", "compiled")
    rows = []
    jobs = [(preset, dtype, form) for preset in PRESETS for dtype in ("float32", "float64") for form in forms]
    for preset, dtype, form in tqdm(jobs, unit="model"):
        torch.manual_seed(0)
        model = InteratomicPotential(["H", "C", "O", "Cu"], R_MAX, preset=preset).to(getattr(torch, dtype)).eval()
        model.set_average_neighbors(12.0)
        if form == "compiled" and not compile_potential(model):
            raise SystemExit("the model could not be compiled")
        report = check_potential(model, structures())
        rows += [
            {"preset": preset, "dtype": dtype, "form": form, "property": row.name, "value": row.value,
             "tolerance": row.tolerance, "passed": row.passed}
            for row in report.rows
        ]  # fmt: skip
        verdict = "all passed" if report.passed else f"FAILED: {', '.join(row.name for row in report.failures)}"
        tqdm.write(f"{preset:8s} {dtype} {form:9s} {len(report.rows)} properties, {verdict}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(rows, indent=1) + "\n")
    if not all(row["passed"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
