"""JSON, page and plots of the benchmark of grids."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grids.angles import SIGMAS, SIZES, WIDTHS
from grids.digits import LR, MODELS
from ik_e3nn.pictures import picture

Row = dict[str, Any]
TESTS = ("upright", "quarter_turns", "any_angle", "mirrored")
NAMES = {
    "plain": "plain CNN",
    "C1": "C_1 (steerable layers, no symmetry)",
    "C4": "C_4",
    "C4v": "D_4 (C_4v)",
    "SO2": "SO(2)",
    "Cinfv": "O(2) (C_inf,v)",
}

_HEAD = """# Steerable convolutions on grids

Made by `grids.py`; the numbers are in `results/grids.json`.
"""

_SECTIONS = {
    "digits": """
## Digits, trained upright

The data are the 8 x 8 digits of scikit-learn on {points} x {points} pixels, 1,200 to train on, upright, and 597 to
test. All networks have three convolutions of 5 x 5 and about the same number of parameters. The steerable ones differ
in the group, and in the numbers of channels and filter fields that make the parameters match. The learning rate starts
at {lr[plain]:g} for the plain network and at {lr[steerable]:g} for the steerable ones, whose weights start as standard
normal numbers. Kernels and layers have gates, which commute with every group.

The table shows the accuracy in percent: the mean over seeds, and half of the difference between largest and smallest. A
network that does not change when the image turns cannot tell a 6 from a turned 9. One that does not change under mirror
images confuses more such pairs.

{table}

![accuracy](results/{stem}_digits.png)
""",
    "angles": """
## Other angles

The grid's own symmetries are exact, to rounding, for every kernel, as the tests show. At other angles the error depends
on how finely a kernel of SO(2) is sampled, that is on the width of its Gaussian shell in pixels, and on where the
stencil cuts it off. Errors are root mean squares of the violation, relative to the result, for random angles, random
kernels up to l = 2, and fields (scalars and vectors) that are sums of Gaussians of a given width in pixels.

![error against shell width](results/{stem}_angles.png)

{table}

The error falls with the width of the shell until the stencil cuts the shell off. For n x n points the best width is
about n / 7 pixels. For wider shells it matters how round the stencil's set of pixels is: 5 x 5 beats 7 x 7. Smooth
fields help if the kernel is coarse.
""",
    "speed": """
## Speed

Times are in ms, for inference, measured in turn with torch's own convolution of the same dense shape. The kernel is
folded once and kept. A layer is convolution, norm and gate, compared with convolution, batch norm and ReLU. A training
pays for folding at every step, in addition to the convolution.

{table}
""",
}


def write(rows: dict[str, list[Row]], output: Path, page: Path, *, points: int) -> None:
    """Write everything.

    Args:
        rows: Rows by part: angles, digits, speed.
        output: The JSON file; the plots go beside it.
        page: The Markdown file.
        points: Pixels along an image.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    tables = {"digits": _digits_table, "angles": _angles_table, "speed": _speed_table}
    plots = {"digits": _plot_digits, "angles": _plot_angles}
    parts = [name for name in _SECTIONS if rows[name]]
    sections = [
        _SECTIONS[name].format(points=points, lr=LR, stem=output.stem, table=tables[name](rows[name])) for name in parts
    ]
    page.write_text("".join([_HEAD, *sections]))
    for name in parts:
        if name in plots:
            plots[name](rows[name], output.with_name(f"{output.stem}_{name}.png"))


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join([f"| {' | '.join(header)} |", rule, *[f"| {' | '.join(line)} |" for line in lines]])


def _digits_table(rows: list[Row]) -> str:
    lines = []
    for model in MODELS:
        own = [row for row in rows if row["model"] == model]
        if own:
            cells = []
            for test in TESTS:
                values = 100 * np.array([row[test] for row in own])
                spread = f" ± {np.ptp(values) / 2:.1f}" if len(own) > 1 else ""
                cells.append(f"{values.mean():.1f}{spread}")
            seconds = np.mean([row["train_seconds"] for row in own])
            lines.append([NAMES[model], f"{own[0]['parameters']:,}", *cells, f"{seconds:.0f}"])
    header = ["network", "parameters", "upright", "quarter turns", "any angle", "mirrored", "seconds of training"]
    return _table(header, lines)


def _angles_table(rows: list[Row]) -> str:
    width = WIDTHS[-1]
    found = {(row["size"], row["sigma"]): row["error"] for row in rows if row["field_width"] == width}
    lines = [
        [f"{size} x {size}", *[f"{found[size, s]:.1e}" if (size, s) in found else "" for s in SIGMAS]] for size in SIZES
    ]
    return _table([f"fields of width {width:g}; shell", *[f"{s:g}" for s in SIGMAS]], lines)


def _speed_table(rows: list[Row]) -> str:
    keys = ("steerable_ms", "plain_ms", "ratio", "steerable_layer_ms", "plain_layer_ms", "layer_ratio", "folding_ms")
    header = ["", "steerable", "plain", "ratio", "steerable layer", "plain layer", "ratio", "folding"]
    lines = [[f"{row['case']}, {row['device']}", *[f"{row[key]:.2f}" for key in keys]] for row in rows]
    return _table(header, lines)


def _plot_digits(rows: list[Row], path: Path) -> None:
    models = [model for model in MODELS if any(row["model"] == model for row in rows)]
    with picture(path) as (figure, [[axes]]):
        for k, test in enumerate(TESTS):
            heights = [100 * np.mean([row[test] for row in rows if row["model"] == model]) for model in models]
            axes.bar(np.arange(len(models)) + 0.2 * (k - 1.5), heights, 0.2, label=test.replace("_", " "))
        axes.set_xticks(np.arange(len(models)), [NAMES[model].split(" (")[0] for model in models])
        axes.set(ylabel="test accuracy (%)", ylim=(0, 100))
        figure.legend(loc="outside upper center", ncols=4)


def _plot_angles(rows: list[Row], path: Path) -> None:
    with picture(path, 1, len(WIDTHS), sharey=True) as (_, [panels]):
        for axes, width in zip(panels, WIDTHS, strict=True):
            for size in SIZES:
                own = [row for row in rows if (row["size"], row["field_width"]) == (size, width)]
                places = [row["sigma"] for row in own]
                axes.semilogy(places, [row["error"] for row in own], "o-", label=f"{size} x {size}")
            axes.set(xlabel="width of the Gaussian shell (pixels)", title=f"fields of width {width:g} pixels")
        panels[0].set_ylabel("relative error of equivariance")
        panels[0].legend(title="stencil")
