"""Training and test clouds, made or read once and stored in the work folder."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch_geometric.data import Data

from ik_e3nn.data import FURNITURE, furniture_clouds, read_modelnet

__all__ = ["FURNITURE", "load", "prepare", "save"]
SEEDS = {"train": 0, "test": 1}


def prepare(folder: Path, sizes: dict[str, int], points: int, modelnet: Path | None, classes: int) -> None:
    """Make the files of both parts unless they exist; furniture if no folder of ModelNet is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, seed in SEEDS.items():
        file = folder / f"{part}.safetensors"
        if file.exists():
            continue
        if modelnet is None:
            clouds = furniture_clouds(sizes[part], seed=seed, points=points, noise=0.05, dropout=0.5, progress=True)
        else:
            split = "train" if part == "train" else "test"
            clouds = read_modelnet(modelnet, split, classes=classes, points=points, seed=seed, progress=True)
        save(clouds, file)


def save(clouds: list[Data], file: Path) -> None:
    """Write one file, completely or not at all."""
    partial = file.with_suffix(".partial")
    tensors = {key: torch.cat([cloud[key] for cloud in clouds]) for key in ("pos", "normal", "y")}
    save_file(tensors | {"sizes": torch.tensor([len(cloud.pos) for cloud in clouds])}, partial)
    partial.replace(file)


def load(file: Path) -> list[Data]:
    """The clouds of a file."""
    tensors = load_file(file)
    sizes = tensors["sizes"].tolist()
    parts = zip(tensors["pos"].split(sizes), tensors["normal"].split(sizes), tensors["y"].split(1), strict=True)
    return [Data(pos=pos, normal=normal, y=y) for pos, normal, y in parts]
