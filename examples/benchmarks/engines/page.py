"""Make the page engines.md and its picture from results/engines.json and results/lammps_scaling.json.

python -m examples.benchmarks.engines.page
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from examples.benchmarks.engines.lammps_scaling import FEATURES
from examples.benchmarks.engines.lammps_scaling import TABLE as SCALING
from examples.benchmarks.engines.rows import HERE, TABLE
from ik_e3nn.pictures import picture

PAGE = HERE.parent / "engines.md"
PICTURE = TABLE.with_name("engines.png")
ENGINES = {
    "lammps": ("LAMMPS", "with_lammps.py", "pair_style ik_e3nn, unless the system names another way"),
    "openmm": ("OpenMM", "with_openmm.py", "a system made by openmmml"),
    "torchsim": ("TorchSim", "with_torchsim.py", "all structures in one batch, with ASE one after the other"),
    "ase": ("Commands md and relax", "with_many.py", "runs of many structures together; ASE: one after the other"),
    "ipi": ("i-PI", "path_integrals.py", "4 beads; ASE evaluates them one after the other"),
}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if value and abs(value) < 1e-2 else f"{value:.4g}"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one engine."""
    columns = [
        "system", "processes", "dtype", "atoms", "error, eV", "error, eV/A", "error, GPa", "ms a step", "ASE, ms",
        "not the model",
    ]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- | ---: | --- |" + " ---: |" * (len(columns) - 3)]
    for row in rows:
        errors = (_number(row[f"{name}"]) for name in ("energy_error_eV", "force_error_eV_per_A", "pressure_error_GPa"))
        times = (_number(row[name]) for name in ("ms_per_step", "ase_ms_per_step"))
        share = "" if row["share_not_model"] is None else f"{100 * row['share_not_model']:.1f} %"
        cells = [row["system"], str(row["ranks"]), row["dtype"], str(row["atoms"]), *errors, *times, share]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def scaling(found: dict[str, Any]) -> str:
    """Conservation of energy, strong scaling, the large run, and the table of communication."""
    nve, strong, large = found["nve"], found["scaling"], found["large"]
    runs = [name for name, value in nve.items() if isinstance(value, dict)]
    energies = "\n".join(
        f"| {name} | {nve[name]['drift_meV_per_atom_per_ps']:.4f} | {nve[name]['fluctuation_meV_per_atom']:.4f} |"
        for name in runs
    )
    rows = "\n".join(
        f"| {row['atoms']:,} | {row['ranks']:,} | {row['atoms_per_rank']:,.0f} | {row['ghosts_per_atom']:.2f} | "
        f"{row['ghosts_per_atom_halo']:.2f} | {row['MB_per_rank_and_step']:,.3g} | "
        f"{row['MB_per_rank_and_step_halo']:,.3g} | {row['seconds_per_step']:,.3g} | "
        f"{row['seconds_per_step_halo']:,.3g} |"
        for row in found["table"]["rows"]
    )
    one, two, speedup = (strong[name] for name in ("seconds_per_step_1", "seconds_per_step_2", "speedup"))
    ghosts = [f"{strong[f'ghosts_per_atom_{n}{of}']:.2f}" for of in ("_formula", "") for n in (1, 2)]
    memory = large["memory_of_the_larger_process_MB"]
    columns = [
        "atoms", "processes", "atoms of a process", "ghosts an atom", "with a halo", "MB a process and step",
        "with a halo", "s a step", "with a halo",
    ]  # fmt: skip
    return f"""## LAMMPS on several processes

Made by `lammps_scaling.py` on {strong["machine"]}.

**Conservation of energy.** {nve["steps"]:,} steps of 0.5 fs of a {nve["system"]}, {nve["atoms"]} atoms, {nve["dtype"]}:

| run | drift, meV/atom/ps | fluctuation, meV/atom |
| --- | ---: | ---: |
{energies}

The total energies of one and two processes differ by at most {nve["one_to_two_processes_eV"]:.1e} eV, those of LAMMPS
and ASE by {nve["LAMMPS_to_ASE_eV"]:.1e} eV.

**Strong scaling.** {strong["atoms"]:,} atoms of water, {strong["dtype"]}: {one:.2f} s a step on one process,
{two:.2f} s on two, {speedup:.2f} times faster.

**A large run.** {large["atoms"]:,} atoms of water, {large["dtype"]}, {large["steps"]} steps on {large["ranks"]}
processes: {large["seconds_per_step"]:.1f} s a step; the larger process needs {memory:,.0f} MB.

**Communication**, computed from the measured time of an atom, {1000 * found["table"]["seconds_per_atom"]:.3f} ms, at
the density of water, with a cutoff of 5 A, a skin of 1 A and two interactions. With the exchange, a process sends the
features of its atoms to the processes that have ghosts of them, and gets derivatives back: {2 * 4 * FEATURES:,} bytes a
ghost and step, besides positions and forces. With a halo it sends positions and forces only, but has ghosts within two
cutoffs, and computes the first interaction of those within one. The first interaction takes
{100 * found["table"]["first_interaction"]:.0f} % of the time of an atom. Times are without the network. The formula
gives {ghosts[0]} and {ghosts[1]} ghosts an atom for the structure of the strong scaling on one and two processes;
LAMMPS has {ghosts[2]} and {ghosts[3]}.

| {" | ".join(columns)} |
|{" ---: |" * len(columns)}
{rows}
"""


def draw(rows: list[dict[str, Any]], found: dict[str, Any], path: Path = PICTURE) -> None:
    """Time of a step against ASE, and the time of a step with exchange and halo."""
    timed = [row for row in rows if row["ms_per_step"] and row["ase_ms_per_step"]]
    with picture(path, 1, 2, height=3.4) as (_, [[left, right]]):
        for engine, (title, *_) in ENGINES.items():
            own = [row for row in timed if row["engine"] == engine]
            left.plot([row["ase_ms_per_step"] for row in own], [row["ms_per_step"] for row in own], "o", label=title)
        ends = np.array([1.0, 1000.0])
        left.plot(ends, ends, color="0.6", linewidth=0.8)
        left.set(xscale="log", yscale="log", xlabel="ASE, ms a step", ylabel="engine, ms a step")
        left.legend()
        for atoms in sorted({row["atoms"] for row in found["table"]["rows"]}):
            own = [row for row in found["table"]["rows"] if row["atoms"] == atoms]
            ranks = [row["ranks"] for row in own]
            (line,) = right.plot(ranks, [row["seconds_per_step"] for row in own], "-o", label=f"{atoms:,} atoms")
            right.plot(ranks, [row["seconds_per_step_halo"] for row in own], ":", color=line.get_color())
        right.set(xscale="log", yscale="log", xlabel="processes", ylabel="s a step (dotted: with a halo)")
        right.legend()


def main() -> None:
    """Write the page and the picture."""
    rows, found = json.loads(TABLE.read_text()), json.loads(SCALING.read_text())
    parts = []
    for engine, (title, script, what) in ENGINES.items():
        own = [row for row in rows if row["engine"] == engine]
        machines = ", ".join(sorted({f"{row['machine']}, commit {row['commit']}" for row in own}))
        parts.append(f"## {title}\n\nMade by `{script}` on {machines}: {what}.\n\n{table(own)}\n")
    text = f"""# Simulation engines against the ASE calculator

Made by `engines/page.py`. Errors are the differences to the ASE calculator on the same structure: of the energy, and
the largest of a force component and of a pressure component. Times are processor times of a step of the base model on
one core, medians of turns with ASE. "Not the model" is the share of a step that is not spent in the model.

![times](results/{PICTURE.name})

{chr(10).join(parts)}
{scaling(found)}"""
    PAGE.write_text(text)
    draw(rows, found)


if __name__ == "__main__":
    main()
