"""The model card: data, errors on molecules that the model was not trained on, and limits."""

import json
from pathlib import Path
from typing import Any


def write_card(facts: dict[str, Any], folder: Path) -> None:
    """Write ``card.json`` and ``README.md``."""
    (folder / "card.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / "README.md").write_text(page(facts))


def page(facts: dict[str, Any]) -> str:
    """The card as Markdown."""
    data, md, relax = facts["data"], facts["dynamics"], facts["relaxations"]
    atoms = ", ".join(f"{error:+.2f} ({symbol})" for symbol, error in facts["single_atoms_eV"].items())
    lines = [
        "# Base model of ik_e3nn",
        "The model predicts GFN2-xTB energies and forces of neutral, closed-shell molecules of "
        f"{', '.join(facts['elements'])} with up to {data['max_atoms']} atoms. It has {facts['parameters']:,} "
        f"parameters and a cutoff of {facts['r_max']:g} A, and the file has {facts['file_kB']:,} kB. It is made by "
        "`examples/08_base_model.py` with `examples/configs/base_model.yaml`.",
        "## Data",
        f"There are {data['molecules']:,} molecules, enumerated from scaffolds and functional groups (no data set was "
        f"used); {data['held_out']:,} of them were held out. The {data['train_frames']:,} training frames are",
        "\n".join(
            [
                "- Langevin dynamics at 300 to 1000 K on a force field,",
                "- minima of the force field, and relaxations from there with GFN2-xTB,",
                "- structures that are rattled, strained, or have one bond stretched or broken,",
                "- pairs of atoms far apart.",
            ]
        ),
        f"Molecules of at most {data['small']} atoms are used {data['times']} times in each epoch. Labels "
        f"took {data['core_hours']:.1f} hours of one core, training {facts['train_hours']:.1f}.",
        "## Errors on molecules that were held out",
        "Dynamics and minima of these molecules were computed with GFN2-xTB.",
        "\n".join(
            [
                "| frames | number | force MAE (meV/A) | energy MAE (meV/atom) |",
                "|---|---:|---:|---:|",
                *(
                    f"| {kind} | {row['frames']} | {row['force_mae_meV_per_A']:.1f} | "
                    f"{row['energy_mae_meV_per_atom']:.2f} |"
                    for kind, row in facts["errors"].items()
                ),
            ]
        ),
        f"Dynamics: {md['survived']} of {md['molecules']} held-out molecules kept all bonds for {md['time_ps']:g} "
        f"ps at {md['temperature_K']:g} K. Relaxations: {relax['within_0.1_A']} of {relax['molecules']} ended within "
        f"0.1 A (RMSD of all atoms) of the minimum of GFN2-xTB from the same start; median {relax['median_A']:.3f} A.",
        "## Limits",
        "The model approximates GFN2-xTB, with the errors of that method and its own. It has not learned charges, "
        "spins, other elements, metals, solids or liquids: no structure in the data has molecules in contact. "
        "Reactions and dissociation are covered only by stretched bonds. Energies of single atoms are off by "
        f"{atoms} eV. For work that matters, "
        "fine-tune it on your own labels (`ik-e3nn finetune base config.yaml`) and check its uncertainty.",
    ]
    return "\n\n".join(lines) + "\n"
