"""The ratios, the table and the picture."""

from pathlib import Path

from ik_e3nn.pictures import picture
from kernel_throughput.problem import SMALL_GROUPS

Rows = dict[str, dict[str, float]]


def ratios(rows: Rows, paper: Rows) -> dict[str, float]:
    """Our edges/s over those of the paper's code, and our memory over its memory.

    Random degrees are compared with the paper's code at equal degrees, because its time depends on the number of edges
    alone; groups are compared with its SO(2).
    """
    result = {}
    for case, suffix in (("full", ""), ("full_random_degree", "_random_degree"), ("full_compiled", "_compiled")):
        for kind in ("train", "forward") if case in rows else ():
            key = f"{kind}_edges_per_s"
            result[kind + suffix] = round(rows[case][key] / paper["O3"][key], 1)
    for group in SMALL_GROUPS:
        key = "train_edges_per_s"
        result[f"train_{group}"] = round(rows[group][key] / paper["SO2"][key], 1)
    result["memory"] = round(rows["full"]["peak_memory_MB"] / paper["O3"]["peak_memory_MB"], 3)
    return result


def table(rows: Rows, paper: Rows) -> str:
    """The main table as text."""
    lines = [f"{'':20s}{'train e/s':>12s}{'x paper':>9s}{'forward e/s':>13s}{'x paper':>9s}{'params':>9s}{'MB':>7s}"]
    for case, r in [*rows.items(), *((f"paper's code, {group}", r) for group, r in paper.items())]:
        other = paper["SO2" if case in SMALL_GROUPS or case.endswith("SO2") else "O3"]
        rates = [(r[f"{kind}_edges_per_s"], other[f"{kind}_edges_per_s"]) for kind in ("train", "forward")]
        (train, slow_train), (forward, slow_forward) = rates
        lines.append(
            f"{case:20s}{train:12,.0f}{train / slow_train:9.0f}{forward:13,.0f}{forward / slow_forward:9.0f}"
            f"{r.get('parameters', 0):9,.0f}{r['peak_memory_MB']:7,.0f}"
        )
    return "\n".join(lines)


def plot(tables: dict[str, list[dict[str, float]]], slow: float, path: Path) -> None:
    """Training edges/s against each parameter, and the rate of the paper's code."""
    titles = {"nodes": "points", "channels": "channels", "l_max": "largest degree l_max"}
    with picture(path, 1, len(tables), height=3.0, sharey=True) as (figure, [panels]):
        for axes, (parameter, rows) in zip(panels, tables.items(), strict=True):
            for case in ("full", "depthwise"):
                chosen = [r for r in rows if r["case"] == case]
                axes.loglog([r[parameter] for r in chosen], [r["train_edges_per_s"] for r in chosen], "o-", label=case)
            places = sorted({r[parameter] for r in rows})
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.set_xlabel(titles[parameter])
        panels[0].axhline(slow, ls=":", c="k", label="paper's code (24 channels)")
        panels[0].set_ylabel("training, edges/s")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
