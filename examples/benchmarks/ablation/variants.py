"""The variants: the default model and training with one change."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.basis import BesselBasis, GaussianBasis, RadialHarmonicBasis, spherical_irreps
from ik_e3nn.blocks import interaction
from ik_e3nn.conv import ReceiverBlocks
from ik_e3nn.conv.full import FullMixing
from ik_e3nn.kernels import ImplicitKernel, RadialKernel, SeparableFilter, radial
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.nn import TensorPowers
from ik_e3nn.nn.layout import from_components, to_components
from ik_e3nn.symmetry import SymmetryGroup


@dataclass(frozen=True)
class Variant:
    """One row.

    Args:
        what: The change, for the table.
        settings: Settings of ``ik-e3nn train`` that differ.
        patch: Changes the library's code before the model is made, for changes without a setting.
        after: Changes a new model.
    """

    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    patch: Callable[[], None] | None = None
    after: Callable[[InteratomicPotential], None] | None = None

    @property
    def costs_the_same(self) -> bool:
        """Whether a step costs as much as for the default, because only the loss or the optimizer differs."""
        free = all(name.startswith(("loss.", "optimizer.")) for name in self.settings)
        return free and self.patch is None and self.after is None

    def apply(self) -> None:
        """Change the library in this process."""
        if self.patch is not None:
            self.patch()
        if self.after is not None:
            _after_init(self.after)


def _after_init(after: Callable[[InteratomicPotential], None]) -> None:
    """Change every new model; a model from a file gets its weights afterwards."""
    original = InteratomicPotential.__init__

    @functools.wraps(original)  # the command reads its settings from the signature
    def init(self: InteratomicPotential, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        after(self)

    InteratomicPotential.__init__ = init  # type: ignore[method-assign]


def freeze_at_zero(model: InteratomicPotential, *names: str) -> None:
    """Switch off linear maps that end in one of the names."""
    for name, parameter in model.named_parameters():
        if any(part in name.split(".") for part in names):
            parameter.data.zero_()
            parameter.requires_grad_(False)


def gaussian_radial() -> None:
    """Gaussians instead of Bessel functions."""
    interaction.BesselBasis = GaussianBasis  # type: ignore[misc,assignment]


def envelope_of_degree_5() -> None:
    """The same kind of window with p = 3 instead of 6: flat at the cutoff, but not at the center."""

    def window(x: Tensor) -> Tensor:
        inside = x < 1
        x = torch.where(inside, x, 0.0)
        return torch.where(inside, 1 + x**3 * (-10 + x * (15 - 6 * x)), 0.0)

    radial.smooth_envelope = window  # type: ignore[attr-defined]


def couplings() -> None:
    """All bilinear maps, with separate weights for each path, instead of products on the sphere."""

    def make(a: o3.Irreps, b: o3.Irreps, group: SymmetryGroup, correlation: int) -> TensorPowers:
        return TensorPowers(a, b, group, correlation=correlation)

    interaction.make_product = make  # type: ignore[assignment]


class WholeFilter(ImplicitKernel):
    """An implicit kernel that computes the fields of all edges at once, as interactions need them."""

    def from_geometry(  # type: ignore[override]
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """See the base class."""
        return super().from_geometry(geometry, attributes, hidden).fields()


def steerable_kernel() -> None:
    """The kernel also depends on steerable features of both atoms: filters are no longer radial times harmonics."""

    def make(channels: int, c: interaction.Conditioning) -> WholeFilter:
        basis = RadialHarmonicBasis(BesselBasis(c.r_max, interaction.NUM_RADIAL), c.l_max)
        return WholeFilter("", spherical_irreps(c.l_max, channels), c.group, basis=basis, depth=1, activation="gate")

    interaction.make_kernel = make


def kernel_width(width: int) -> Callable[[], None]:
    """Another width of the kernel's hidden layer."""

    def patch() -> None:
        interaction.KERNEL_WIDTH = width

    return patch


def deep_kernel() -> None:
    """A second hidden layer in the kernel."""

    def make(channels: int, c: interaction.Conditioning) -> RadialKernel:
        basis = BesselBasis(c.r_max, interaction.NUM_RADIAL)
        return RadialKernel("", channels, radial=basis, l_max=c.l_max, hidden=(64, 64), group=c.group)

    interaction.make_kernel = make  # type: ignore[assignment]


class LowRankMixing(FullMixing):
    """Products of every channel with every filter field, for features with components first."""

    def on_components(
        self, x: Tensor, senders: Tensor, filter_fields: SeparableFilter, owners: Tensor, num_nodes: int
    ) -> list[Tensor]:
        """See ``DepthwiseMixing.on_components``."""
        blocks = ReceiverBlocks(torch.arange(senders.numel()).view(senders.shape), owners)
        y = self(from_components(x, self.blocks_in), senders.flatten(), filter_fields, blocks, num_nodes)
        return list(to_components(y, self.blocks_out).split([b.dim for b in self.blocks_out]))


def low_rank() -> None:
    """Full mixing of all channels with eight filter fields of each degree."""

    def make(_: int, c: interaction.Conditioning) -> RadialKernel:
        basis = BesselBasis(c.r_max, interaction.NUM_RADIAL)
        return RadialKernel("", 8, radial=basis, l_max=c.l_max, hidden=(interaction.KERNEL_WIDTH,), group=c.group)

    interaction.make_kernel = make  # type: ignore[assignment]
    interaction.DepthwiseMixing = LowRankMixing  # type: ignore[misc,assignment]


def root_of_neighbors() -> None:
    """Divide sums by the root of the number of neighbors."""
    original = InteratomicPotential.set_average_neighbors
    InteratomicPotential.set_average_neighbors = lambda self, n: original(self, n**0.5)  # type: ignore[method-assign]


def last_readout(model: InteratomicPotential) -> None:
    """Predict the energy from the last layer only."""
    for readout in list(model.readouts)[:-1]:
        for parameter in readout.parameters():
            parameter.data.zero_()
            parameter.requires_grad_(False)


def zero_readouts(model: InteratomicPotential) -> None:
    """Start from zero interaction energy."""
    for name, parameter in model.named_parameters():
        if name.startswith("readouts") and "mlp" in name:
            parameter.data.zero_()


VARIANTS = {
    "default": Variant("(default)"),
    "l_features 2": Variant("node features to l = 2", {"model.l_features": 2}),
    "l_max 2": Variant("filters to l = 2", {"model.l_max": 2}),
    "64 channels": Variant("64 channels", {"model.num_channels": 64}),
    "16 channels": Variant("16 channels", {"model.num_channels": 16}),
    "couplings": Variant("all couplings, a weight a path, instead of products on the sphere", patch=couplings),
    "current features": Variant("kernel sees features of the neighbors too", {"model.kernel_features": "current"}),
    "correlation 2": Variant("2 factors", {"model.correlation": 2}),
    "correlation 4": Variant("4 factors", {"model.correlation": 4}),
    "l_features 0": Variant("scalar node features", {"model.l_features": 0}),
    "3 layers": Variant("3 layers", {"model.num_layers": 3}),
    "squares": Variant("mean squared error instead of Huber's loss (0.01)", {"loss.kind": "mse"}),
    "plateau": Variant("learning rate halved at plateaus", {"optimizer.schedule": "plateau"}),
    "constant lr": Variant("constant learning rate", {"optimizer.schedule": "constant"}),
    "lr 0.02": Variant("learning rate 0.02", {"optimizer.lr": 0.02}),
    "root of neighbors": Variant("sums over the root of the neighbors", patch=root_of_neighbors),
    "gaussian": Variant("Gaussian radial basis", patch=gaussian_radial),
    "kernel width 32": Variant("kernel with 32 hidden units", patch=kernel_width(32)),
    "last readout": Variant("readout after the last layer alone", after=last_readout),
    "longer average": Variant("moving average over 1,000 steps instead of 100", {"optimizer.ema_decay": 0.999}),
    "weight decay": Variant("decoupled weight decay of 0.001", {"optimizer.weight_decay": 0.001}),
    "no average": Variant("no moving average", {"optimizer.ema_decay": 0.0}),
    "zero start": Variant("readouts start at zero", after=zero_readouts),
    "steerable kernel": Variant("kernel also sees steerable features (no longer separable)", patch=steerable_kernel),
    "1 layer": Variant("1 layer", {"model.num_layers": 1}),
    "correlation 1": Variant("1 factor", {"model.correlation": 1}),
    "batch 2": Variant("2 structures a step", {"run.batch_size": 2}),
    "deep kernel": Variant("kernel with 2 hidden layers", patch=deep_kernel),
    "distance only": Variant(
        "kernel sees the distance alone",
        after=lambda m: freeze_at_zero(m, "sender", "receiver", "sender_species", "receiver_species"),
    ),
    "energy weight 1": Variant("constant energy weight of 1", {"loss.energy_growth": 1.0}),
    "energy weight 10": Variant("constant weight of 10", {"loss.energy_weight": 10.0, "loss.energy_growth": 1.0}),
    "energy weight to 1000": Variant("energy weight from 1 to 1,000", {"loss.energy_growth": 1000.0}),
    "low rank": Variant("full mixing of channels with 8 filter fields (low rank), not depthwise", patch=low_rank),
    "lr 0.1": Variant("learning rate 0.1", {"optimizer.lr": 0.1}),
    "envelope": Variant("polynomial window with p = 3 instead of 6", patch=envelope_of_degree_5),
    "float64": Variant("double precision (by default site energies alone)", {"run.dtype": "float64"}),
    "no amsgrad": Variant("Adam without AMSGrad", {"optimizer.amsgrad": False}),
}
