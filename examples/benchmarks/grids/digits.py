"""Digits of scikit-learn: trained upright, tested upright, rotated and mirrored."""

import math
import time
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch import Tensor, nn
from tqdm import tqdm

from grids.network import count, make_network

MODELS = ("plain", "C1", "C4", "C4v", "SO2", "Cinfv")
BUDGET = 50_000  # parameters
POINTS, SCALE = 16, 1.6  # pixels of an image, and of one original pixel
TRAIN = 1200
BATCH = 32
LR = {"plain": 3e-3, "steerable": 1e-2}  # weights of steerable layers start as standard normal numbers
MAX_EPOCHS = 60
Row = dict[str, Any]


def turned(images: NDArray[np.float64], angles: NDArray[np.float64], *, mirror: bool = False) -> Tensor:
    """Images (n, 8, 8) rotated by angles (radian) and interpolated once to the finer grid, (n, 1, POINTS, POINTS)."""
    result = np.zeros((len(images), POINTS, POINTS))
    for k, (image, angle) in enumerate(zip(images, angles, strict=True)):
        c, s = math.cos(angle), math.sin(angle)
        back = np.array([[c, s], [-s, c]]) / SCALE  # from the point in the result to the point in the original
        if mirror:
            back = np.diag([1.0, -1.0]) @ back
        offset = 3.5 - back @ np.full(2, (POINTS - 1) / 2)
        result[k] = affine_transform(image, back, offset, output_shape=(POINTS, POINTS), order=3)
    return torch.tensor(result, dtype=torch.float32)[:, None]


@cache
def data_sets() -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels: upright for training; for tests upright, with quarter turns, at any angle, and mirrored."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("the digits are those of scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images, labels = digits.images[order] / 16, torch.tensor(digits.target[order])
    rng = np.random.default_rng(1)
    test, zero = images[TRAIN:], np.zeros(len(images) - TRAIN)
    quarters = rng.integers(1, 4, len(test)) * math.pi / 2
    angles = rng.uniform(0, 2 * math.pi, len(test))
    return {
        "train": (turned(images[:TRAIN], np.zeros(TRAIN)), labels[:TRAIN]),
        "upright": (turned(test, zero), labels[TRAIN:]),
        "quarter_turns": (turned(test, quarters), labels[TRAIN:]),
        "any_angle": (turned(test, angles), labels[TRAIN:]),
        "mirrored": (turned(test, zero, mirror=True), labels[TRAIN:]),
    }


def train_row(model: str, seed: int, minutes: float) -> Row:
    """Train one network and test it."""
    sets = data_sets()
    images, labels = sets["train"]
    network = make_network(model, BUDGET, seed)
    lr = LR["plain" if model == "plain" else "steerable"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    start, epoch, done = time.perf_counter(), 0, 0.0
    with tqdm(total=100, unit="%", desc=f"{model} seed {seed}") as bar:
        while done < 1:
            for batch in torch.randperm(TRAIN).split(BATCH):
                passed = (time.perf_counter() - start) / (60 * minutes)
                done = min(max(passed, epoch / MAX_EPOCHS), 1.0)
                optimizer.param_groups[0]["lr"] = lr * (0.505 + 0.495 * math.cos(math.pi * done))
                loss = nn.functional.cross_entropy(network(images[batch]), labels[batch], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if passed >= 1:
                    break
            epoch += 1
            done = max(done, epoch / MAX_EPOCHS)
            bar.n = round(100 * done)
            bar.set_postfix_str(f"epoch {epoch}, loss {float(loss):.3f}")
    network.eval()
    row: Row = {"model": model, "seed": seed, "parameters": count(network), "epochs": epoch}
    row["train_seconds"] = round(time.perf_counter() - start, 1)
    with torch.no_grad():
        for name, (test, wanted) in sets.items():
            if name != "train":
                found = torch.cat([network(part).argmax(1) for part in test.split(100)])
                row[name] = round(float((found == wanted).double().mean()), 4)
    return row
