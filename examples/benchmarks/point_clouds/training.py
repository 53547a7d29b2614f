"""One training and its tests."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from ik_e3nn.data import turned
from ik_e3nn.memory import keep_freed_memory
from ik_e3nn.models import PointCloudClassifier
from ik_e3nn.symmetry import SymmetryGroup
from point_clouds import networks, sets

Row = dict[str, Any]
ROTATIONS = {"none": "C1", "z": "SO2", "any": "SO3"}  # and "group": elements of the model's own
WEIGHT_DECAY, WARMUP, SMOOTHING, CLIP = 0.01, 30, 0.2, 1.0


def run(group: str, kernel: str, seed: int, folder: Path, settings: Row) -> list[Row]:
    """Train on clouds rotated about z, and test on clouds rotated in several ways.

    Args:
        group: Symmetry group of the model.
        kernel: "implicit" or "analytic".
        seed: Seed of the weights, the order and the rotations.
        folder: Folder of the clouds.
        settings: size, classes, sampling, depth, epochs, minutes, batch, lr, device.
    """
    keep_freed_memory()
    start = time.perf_counter()
    torch.manual_seed(seed)
    chosen = {key: settings[key] for key in ("size", "sampling", "depth")}
    model = networks.matched(group, kernel, settings["classes"], **chosen).to(settings["device"])
    clouds = sets.load(folder / "train.safetensors")
    epochs, loss = fit(model, clouds, seed, settings, f"{group} {kernel} seed {seed}")
    seconds = time.perf_counter() - start
    test = sets.load(folder / "test.safetensors")
    upright = predictions(model, test, settings)
    rows = []
    for name, turns in (ROTATIONS | {"group": group}).items():
        found = upright if name == "none" else predictions(model, turned(test, turns, seed=7), settings)
        truth = torch.cat([cloud.y for cloud in test])
        rows.append(
            {
                "group": group,
                "kernel": kernel,
                "accuracy": float((found == truth).float().mean()),
                "test_rotation": name,
                "seed": seed,
                "parameters": networks.parameters(model),
                "channels": list(model.channels),
                "unchanged": float((found == upright).float().mean()),
                "train_loss": loss,
                "epochs": epochs,
                "train_seconds": round(seconds, 1),
                "flops_per_cloud": networks.flops_per_cloud(model.cpu()),
            }
        )
        model.to(settings["device"])
    return rows


def fit(model: PointCloudClassifier, clouds: list[Data], seed: int, settings: Row, title: str) -> tuple[float, float]:
    """Train with AdamW and a cosine schedule until all epochs or minutes are over; epochs and last loss."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=WEIGHT_DECAY)
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    steps_per_epoch = -(-len(clouds) // settings["batch"])
    total, budget = settings["epochs"] * steps_per_epoch, 60 * settings["minutes"]
    step, done, average, start = 0, 0.0, math.log(settings["classes"]), time.perf_counter()
    model.train()
    with tqdm(total=total, desc=title, unit="step", mininterval=5) as bar:
        while done < 1:
            for part in torch.randperm(len(clouds), generator=generator).split(settings["batch"]):
                done = max(step / total, (time.perf_counter() - start) / budget)
                if done >= 1:
                    break
                warm = min(1.0, (step + 1) / WARMUP)
                optimizer.param_groups[0]["lr"] = settings["lr"] * warm * (0.505 + 0.495 * math.cos(math.pi * done))
                about_z = turned([clouds[k] for k in part.tolist()], SymmetryGroup("SO2"), seed=seed * 1_000_003 + step)
                batch = Batch.from_data_list(about_z).to(settings["device"])
                loss = criterion(model(batch.pos, batch.normal, batch.batch, num_clouds=len(part)), batch.y)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                average += 0.05 * (loss.item() - average)
                step += 1
                bar.update()
                bar.set_postfix_str(f"loss {average:.3f}", refresh=False)
    return step / steps_per_epoch, average


@torch.no_grad()
def predictions(model: PointCloudClassifier, clouds: list[Data], settings: Row) -> torch.Tensor:
    """Most probable class of every cloud."""
    model.eval()
    found = []
    for first in range(0, len(clouds), settings["batch"]):
        part = clouds[first : first + settings["batch"]]
        batch = Batch.from_data_list(part).to(settings["device"])
        scores = model(batch.pos, batch.normal, batch.batch, num_clouds=len(part))
        found.append(scores.argmax(1).cpu())
    return torch.cat(found)
