"""Two networks for small images: steerable under a group, and plain."""

from itertools import pairwise

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import PolynomialBasis, spherical_irreps
from ik_e3nn.conv import GridConv, GridPool, Stencil
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.nn import EquivariantBatchNorm, Gate, OnGrid

L_MAX = 2
READ = 64  # scalars for the readout
SIGMA = 1.2  # pixels


def layer(
    irreps_in: o3.Irreps | str, irreps_out: o3.Irreps, group: str, *, stencil: Stencil, fields: int = 4
) -> nn.Sequential:
    """A convolution with an implicit kernel, a norm and a gate."""
    gate = Gate(irreps_out)
    basis = PolynomialBasis(L_MAX, sigma=SIGMA)
    kernel = ImplicitKernel(
        "", spherical_irreps(L_MAX, fields), group, basis=basis, depth=1, activation="gate", batch_norm=True
    )
    conv = GridConv(irreps_in, gate.irreps_in, kernel, stencil=stencil)
    return nn.Sequential(conv, OnGrid(EquivariantBatchNorm(gate.irreps_in)), OnGrid(gate))


class SteerableNetwork(nn.Module):
    """Three layers with pooling between them, the last one to scalars, which are averaged over the image."""

    def __init__(self, group: str, channels: int, fields: int, *, classes: int = 10) -> None:
        super().__init__()
        hidden = spherical_irreps(L_MAX, channels)
        layers: list[nn.Module] = []
        for a, b in pairwise([o3.Irreps("0e"), hidden, hidden, o3.Irreps([(READ, "0e")])]):
            layers += [GridPool(a)] * (a == hidden) + [layer(a, b, group, stencil=Stencil(5), fields=fields)]
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Linear(READ, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 1, N, N)."""
        features = self.layers(images.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        return self.classes(features)


class PlainNetwork(nn.Module):
    """The same network with ordinary convolutions, batch norm and ReLU."""

    def __init__(self, channels: int, *, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([1, channels, channels, READ]):
            layers += [nn.AvgPool2d(2)] * (a == channels)
            layers += [nn.Conv2d(a, b, 5, padding=2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Linear(READ, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 1, N, N)."""
        return self.classes(self.layers(images.contiguous(memory_format=torch.channels_last)).mean((2, 3)))


def make_network(name: str, budget: int, seed: int) -> nn.Module:
    """The network, plain or steerable, whose number of parameters is nearest to a budget."""
    sizes = [(c, 0) for c in range(8, 80)] if name == "plain" else [(c, f) for c in range(2, 13) for f in (3, 4, 5, 6)]
    channels, fields = min(sizes, key=lambda size: abs(_estimate(name, *size) - budget))
    torch.manual_seed(seed)
    return PlainNetwork(channels) if name == "plain" else SteerableNetwork(name, channels, fields)


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


def _estimate(name: str, channels: int, fields: int) -> float:
    """Exact number of parameters: a polynomial of degree two in the number of channels."""
    key = name, fields
    if key not in _FITS:
        networks = [(c, PlainNetwork(c) if name == "plain" else SteerableNetwork(name, c, fields)) for c in (1, 2, 3)]
        rows = [(c, count(network)) for c, network in networks]
        matrix = torch.tensor([[1.0, c, c * c] for c, _ in rows], dtype=torch.float64)
        _FITS[key] = torch.linalg.solve(matrix, torch.tensor([float(n) for _, n in rows], dtype=torch.float64))
    a, b, c = _FITS[key].tolist()
    return a + b * channels + c * channels**2


_FITS: dict[tuple[str, int], Tensor] = {}
