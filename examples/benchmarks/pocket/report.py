"""Page and picture of the benchmark of a ligand in a rigid pocket."""

import json
from pathlib import Path
from typing import Any

from ik_e3nn.pictures import picture

Row = dict[str, Any]
ERRORS = {
    "force_rmse_meV_per_A": "force (meV/A)",
    "pocket_force_rmse_meV_per_A": "of the pocket",
    "net_force_rmse_meV_per_A": "net force",
    "torque_rmse_meV": "torque (meV)",
    "interaction_rmse_meV": "interaction (meV)",
}
SPREADS = ("pocket_force_rms_meV_per_A", "net_force_rms_meV_per_A", "torque_rms_meV", "interaction_rms_meV")
LIMITS = [
    "## What such a model is not\n",
    "- It knows one ligand in one rigid pocket. Another ligand, another protein, a charge or a moved side chain needs "
    "new labels: the site has no atoms that could respond.",
    "- It knows the places where its training data had atoms. Farther away the field is not zero but unknown; `dock` "
    "marks such poses as outside, `md` does not.",
    "- The reference is GFN2-xTB without water, with neutral acids and bases and a pocket of pieces of residues: "
    "interaction energies are no affinities.",
    "- The external field is the same for all atoms of an element. What distinguishes a hydrogen at nitrogen from one "
    "at carbon is learned by the layers, whose functions of positions have low degrees.",
]
KINDS = {"dynamics": "near the crystal's pose", "random": "random poses"}


def write(content: Row, output: Path, page: Path) -> None:
    """JSON, page and picture."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n")
    plot(content, output.with_suffix(".png"))
    page.write_text("\n".join(lines(content, output)).rstrip() + "\n")


def lines(content: Row, output: Path) -> list[str]:
    """The page."""
    found = content["search"]
    rows = [
        "# A ligand in the rigid pocket of a protein\n",
        f"Made by `pocket.py`, whose first lines describe what is compared: complex {content['complex']}, a ligand of "
        f"{content['ligand_atoms']} atoms in {content['host_atoms']} atoms of the pocket, {content['labels']} labels "
        f"({content['of_first']} of frames from a stand-in, the others from a first model), {content['minutes']:g} "
        "min of one core for each training. Errors are root mean squares over test frames of the stand-in. "
        "Forces of the pocket, their sum (net force) and their torque about the center of the ligand are those without "
        "the forces of the ligand alone; energies are interaction energies.\n",
        f"![errors](results/{output.stem}.png)\n",
    ]
    for kind, title in KINDS.items():
        known = content["test"][kind]
        rows += [
            f"## {title[0].upper()}{title[1:]} ({known['frames']} frames)\n",
            f"| model | {' | '.join(ERRORS.values())} |",
            f"|---|{'---:|' * len(ERRORS)}",
            f"| (what there is) | | {' | '.join(f'{known[name]:.0f}' for name in SPREADS)} |",
        ]
        rows += [
            f"| {one['model']} | {' | '.join(f'{one[kind][name]:.0f}' for name in ERRORS)} |"
            for one in content["errors"]
        ]
        rows.append("")
    return [*rows, *search(found), *worth(content), *LIMITS]


def worth(content: Row) -> list[str]:
    """What the saved model is good for, in figures."""
    found, saved = content["search"], content["errors"][1]
    errors = {kind: saved[kind]["interaction_rmse_meV"] for kind in KINDS}
    there = {kind: content["test"][kind]["interaction_rms_meV"] for kind in KINDS}
    near = min(found["distinct_poses"], key=lambda one: one["reference_above_lowest_meV"])
    end = min(found["model"], key=lambda one: one["above_lowest_meV"])
    calls = len(found["distinct_poses"]) + sum(one["calls"] for one in found["model"])
    return [
        "## What it is good for\n",
        f"- Energies near poses in its data: interaction energies of `{saved['model']}` are off by "
        f"{errors['dynamics']:.0f} meV near the crystal's pose, of {there['dynamics']:.0f} that there are, and by "
        f"{errors['random']:.0f} of {there['random']:.0f} at random poses.",
        f"- Proposals, not ranks: the pose that it ranks first is "
        f"{found['distinct_poses'][0]['reference_above_lowest_meV']:.0f} meV above the lowest, its best one "
        f"{near['reference_above_lowest_meV']:.0f} meV, which one calculation of each distinct pose tells. Relaxed, "
        f"the lowest of the model's poses is {end['above_lowest_meV']:.0f} meV above the lowest of all and "
        f"{end['rmsd_A']:.2f} A from the crystal's; this took {calls} calculations beside the labels.\n",
    ]


def search(found: Row) -> list[str]:
    """The section on the pose search."""
    rows = [
        "## Pose search\n",
        f"{found['poses']} random poses relaxed with the model: {found['converged']} converged, {found['distinct']} "
        f"distinct, {found['outside']} where the training data were not. The distinct poses, each with one calculation "
        "by the reference (energies above the lowest of all poses below):\n",
        "| rank by the model | binding energy, model (eV) | reference (meV) | from the crystal's pose (A) |",
        "|---:|---:|---:|---:|",
        *(
            f"| {i} | {one['binding_eV']:.2f} | {one['reference_above_lowest_meV']:.0f} | "
            f"{one['rmsd_to_crystal_A']:.2f} |"
            for i, one in enumerate(found["distinct_poses"], start=1)
        ),
        "\nThe best of them by the reference, relaxed with it (the last step if it did not converge):\n",
        "| pose | above the lowest (meV) | from the crystal's pose (A) | largest force (eV/A) | reference calls |",
        "|---|---:|---:|---:|---:|",
    ]
    ends = [("crystal", found["crystal"])]
    ends += [(f"rank {one['rank']} by the model", one) for one in found["model"]]
    ends += [(f"random pose {i}, reference alone", one) for i, one in enumerate(found["reference"], start=1)]
    for name, one in ends:
        rows.append(
            f"| {name} | {one['above_lowest_meV']:.0f} | {one['rmsd_A']:.2f} | {one['fmax_eV_per_A']:.2f} | "
            f"{one['calls']} |"
        )
    return [*rows, ""]


def plot(content: Row, path: Path) -> None:
    """Errors of forces of the pocket, and of interaction energies, of every model."""
    names = [one["model"] for one in content["errors"]]
    keys = ("pocket_force_rmse_meV_per_A", "interaction_rmse_meV")
    labels = ("force of the pocket (meV/A)", "interaction energy (meV)")
    with picture(path, width=7.0, columns=2) as (figure, [axes]):
        for axis, key, label in zip(axes, keys, labels, strict=True):
            for offset, (kind, title) in enumerate(KINDS.items()):
                places = [place + 0.4 * (offset - 0.5) for place in range(len(names))]
                values = [one[kind][key] for one in content["errors"]]
                axis.barh(places, values, 0.36, color=f"C{offset}", label=title if key == keys[0] else None)
            axis.set_yticks(range(len(names)), [n.replace("_", "\n") for n in names] if axis is axes[0] else [])
            axis.set(xlabel=f"RMSE, {label}")
            axis.invert_yaxis()
        figure.legend(loc="outside upper center", ncols=2)
