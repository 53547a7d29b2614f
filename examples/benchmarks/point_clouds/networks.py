"""Classifiers of (nearly) the same number of parameters for every group and kernel."""

import functools

import torch
from torch.utils.flop_counter import FlopCounterMode

from ik_e3nn.basis import GaussianBasis, RadialHarmonicBasis
from ik_e3nn.graph import Pyramid
from ik_e3nn.kernels import AnalyticKernel, ImplicitKernel, Kernel, ResidualKernel
from ik_e3nn.models import PointCloudClassifier
from ik_e3nn.models.networks.point_cloud import KernelMaker
from ik_e3nn.symmetry import SymmetryGroup

GROUPS = ("SO2", "Cinfv", "SO3", "O3", "C4", "C4v", "D4", "C1")
KERNELS = ("implicit", "analytic", "positions")  # see ``network``
ACTIVATION = "sphere"  # the activation of the paper, in kernels and after convolutions
TOLERANCE = 0.1
RINGS_END = 2.5  # outermost shell, in units of the distance of the farthest neighbor
SIZES = {  # furniture: a minute on a core; modelnet: sizes of the paper, for a GPU
    "furniture": {
        "l_max": 1, "scalars": 32, "fields": 4, "parameters": 40_000,
        "pyramid": {"points": (128, 24, 16, 10, 6, 4, 3), "neighbors": 8},
    },
    "modelnet": {
        "l_max": 2, "scalars": 128, "fields": 8, "parameters": 1_000_000,
        "pyramid": {"points": (1024, 512, 256, 128, 64, 32, 16), "neighbors": 10},
    },
}  # fmt: skip


def shells(reach: float, fields: int) -> RadialHarmonicBasis:
    """Harmonics times Gaussian shells: the basis of both kernels."""
    return RadialHarmonicBasis(GaussianBasis(RINGS_END * reach, fields), l_max=2)


def implicit(group: SymmetryGroup, reach: float, *, fields: int, depth: int, attributes: str = "1o + 1o") -> Kernel:
    """Harmonics times shells, and an MLP of them and of the normals of both ends."""
    basis = shells(reach, fields)
    learned = ImplicitKernel(attributes, basis.irreps_out, group, basis=basis, depth=depth, activation=ACTIVATION)
    return ResidualKernel(learned)


def analytic(group: SymmetryGroup, reach: float, *, fields: int) -> Kernel:
    """Harmonics times shells themselves: group restriction."""
    return AnalyticKernel("", group, basis=shells(reach, fields))


def network(
    group: str, kernel: str, classes: int, total: int, *, size: str, sampling: str, depth: int = 1
) -> PointCloudClassifier:
    """A classifier with ``total`` channels, distributed over its layers as evenly as possible.

    Its kernels are "implicit", "analytic", or implicit with "positions" as their only input.
    """
    s = SIZES[size]
    layers = len(s["pyramid"]["points"]) - 1
    channels = [total // layers + (k < total % layers) for k in range(layers)]
    learned = functools.partial(implicit, fields=s["fields"], depth=depth)
    makers: dict[str, KernelMaker] = {
        "implicit": learned,
        "positions": functools.partial(learned, attributes=""),
        "analytic": functools.partial(analytic, fields=s["fields"]),
    }
    pyramid = Pyramid(**s["pyramid"], sampling=sampling)
    return PointCloudClassifier(
        classes,
        group,
        channels=channels,
        l_max=s["l_max"],
        scalars=s["scalars"],
        kernel=makers[kernel],
        activation=ACTIVATION,
        pyramid=pyramid,
    )


def parameters(model: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())


def matched(group: str, kernel: str, classes: int, *, size: str, sampling: str, depth: int = 1) -> PointCloudClassifier:
    """The classifier whose number of parameters is nearest to the given one.

    Raises:
        RuntimeError: The difference is more than a tenth.
    """
    make = functools.partial(network, group, kernel, classes, size=size, sampling=sampling, depth=depth)
    wanted, low = SIZES[size]["parameters"], len(SIZES[size]["pyramid"]["points"]) - 1
    high = 2 * low
    while parameters(make(high)) <= wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(make(middle)) <= wanted else (low, middle)
    model = min((make(total) for total in (low, high)), key=lambda m: abs(parameters(m) - wanted))
    deviation = parameters(model) / wanted - 1
    if abs(deviation) > TOLERANCE:
        raise RuntimeError(
            f"{group} {kernel}: {parameters(model):,} parameters are {deviation:+.0%} off the {wanted:,} wanted; "
            "change SIZES"
        )
    return model


def flops_per_cloud(model: PointCloudClassifier, points: int = 128) -> int:
    """Floating-point operations of matrix products in one evaluation of one cloud."""
    x = torch.randn(points, 3)
    training = model.training
    with FlopCounterMode(display=False) as counter:
        model.eval()(x, torch.nn.functional.normalize(x, dim=1))
    model.train(training)
    return counter.get_total_flops()
