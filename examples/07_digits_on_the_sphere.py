"""Digits on the sphere, trained upright and tested rotated: a spherical and a planar network.

Handwritten digits (8 x 8 pixels, of scikit-learn) are projected on the northern hemisphere and rotated by elements
of SO(3). The spherical network sees harmonics up to degree 10: zonal convolutions, the activation on the sphere,
spectral pooling, and invariants at the end, so that its answer hardly depends on the rotation of the sphere. The
planar network sees the same signals as images of azimuth and polar angle (cyclic in the azimuth), with as many
parameters. Both are trained on upright digits, and the planar network also on rotated digits.

    python examples/07_digits_on_the_sphere.py [--minutes 1.5] [--seed 0] [--output digits_sphere.json]

A 6 after half a turn is a 9, so that invariance itself costs some accuracy. Needs scikit-learn:
pip install "ik-e3nn[examples]".

Cohen et al., Spherical CNNs, ICLR 2018, section 5.2, for the experiment.
"""

import argparse
import functools
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ik_e3nn.basis import SphereTransform, spherical_irreps
from ik_e3nn.conv import SphereConv
from ik_e3nn.nn import Bispectrum, EquivariantBatchNorm, SpectralPool, SphereActivation, SphereNorms
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import representation

L_MAX = 10
TRAIN, VALID = 1000, 200  # the other 597 digits are for the test
RADIUS = math.tan(math.radians(80) / 2)  # the image's edge is 80 degrees from the pole
BATCH, LEARNING_RATE, DROPOUT = 50, 3e-3, 0.3
TURNS = 8  # turned copies of every digit of the test set
Row = dict[str, Any]


def load_digits() -> tuple[Tensor, Tensor]:
    """Images (1797, 8, 8) with values of 0 to 1, and digits (1797,).

    Raises:
        SystemExit: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise SystemExit('the digits come with scikit-learn: pip install "ik-e3nn[examples]"') from None
    data = datasets.load_digits()
    return torch.from_numpy(data.images).float() / 16, torch.from_numpy(data.target).long()


def project(images: Tensor) -> Tensor:
    """Coefficients (N, (L_MAX+1)^2) of images on the sphere, by stereographic projection about the pole y."""
    transform = SphereTransform(3 * L_MAX + 1)  # 64 x 64 points
    x, y, z = transform.rings.points().float().unbind(-1)
    places = torch.stack([x, -z], -1) / (1 + y)[..., None].clamp(min=1e-3) / RADIUS
    grid = places.expand(len(images), -1, -1, -1)
    values = nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
    coefficients = transform.from_grid(values)[:, : (L_MAX + 1) ** 2]
    degrees = torch.cat([torch.full((2 * l + 1,), float(l)) for l in range(L_MAX + 1)])
    smooth = torch.exp(-0.5 * (degrees / (0.7 * L_MAX)) ** 2)  # avoids ringing at the end of the band
    return coefficients * smooth


@functools.cache
def rotations(seed: int) -> Tensor:
    """Matrices D(g) (64, (L_MAX+1)^2, (L_MAX+1)^2) of random rotations."""
    elements = SymmetryGroup("SO3").random_elements(64, torch.Generator().manual_seed(seed))
    return torch.stack([representation(spherical_irreps(L_MAX), g) for g in elements]).float()


def turn(signals: Tensor, seed: int) -> Tensor:
    """Rotate every signal by its own random rotation, exactly: coefficients are multiplied by D(g).

    All seeds of the same thousand share 16 sets of rotations.
    """
    matrices = rotations(seed - seed % 1000 + seed % 16)
    picks = torch.randint(len(matrices), (len(signals),), generator=torch.Generator().manual_seed(seed + 1))
    return torch.einsum("nij,nj->ni", matrices[picks], signals)


class SphericalNetwork(nn.Module):
    """Zonal convolutions with activations on the sphere, pooled from degree 10 to 6 to 3, and invariants."""

    def __init__(self, channels: tuple[int, int, int] = (16, 24, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        irreps, l_max = spherical_irreps(L_MAX), L_MAX
        for width, pooled in zip(channels, (6, 3, 3), strict=True):
            conv = SphereConv(irreps, width)
            layers += [conv, EquivariantBatchNorm(conv.irreps_out), SphereActivation(width, l_max)]
            layers.append(SpectralPool(conv.irreps_out, pooled))
            irreps, l_max = layers[-1].irreps_out, pooled
        self.layers = nn.Sequential(*layers)
        self.invariants = nn.ModuleList([SphereNorms(irreps), Bispectrum(irreps, "SO3")])
        count = sum(module.irreps_out.dim for module in self.invariants)
        self.head = nn.Sequential(nn.BatchNorm1d(count), nn.Dropout(DROPOUT), nn.Linear(count, 10))

    def forward(self, signals: Tensor) -> Tensor:
        """Scores (N, 10) of signals (N, (L_MAX+1)^2)."""
        features = self.layers(signals)
        return self.head(torch.cat([module(features) for module in self.invariants], 1))


class PlanarNetwork(nn.Module):
    """Plain convolutions of the equiangular image, cyclic in the azimuth."""

    def __init__(self, channels: tuple[int, int, int] = (16, 24, 29)) -> None:
        super().__init__()
        self.transform = SphereTransform(L_MAX)
        widths = (1, *channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in channels)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(channels[-1] * 4, 10))

    def forward(self, signals: Tensor) -> Tensor:
        """Scores (N, 10) of signals (N, (L_MAX+1)^2)."""
        x = self.transform.to_grid(signals)[:, None]
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = nn.functional.pad(nn.functional.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))
            x = nn.functional.elu(norm(convolution(x)))
            x = nn.functional.avg_pool2d(x, 2) if index < 2 else nn.functional.adaptive_avg_pool2d(x, 2)
        return self.head(x.flatten(1))


def accuracy(model: nn.Module, signals: Tensor, digits: Tensor) -> float:
    """Share of correct answers."""
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in signals.split(500)])
    return float((answers == digits).double().mean())


def train(model: nn.Module, signals: Callable[[int], Tensor], digits: Tensor, minutes: float, name: str) -> int:
    """Train by AdamW with a learning rate that falls to zero over the given time; return the number of epochs."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    epoch, start, done = 0, time.perf_counter(), 0.0
    with tqdm(total=round(60 * minutes), unit="s", desc=name) as bar:
        while done < 1:
            model.train()
            inputs = signals(epoch)
            for batch in torch.randperm(len(digits)).split(BATCH):
                done = min((time.perf_counter() - start) / (60 * minutes), 1.0)
                optimizer.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
                loss = nn.functional.cross_entropy(model(inputs[batch]), digits[batch], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            epoch += 1
            bar.n = round(60 * minutes * done)
            bar.set_postfix_str(f"epoch {epoch}, loss {loss.item():.3f}")
    return epoch


def run(kind: str, turned: bool, seed: int, minutes: float) -> Row:
    """Train one network and test it upright and turned."""
    images, digits = load_digits()
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
    signals, digits = project(images)[order], digits[order]
    scale = signals[:TRAIN].std()
    signals = signals / scale
    torch.manual_seed(seed)
    model: nn.Module = SphericalNetwork() if kind == "sphere" else PlanarNetwork()
    inputs, test = signals[:TRAIN], slice(TRAIN + VALID, None)
    name = f"{kind}, trained {'turned' if turned else 'upright'}, seed {seed}"
    epochs = train(model, lambda e: turn(inputs, 1000 + e) if turned else inputs, digits[:TRAIN], minutes, name)
    moved = torch.cat([turn(signals[test], 10 * k) for k in range(TURNS)])
    return {
        "network": kind,
        "trained": "turned" if turned else "upright",
        "seed": seed,
        "accuracy_upright": accuracy(model, signals[test], digits[test]),
        "accuracy_turned": accuracy(model, moved, digits[test].repeat(TURNS)),
        "valid_accuracy": accuracy(model, signals[TRAIN : TRAIN + VALID], digits[TRAIN : TRAIN + VALID]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": epochs,
        "minutes": minutes,
    }


def main() -> None:
    """Train the three networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.5, help="minutes of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["sphere", "plane", "plane-turned"], help="train only one of the three")
    parser.add_argument("--output", type=Path, default=Path("digits_sphere.json"))
    args = parser.parse_args()
    jobs = {"sphere": ("sphere", False), "plane": ("plane", False), "plane-turned": ("plane", True)}
    rows = [run(*job, args.seed, args.minutes) for name, job in jobs.items() if args.only in (None, name)]
    args.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{'network':10s}{'trained':>10s}{'test upright':>14s}{'test turned':>13s}{'parameters':>12s}{'epochs':>8s}")
    for row in rows:
        print(
            f"{row['network']:10s}{row['trained']:>10s}{row['accuracy_upright']:14.3f}{row['accuracy_turned']:13.3f}"
            f"{row['parameters']:12,}{row['epochs']:8d}"
        )


if __name__ == "__main__":
    main()
