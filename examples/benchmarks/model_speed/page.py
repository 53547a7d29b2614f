"""Write the page and the plots from the results."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ik_e3nn.pictures import picture

Results = dict[str, Any]


def write(results: Results, stem: Path, path: Path) -> None:
    """Write the page, and the plots beside the results.

    Args:
        results: Contents of the JSON file.
        stem: The JSON file without its ending.
        path: The page.
    """
    machine = results["machine"]
    lines = [
        "# Speed of the interatomic potential",
        "",
        "Made by `potential_speed.py`. All structures are generated, and the model has its defaults in float32. "
        f"CPU ({machine['processor']}, {machine['instructions']}), {machine['threads']} thread(s), torch "
        f"{machine['torch']}." + " **A quick trial with a small model: not to be quoted.**" * machine["quick"],
    ]
    plots = {"floor": plot_floor, "md": plot_md, "scaling": plot_scaling}
    for part, section in SECTIONS.items():
        if part in results:
            lines += ["", *section(results[part])]
            if part in plots:
                image = stem.with_name(f"{stem.name}_{part}.png")
                plots[part](results[part], image)
                lines += ["", f"![{part}]({os.path.relpath(image.resolve(), path.resolve().parent)})"]
    path.write_text("\n".join(lines) + "\n")


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """A Markdown table; all columns but the first are numbers."""
    names = list(header)
    align = ["---"] + ["---:"] * (len(names) - 1)
    cells = [[_text(cell) for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (names, align, *cells)]


def _text(cell: Any) -> str:
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def floor(part: Results) -> list[str]:
    """Section with the times of the blocks and their minimum."""
    peaks, sizes = part["peaks"], list(part["peaks"]["bytes_per_s"])
    edges, nodes = part["edges"], part["atoms"]
    rows = [
        [
            f"{row['layer']} {row['block']}", *(float(row[k][0]) for k in ("edge", "node")),
            *(4.0 * (row[k][1] + row[k][2]) for k in ("edge", "node")),
            *(1e3 * row[kind][f"{what}_s"] for kind in ("forward", "gradient") for what in ("ideal", "measured")),
            row["gradient"]["measured_s"] / row["gradient"]["ideal_s"],
        ]
        for row in part["blocks"]
    ]  # fmt: skip
    sums = [sum(row[column] for row in rows) for column in range(5, 9)]
    rows.append(["sum", "", "", "", "", *sums, sums[3] / sums[2]])
    whole = (["whole model, " + form, "", "", "", "", "", "", 1e3 * part["ideal_s"], 1e3 * s, part["ratio"][form]]
             for form, s in part["measured_s"].items())  # fmt: skip
    names = ("block", "FLOPs/edge", "FLOPs/node", "bytes/edge", "bytes/node")
    times = ("ideal forward, ms", "measured", "ideal with gradient, ms", "measured", "measured/ideal")
    return [
        "## Floor",
        "",
        f"The batch of molecules has {nodes:,} atoms and {edges:,} edges in {part['places']:,} places of the blocks of "
        f"edges. Peaks measured on this machine: {peaks['flops_per_s'] / 1e9:.0f} GFLOP/s (GEMM), "
        + ", ".join(f"{peaks['bytes_per_s'][size] / 1e9:.0f} GB/s ({size} MiB)" for size in (sizes[0], sizes[-1]))
        + ". Our aim for the whole model is a ratio of 3.",
        "",
        "The ideal time is the time of the FLOPs at the GEMM's speed or of the bytes at the bandwidth of that much "
        "memory, whichever is longer. Ideally a block reads its inputs and writes its outputs once, a place without an "
        "edge costs nothing, and a sine or an exponential is ten FLOPs. FLOPs and bytes are those of a forward pass. "
        "The gradient by positions doubles the FLOPs (triples those of the outer sums), reads the inputs again and the "
        "gradient of the outputs, and writes that of the inputs. The geometry is computed once for all layers.",
        "",
        *table((*names, *times), [*rows, *whole]),
    ]


def compiling(part: Results) -> list[str]:
    """Section that compares the eager and the compiled model."""
    atoms = part["atoms"]
    rows = []
    for name, title in (
        ("latency_s", f"latency: energy and forces of one molecule of {atoms['one']} atoms"),
        ("batch_s", f"throughput: a batch of {atoms['batch']:,} atoms"),
    ):
        eager, compiled = part[name]["eager"], part[name].get("compiled")
        fast = ["not measured", ""] if compiled is None else [1e3 * compiled, eager / compiled]
        rows.append([title, 1e3 * eager, *fast])
        if name == "batch_s":
            speeds = [atoms["batch"] / t for t in (eager, compiled) if t is not None]
            rows.append(["throughput, atoms/s", *speeds, *[""] * (3 - len(speeds))])
    return [
        "## Compiling",
        "",
        *table(("", "eager, ms", "compiled, ms", "gain"), rows),
        *_compilation(part["compiling_s"], "inference"),
    ]


def md(part: list[Results]) -> list[str]:
    """Section on dynamics."""
    names = list(part[0]["seconds_per_step"])
    rows = [
        [f"{run['system']}, {run['form']}", run["atoms"], run["edges"],
         *(1e3 * run["seconds_per_step"][name] for name in names),
         f"{100 * run['not_model']:.1f} %", f"{run['rebuilds']} in {run['steps']}",
         *(" to ".join(f"{n:,.0f}" for n in run[what]) for what in ("half_mib", "objects"))]
        for run in part
    ]  # fmt: skip
    return [
        "## Dynamics",
        "",
        "Times in ms of one step of ASE's VelocityVerlet with an IKCalculator at 300 K. Our aim is that everything but "
        "the model takes less than 10 %; grouping edges into blocks of one receiver does not count as the model here. "
        "Memory is the mean resident memory of the first and second half of the steps, in MiB. Objects are Python "
        "objects before and after.",
        "",
        *table(("system", "atoms", "edges", *names, "not the model", "list rebuilt", "memory", "objects"), rows),
    ]


def auto(part: Results) -> list[str]:
    """Section on a small molecule that is compiled beside its run."""
    switch = (
        "The run was too short to be compiled."
        if part["switch_step"] is None
        else f"Compiled code took over at step {part['switch_step']:,}, after {part['switch_s']:.0f} s."
    )
    return [
        "## A small molecule, compiled beside its run",
        "",
        f"`ik-e3nn md CCO --steps {part['steps']}` with an empty cache: median processor time of a step of "
        f"{part['atoms']} atoms on one thread, all checks and files included, without that of the compiler. {switch}",
        "",
        *table(("phase", "ms of a step"), part["cpu_ms"].items()),
    ]


def scaling(part: Results) -> list[str]:
    """Section on time and memory per atom."""
    rows = [
        [f"{row['atoms']:,}", row["edges"], row["form"], 1e6 * row["seconds"] / row["atoms"],
         row["peak_mib"], 1024 * (row["peak_mib"] - row["before_mib"]) / row["atoms"]]
        for row in part["rows"]
    ]  # fmt: skip
    sizes = [f"{n:,.0f} atoms per GiB, {form}" for form, n in part["atoms_per_gib"].items() if n]
    return [
        "## Scaling",
        "",
        "Energy, forces and stress of a rattled crystal of silicon, neighbor list included, each in its own process. "
        "Structures of more than 32,768 edges for each thread are evaluated in tiles of at most 8,192 edges for each "
        "thread, one interaction at a time, so that the data of a tile stay in the cache; all interactions but the "
        f"last are computed twice. From the growth of the peak between the two largest systems: {'; '.join(sizes)}.",
        "",
        *table(("atoms", "edges", "form", "us/atom", "peak, MiB", "KiB/atom above an idle process"), rows),
    ]


def training(part: Results) -> list[str]:
    """Section on the parts of a training step."""
    forms, loading, edges = list(part["parts_s"]), part["loader_s"], part["edges"]
    names = list(dict.fromkeys(name for form in part["parts_s"].values() for name in form))
    rows = [[name, *(1e3 * part["parts_s"][form][name] if name in part["parts_s"][form] else "" for form in forms)]
            for name in names]  # fmt: skip
    whole = {form: sum(seconds.values()) for form, seconds in part["parts_s"].items()}
    rows.append(["whole step", *(1e3 * whole[form] for form in forms)])
    rows.append(["edges/s", *(edges / whole[form] for form in forms)])
    share = loading["memory"] / min(whole.values())
    return [
        "## A training step",
        "",
        f"Time in ms of the parts of a step with {part['batch']} molecules, which have {part['atoms']} atoms and "
        f"{edges:,} edges together. Compiled code makes energies and forces together.",
        "",
        *table(("part", *forms), rows),
        "",
        f"The loader takes {1e6 * loading['memory']:.0f} us for such a batch with all data in memory, and "
        f"{1e6 * loading['disk']:.0f} us with neighbor lists in a memory-mapped file: {100 * share:.1f} % of the "
        "fastest step; our aim is less than 5 %. Validation of as many molecules, which is not compiled, takes "
        f"{1e3 * part['validation_s']:.1f} ms.",
        *_compilation(part["compiling_s"], "training"),
    ]


def _compilation(seconds: Results | None, purpose: str) -> list[str]:
    """A sentence on the time for compiling, if it was measured."""
    if seconds is None:
        return []
    note = "" if seconds["done"] else " (it failed: the model ran eagerly)"
    return ["", f"Compiling for {purpose} takes {seconds['first']:.0f} s the first time, {seconds['again']:.1f} s in a "
                f"later process{note}."]  # fmt: skip


SECTIONS = {"floor": floor, "compile": compiling, "md": md, "auto": auto, "scaling": scaling, "training": training}


def plot_floor(part: Results, path: Path) -> None:
    """Ideal and measured time of every block."""
    names = [f"{row['layer']} {row['block']}" for row in part["blocks"]][::-1]
    with picture(path, height=0.22 * len(names) + 0.8) as (_, [[axes]]):
        for what in ("measured", "ideal"):
            axes.barh(names, [1e3 * row["gradient"][f"{what}_s"] for row in part["blocks"]][::-1], label=what)
        axes.set_xlabel("forward and gradient, ms")
        axes.legend()


def plot_md(part: list[Results], path: Path) -> None:
    """Shares of a step, and memory over the steps."""
    labels, left = [f"{run['system']}, {run['form']}" for run in part], [0.0] * len(part)
    with picture(path, 2, 1, height=5.6) as (_, [[shares], [memory]]):
        for name in part[0]["seconds_per_step"]:
            values = [100 * run["seconds_per_step"][name] / sum(run["seconds_per_step"].values()) for run in part]
            shares.barh(labels, values, left=left, label=name)
            left = [a + b for a, b in zip(left, values, strict=True)]
        shares.set(xlabel="share of a step, %", xlim=(0, 100))
        shares.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))
        for label, run in zip(labels, part, strict=True):
            memory.plot(*zip(*run["memory_mib"], strict=True), label=label)
        highest = max(mib for run in part for _, mib in run["memory_mib"])
        memory.set(xlabel="step", ylabel="resident memory, MiB", ylim=(0, 1.1 * highest))
        memory.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot_scaling(part: Results, path: Path) -> None:
    """Time and memory per atom against the number of atoms."""
    with picture(path, 1, 2, height=2.8) as (_, [[time, memory]]):
        for form in dict.fromkeys(row["form"] for row in part["rows"]):
            rows = [row for row in part["rows"] if row["form"] == form]
            atoms = [row["atoms"] for row in rows]
            time.loglog(atoms, [1e6 * row["seconds"] / row["atoms"] for row in rows], "o-", label=form)
            above = [max(1024 * (row["peak_mib"] - row["before_mib"]), 1.0) / row["atoms"] for row in rows]
            memory.loglog(atoms, above, "o-", label=form)
        time.set(xlabel="atoms", ylabel="time per atom, us")
        memory.set(xlabel="atoms", ylabel="peak memory per atom, KiB")
        time.legend()
