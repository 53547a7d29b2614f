"""Write the JSON file, the Markdown page and the plot of the point clouds from the rows."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ik_e3nn.pictures import picture

Row = dict[str, Any]
ROTATIONS = ("none", "z", "any", "group")

_INTRODUCTION = """# Implicit and analytic kernels on point clouds

Made by `point_clouds.py`. {data}

Training clouds are turned about z at random. The test clouds are upright ("none"), turned about z, turned in any way
("any"), and moved by random elements of the model's own group ("group"). Of these, only turns about z were seen in
training. The numbers are accuracies in percent: the mean over seeds, and half their range. *unchanged* is the part of
the answers that elements of the group do not change, compared with the upright cloud.

The activation is the paper's, an ELU on the sphere (`activation="sphere"`), in kernels and after convolutions. It is
exactly equivariant for C4, C4v, D4 and C1 only, and up to its grid for the others, which is one reason why *unchanged*
is not 100 there. `PointCloudClassifier` has gates by default, which are exact for every group.

*analytic* kernels are harmonics times Gaussian shells f, restricted to the group. *implicit* kernels are the sum of
these functions and of an MLP of the group, h = f + s MLP(f, n), with one hidden layer or more, which also sees the
normals n of both ends; only an MLP can make use of them. The factor s is learned and begins at 0.2. *positions* are the
same without normals. All networks have normals as their features. Only the number of channels differs otherwise, and
makes the parameters match to 10 %; training steps are the same where `epochs` is. The learning rate, the same for all,
the kernel, the noise and the number of clouds were chosen on clouds of another seed. An earlier kernel,
(f + MLP(f, n)) / sqrt(2), had been worse than the analytic one for O3 on the clouds shown here, which is why others
were tried.

Groups act about z as in `ik_e3nn.symmetry`. "Cinfv" is O(2), whose mirrors contain z and keep up and down apart; C4v is
its finite counterpart. D4 turns things over, so it cannot tell an arch from a cradle."""

DATA = {
    "furniture": "The data are procedural furniture of 16 classes. Five of them differ from another one only in their "
    "orientation (overturned table, cradle, bell, rack, bolster), so SO(3) and O(3) can reach 11 of 16, 69 %, at most. "
    "Every point is shifted at random, and up to half of the points are left out.",
    "modelnet": "The data are ModelNet, from disk, with the official split.",
}


def write(rows: list[Row], output: Path, page: Path, data: str) -> None:
    """Write everything; the plot goes beside the JSON file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    place = Path(*output.parts[-2:]) if page.parent == output.parents[1] else Path(output.name)
    parts = [
        _INTRODUCTION.format(data=DATA[data]),
        f"![accuracy by group and kernel]({place.with_suffix('.png').as_posix()})",
        table(rows),
        "## Difference from analytic kernels\n\n" + differences(rows),
    ]
    page.write_text("\n\n".join(parts) + "\n")
    plot(rows, output.with_suffix(".png"))


def values(rows: Iterable[Row], **wanted: str) -> list[float]:
    """Accuracies, in percent, of the rows with the given entries."""
    return [100 * row["accuracy"] for row in rows if all(row[key] == value for key, value in wanted.items())]


def half_range(numbers: list[float]) -> float:
    """Half the distance of the largest and the smallest."""
    return (max(numbers) - min(numbers)) / 2 if numbers else 0.0


def table(rows: list[Row]) -> str:
    """A table with one line for each group and kernel."""
    lines = [
        "| group | kernel | " + " | ".join(ROTATIONS) + " | unchanged | parameters | epochs | minutes |",
        "|---|---|" + "---:|" * (len(ROTATIONS) + 4),
    ]
    for group, kernel in dict.fromkeys((row["group"], row["kernel"]) for row in rows):
        cells = []
        for rotation in ROTATIONS:
            found = values(rows, group=group, kernel=kernel, test_rotation=rotation)
            cells.append(f"{np.mean(found):.1f} ± {half_range(found):.1f}" if found else "")
        own = [row for row in rows if (row["group"], row["kernel"]) == (group, kernel)]
        same = [100 * row["unchanged"] for row in own if row["test_rotation"] == "group"]
        epochs, minutes = (np.mean([row[key] for row in own]) for key in ("epochs", "train_seconds"))
        cells += [f"{np.mean(same):.1f}", f"{own[0]['parameters']:,}", f"{epochs:.1f}", f"{minutes / 60:.1f}"]
        lines.append(f"| {group} | {kernel} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(rows: list[Row]) -> str:
    """Accuracy beyond that of analytic kernels on clouds turned about z, and the loss under the model's own group."""
    others = [kernel for kernel in ("implicit", "positions") if any(row["kernel"] == kernel for row in rows)]
    heads = ["group", *(head for kernel in others for head in (f"{kernel} - analytic", "spread"))]
    heads += [f"drop, {kernel}" for kernel in (*others, "analytic")]
    lines = [
        "For clouds turned about z, in percentage points. *spread* is the larger half range of the two. *drop* is the "
        "accuracy that is lost when elements of the model's group act on the upright clouds.\n",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---:|" * (len(heads) - 1),
    ]
    for group in dict.fromkeys(row["group"] for row in rows):
        z = {k: values(rows, group=group, kernel=k, test_rotation="z") for k in (*others, "analytic")}
        cells = [group]
        for kernel in others:
            pair = [z[kernel], z["analytic"]]
            difference = f"{np.mean(pair[0]) - np.mean(pair[1]):+.1f}" if all(pair) else ""
            cells += [difference, f"{max(map(half_range, pair)):.1f}" if all(pair) else ""]
        for kernel in z:
            upright, moved = (values(rows, group=group, kernel=kernel, test_rotation=one) for one in ("none", "group"))
            cells.append(f"{np.mean(upright) - np.mean(moved):+.2f}" if upright else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Figure 3 of the paper: accuracy by group, implicit and analytic; open markers for arbitrary rotations."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    with picture(path) as (figure, [[axes]]):
        for number, kernel in enumerate(("implicit", "analytic")):
            offset, color = 0.4 * number - 0.2, f"C{number}"
            for place, group in enumerate(groups):
                found = values(rows, group=group, kernel=kernel, test_rotation="z")
                anyhow = values(rows, group=group, kernel=kernel, test_rotation="any")
                if not found:
                    continue
                label = kernel if place == 0 else None
                axes.bar(place + offset, np.mean(found), 0.38, color=color, alpha=0.8, label=label)
                axes.bar(place + offset, np.mean(anyhow), 0.38, fill=False, edgecolor="k", linestyle=":")
                axes.plot([place + offset] * len(found), found, "k.", markersize=3)
        axes.set_xticks(range(len(groups)), groups)
        axes.set(ylabel="test accuracy (%), turned about z\n(dotted: anyhow)")
        figure.legend(loc="outside upper center", ncols=2)
