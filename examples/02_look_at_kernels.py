"""Look at implicit kernels of three symmetry groups.

Each picture shows K(r), with random weights, from a scalar to a scalar (color), to a vector (arrows in the plane, color
for the component across) and to a symmetric tensor (its axes in the plane: red for stretching, blue for squeezing).
Under O(3) the scalar can only depend on the distance, and the arrows can only point along r. SO(2) about z allows
everything that rotations about z leave unchanged: the upper rows still show rings, but the last row does not. C_4v has
only quarter turns and mirrors. The command ``ik-e3nn show-kernel`` draws more, including kernels of trained models.

    python examples/02_look_at_kernels.py [--output kernels.png]
"""

import argparse
from pathlib import Path

from ik_e3nn.pictures import picture
from ik_e3nn.show import Plane, draw_block, random_kernel

GROUPS = {"O3": "O(3)", "SO2": "SO(2)", "C4v": "C$_{4v}$"}
ROWS = ((0, "xy", "scalar to scalar"), (1, "xy", "scalar to vector"), (2, "xy", "scalar to tensor"),
        (1, "xz", "scalar to vector"))  # fmt: skip


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("kernels.png"), help="picture to write")
    args = parser.parse_args()
    with picture(args.output, len(ROWS), len(GROUPS), height=9.2) as (_, axes):
        for column, (name, label) in enumerate(GROUPS.items()):
            kernel = random_kernel(name, "0e", "0e + 1o + 2e", seed=5)
            for row, (output, where, what) in enumerate(ROWS):
                plane = Plane(where, height=0.4, reach=kernel.reach)
                K = kernel.matrix(plane.positions().reshape(-1, 3), 0, None).unflatten(0, (plane.points, plane.points))
                draw_block(axes[row, column], kernel.block(K, output, 0), plane)
                axes[row, column].set_title(f"{label}: {what}")
    print(f"wrote {args.output.resolve()}")


if __name__ == "__main__":
    main()
