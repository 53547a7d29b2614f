"""Look at implicit kernels of three symmetry groups.

Each picture is K(r) from a scalar to a scalar (colour) and from a scalar to a vector (arrows: its two components in the
plane) of a kernel with random weights. Under O(3) the kernel can only depend on the distance and the arrows can only
point along r. SO(2) about z allows anything that looks the same after a turn about z: the upper row still shows rings,
the lower one does not. C_4v keeps only quarter turns and mirrors.

    python examples/02_look_at_kernels.py [--output kernels.png]
"""

import argparse
from pathlib import Path

import matplotlib
import torch

from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis
from ik_e3nn.conv import PointConv
from ik_e3nn.kernels import ImplicitKernel

matplotlib.use("Agg")
import matplotlib.pyplot as plt

R_MAX, POINTS = 3.0, 61


def kernel_values(group: str, positions: torch.Tensor) -> torch.Tensor:
    """K(r) from one scalar to one scalar and one vector: (points, 4)."""
    torch.manual_seed(5)
    basis = RadialHarmonicBasis(BesselBasis(R_MAX, 6), l_max=4)
    kernel = ImplicitKernel("", "16x0e + 16x1o + 16x2e + 16x3o + 16x4e", group, basis=basis, depth=2, activation="gate")
    conv = PointConv("0e", "0e + 1o", kernel)
    with torch.no_grad():
        return kernel.matrix(conv, positions).squeeze(-1)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("kernels.png"), help="picture to write")
    args = parser.parse_args()
    ticks = torch.linspace(-R_MAX, R_MAX, POINTS)
    u, v = torch.meshgrid(ticks, ticks, indexing="xy")
    height = torch.full_like(u, 0.4)
    planes = {"x": ("y", torch.stack([u, v, height], -1), (0, 1)), "x ": ("z", torch.stack([u, height, v], -1), (0, 2))}
    groups = {"O3": "O(3)", "SO2": "SO(2)", "C4v": "C$_{4v}$"}
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.2), sharex=True, sharey=True)
    for column, (name, label) in enumerate(groups.items()):
        for row, (horizontal, (vertical, points, components)) in enumerate(planes.items()):
            K = kernel_values(name, points.reshape(-1, 3)).view(POINTS, POINTS, 4)
            axis, scale = axes[row, column], float(K[..., 0].abs().max())
            axis.imshow(K[..., 0], origin="lower", extent=2 * (-R_MAX, R_MAX), cmap="RdBu", vmin=-scale, vmax=scale)
            a, b = (K[..., 1 + c][3::5, 3::5] for c in components)
            length = torch.hypot(a, b)
            shorter = (length.quantile(0.9) / length.clamp(min=1e-9)).clamp(max=1)  # a few would hide the others
            axis.quiver(ticks[3::5], ticks[3::5], a * shorter, b * shorter, width=0.006)
            axis.set(xlabel=f"{horizontal} (Å)", ylabel=f"{vertical} (Å)", title=label if row == 0 else None)
    figure.tight_layout()
    figure.savefig(args.output, dpi=110)
    print(f"wrote {args.output.resolve()}")


if __name__ == "__main__":
    main()
