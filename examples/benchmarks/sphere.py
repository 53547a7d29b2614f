"""The sphere: equivariance error of pointwise functions, speed of the transforms, digits under rotations.

    python examples/benchmarks/sphere.py [--work sphere_work] [--minutes 1.5] [--seeds 0 1]

Errors: ReLU, ELU, SiLU and tanh on Lebedev, Gauss-Legendre and equiangular grids of rising degree, for bandwidths up to
12. Speed: transforms to the grid and back, by FFT over the azimuth and by one matrix for the whole grid. Digits: runs
of ``examples/07_digits_on_the_sphere.py``, each in its own process (scikit-learn). Finished parts are stored in the
work folder. Results in results/sphere.json, .png and sphere.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ik_e3nn.basis import SphereTransform, fixed_harmonics
from ik_e3nn.nn import SphereActivation, sphere_errors
from ik_e3nn.nn.sphere.activation import default_degree
from ik_e3nn.nn.sphere.error import FUNCTIONS, GRIDS
from ik_e3nn.pictures import picture

HERE = Path(__file__).parent
OUTPUT = HERE / "results" / "sphere.json"
EXAMPLE = HERE.parent / "07_digits_on_the_sphere.py"
BANDS = (1, 2, 3, 4, 6, 8, 12)
OVERSAMPLING = (2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 5.0, 6.0)
SPEED_BANDS = (4, 8, 16, 32)
SIGNALS = 64  # transformed at once when speed is measured
NETWORKS = ("sphere", "plane", "plane-turned")
Row = dict[str, Any]


def error_rows(l_max: int, samples: int) -> list[Row]:
    """Errors of all functions on all grids, and on the activation's default grid, of one bandwidth."""
    rows = [row._asdict() | {"default": False} for row in sphere_errors(l_max, OVERSAMPLING, samples=samples)]
    for name, function in FUNCTIONS.items():
        for label, degree in (("default", default_degree(l_max)), ("2 l_max + 3", 2 * l_max + 3)):
            module = SphereActivation(1, l_max, degree=degree, function=function)
            rows.append(
                {"function": name, "grid": label, "l_max": l_max, "degree": degree, "points": len(module.analysis),
                 "error": module.equivariance_error(samples), "default": True}
            )  # fmt: skip
    return rows


def speed_row(l_max: int, rounds: int) -> Row:
    """Median milliseconds of transforms to the equiangular grid and back, float32, for SIGNALS signals."""
    transform = SphereTransform(l_max)
    points, weights = transform.rings.quadrature()
    Y = fixed_harmonics(points, l_max).float()
    back = (Y * weights[:, None]).float()
    x = torch.randn(SIGNALS, (l_max + 1) ** 2)
    forms: dict[str, Callable[[], torch.Tensor]] = {
        "fft_ms": lambda: transform.from_grid(transform.to_grid(x)),
        "matrix_ms": lambda: (x @ Y.T) @ back,
    }
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 2):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            times[name].append(1e3 * (time.perf_counter() - start))
    double = SphereTransform(l_max).double()
    y = torch.randn(4, (l_max + 1) ** 2, dtype=torch.float64)
    error = float((double.from_grid(double.to_grid(y)) - y).abs().max())
    medians = {name: round(statistics.median(values[2:]), 3) for name, values in times.items()}
    return {"l_max": l_max, "points": len(points), **medians, "round_trip_error": error}


def digit_rows(network: str, seed: int, minutes: float, file: Path) -> list[Row]:
    """Rows of one training in a separate process."""
    command = [sys.executable, str(EXAMPLE), "--only", network, "--seed", str(seed), "--minutes", str(minutes)]
    subprocess.run([*command, "--output", str(file)], check=True, stdout=subprocess.DEVNULL)
    return list(json.loads(file.read_text()))


def kept(file: Path, make: Callable[[], list[Row]]) -> list[Row]:
    """The stored result of an earlier run, or the result of ``make``, which is stored."""
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(make()))
        os.replace(partial, file)
    return list(json.loads(file.read_text()))


def plot(result: dict[str, list[Row]], path: Path) -> None:
    """Plot errors against oversampling, by function and by grid, and errors of the default against bandwidth."""
    rows = [row for row in result["errors"] if row["error"] > 0]
    swept = [row for row in rows if not row["default"]]
    with picture(path, 2, 2, height=6.0, sharey=True) as (figure, [[by_function, by_grid], [by_degree, rest]]):
        for color, name in enumerate(FUNCTIONS):
            chosen = [r for r in swept if r["function"] == name and r["grid"] == "Gauss-Legendre" and r["l_max"] >= 3]
            for l_max in dict.fromkeys(r["l_max"] for r in chosen):
                line = [(r["degree"] / l_max, r["error"]) for r in chosen if r["l_max"] == l_max]
                by_function.plot(*zip(*line, strict=True), f"C{color}.-", lw=0.8, alpha=0.7)
            by_function.plot([], [], f"C{color}.-", label=name)
        by_function.set(xlabel="degree of the grid / l_max", title="Gauss-Legendre, l_max = 3 to 12")
        for color, kind in enumerate(GRIDS):
            chosen = [r for r in swept if r["function"] == "ELU" and r["grid"] == kind and r["l_max"] >= 3]
            places = [(r["points"] / (r["l_max"] + 1) ** 2, r["error"]) for r in chosen]
            by_grid.plot(*zip(*places, strict=True), f"C{color}o", markersize=3, label=kind)
        by_grid.set(xlabel="points / coefficients", xscale="log", title="ELU, l_max = 3 to 12")
        by_grid.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        for color, name in enumerate(("ELU", "SiLU")):
            for label, style in (("default", "o-"), ("2 l_max + 3", "x:")):
                line = [(r["l_max"], r["error"]) for r in rows if r["function"] == name and r["grid"] == label]
                by_degree.plot(*zip(*line, strict=True), f"C{color + 1}{style}", label=f"{name}, {label}")
        by_degree.axhline(0.04, c="k", lw=0.5)
        by_degree.set(xlabel="l_max", title="grid of the sphere activation")
        by_degree.set_xticks(sorted({r["l_max"] for r in rows}))
        rest.set_axis_off()
        for axes in (by_function, by_grid, by_degree):
            axes.set_yscale("log")
            axes.legend()
        figure.supylabel("equivariance error")


def error_table(rows: list[Row]) -> str:
    """A table of errors of every function on the default grid, and on the grid of degree 2 l_max + 3."""
    lines = ["| l_max | grid | degree | points | " + " | ".join(FUNCTIONS) + " |", "|---:|---|" + "---:|" * 6]
    wanted = {"default", "2 l_max + 3"}
    groups = dict.fromkeys((r["l_max"], r["grid"], r["degree"], r["points"]) for r in rows if r["grid"] in wanted)
    for group in groups:
        found = {r["function"]: r["error"] for r in rows if (r["l_max"], r["grid"], r["degree"], r["points"]) == group}
        cells = " | ".join(f"{100 * found[name]:.1f} %" for name in FUNCTIONS)
        lines.append(f"| {group[0]} | {group[1]} | {group[2]} | {group[3]} | {cells} |")
    return "\n".join(lines)


def page(result: dict[str, list[Row]], stem: str) -> str:
    """The Markdown page."""
    speed = "\n".join(
        f"| {r['l_max']} | {r['points']} | {r['fft_ms']:.2f} | {r['matrix_ms']:.2f} | {r['round_trip_error']:.0e} |"
        for r in result["speed"]
    )
    digits = "\n".join(
        f"| {r['network']} | {r['trained']} | {r['seed']} | {100 * r['accuracy_upright']:.1f} % | "
        f"{100 * r['accuracy_turned']:.1f} % | {r['parameters']:,} | {r['epochs']} |"
        for r in result["digits"]
    )
    minutes = result["digits"][0]["minutes"] if result["digits"] else 0
    return f"""# The sphere

Made by `sphere.py`.

## How far pointwise functions are from equivariant

A pointwise function makes a signal of unbounded degree. On a grid that is exact up to degree d, everything beyond d -
l_max aliases onto the signal, differently for every orientation. The error is |f(D x) - D f(x)| / |f(x)|, over random
rotations D and standard normal signals x. It depends on the ratio d / l_max and on the smoothness of the function, and
hardly on the bandwidth. Grids differ in the number of points for a degree: an equiangular grid has twice as many as a
Gauss-Legendre grid, and Lebedev's grids have two thirds of those.

`activation="sphere"` in kernels and networks means these functions; the package's defaults ("gate" and "product") are
exact. Errors add up when functions are stacked in a kernel or a network.

![equivariance error](results/{stem}.png)

`SphereActivation` takes Lebedev's grid of degree 2 l_max + 3, or 3 l_max if that is larger. Its error is then below 4 %
for ELU and SiLU at every bandwidth; with 2 l_max + 3 alone it grows with the bandwidth. `sphere_degree` finds the
degree for another error, and `sphere_errors` makes tables like this one.

{error_table(result["errors"])}

## Transforms

Times in ms of values on the equiangular grid and back, for {SIGNALS} signals in float32, by FFT over the azimuth and by
one matrix for the whole grid; and the largest error of a round trip in float64.

| l_max | points | FFT | matrix | round trip |
|---:|---:|---:|---:|---:|
{speed}

## Digits under rotations

Digits of 8 x 8 pixels are put on the sphere and turned by all of SO(3). Training takes {minutes:g} minutes on 1,000 of
them (`examples/07_digits_on_the_sphere.py`). A 6 turned by half a turn is a 9. The spherical network applies an ELU
pointwise (`SphereActivation`), so its answers change a little with the orientation; everything else in it is exact.

| network | trained | seed | test upright | test turned | parameters | epochs |
|---|---|---:|---:|---:|---:|---:|
{digits}
"""


def main() -> None:
    """Run the missing parts, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("sphere_work"), help="folder for finished parts")
    parser.add_argument("--minutes", type=float, default=1.5, help="of each training on digits; 0 leaves them out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=64, help="rotations and signals an error is measured with")
    parser.add_argument("--bands", type=int, nargs="+", default=list(BANDS), help="l_max of the errors")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, list[Row]] = {"errors": [], "speed": [], "digits": []}
    for l_max in tqdm(args.bands, desc="errors", unit="l_max"):
        file = args.work / f"errors_{l_max}_{args.samples}.json"
        result["errors"] += kept(file, lambda l_max=l_max: error_rows(l_max, args.samples))
    for l_max in tqdm(SPEED_BANDS, desc="speed", unit="l_max"):
        result["speed"] += kept(args.work / f"speed_{l_max}.json", lambda l_max=l_max: [speed_row(l_max, 20)])
    jobs = [(network, seed) for seed in args.seeds for network in NETWORKS] if args.minutes > 0 else []
    for network, seed in tqdm(jobs, desc="digits", unit="training"):
        file = args.work / f"digits_{network}_{seed}_{args.minutes:g}.json"
        raw = file.with_suffix(".raw")
        result["digits"] += kept(
            file, lambda network=network, seed=seed, raw=raw: digit_rows(network, seed, args.minutes, raw)
        )
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    plot(result, args.output.with_suffix(".png"))
    place = HERE / "sphere.md" if args.output == OUTPUT else args.output.with_suffix(".md")
    place.write_text(page(result, args.output.stem))


if __name__ == "__main__":
    main()
