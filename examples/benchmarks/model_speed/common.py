"""Sizes, model, structures and batches of all measurements, and the timer."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ik_e3nn.data import LabeledSet, StructureDataset, StructureLabels, molecule_from_smiles
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.sets.loader import BatchLoader, sizes_of
from ik_e3nn.training.sets.sampler import EpochSampler

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


@dataclass(frozen=True)
class Plan:
    """Sizes of all measurements.

    Args:
        seconds: Minimum time of a measurement.
        molecules: Molecules in a batch.
        md_repeats: Cells of copper along each axis; water has 1.2 times as many molecules along each.
        md_steps: Steps of dynamics.
        crystals: Cells of silicon along each axis, for the scaling.
        bandwidth_mib: Sizes of memory whose bandwidth is measured.
    """

    seconds: float = 2.0
    molecules: int = 16
    md_repeats: int = 6
    md_steps: int = 300
    crystals: tuple[int, ...] = (2, 3, 5, 8, 13, 23)
    bandwidth_mib: tuple[float, ...] = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)


QUICK = Plan(0.05, 2, 2, 30, (1, 2, 3), (0.5, 2, 8))


def make_model(quick: bool = False) -> InteratomicPotential:
    """The untrained potential with default settings, scaled to forces so weak that structures stay intact."""
    torch.manual_seed(0)
    species = ["H", "C", "O", "Si", "Cu"]
    model = InteratomicPotential(species, num_channels=8) if quick else InteratomicPotential(species)
    model.set_scale(1e-3)
    return model.eval()


def molecules(count: int) -> list[Atoms]:
    """Rattled copies of aspirin, 21 atoms."""
    copies = [molecule_from_smiles(ASPIRIN) for _ in range(count)]
    for seed, atoms in enumerate(copies):
        atoms.rattle(0.05, seed=seed)
    return copies


def dataset(structures: list[Atoms], model: InteratomicPotential, cache: Path | None = None) -> StructureDataset:
    """Graphs of structures with random labels."""
    rng = np.random.default_rng(0)
    labels = [StructureLabels(0.0, rng.standard_normal((len(a), 3)), np.full((3, 3), np.nan)) for a in structures]
    return StructureDataset(LabeledSet.of_labels(structures, labels), model.r_max, cache=cache)


def batch_of(structures: list[Atoms], model: InteratomicPotential) -> dict[str, Tensor]:
    """One batch of structures."""
    graphs = dataset(structures, model)
    return BatchLoader(graphs, EpochSampler(sizes_of(graphs), BatchLimits(len(graphs)))).batch(range(len(graphs)))


def in_turn(functions: dict[str, Callable[[], Any]], least: float) -> dict[str, float]:
    """Median seconds of each function, measured in turn, A B C A B C ..., so that other load affects all equally."""
    samples: list[list[float]] = []
    for function in functions.values():  # warm up
        function()
    end = time.perf_counter() + least * len(functions)
    while len(samples) < 3 or time.perf_counter() < end:
        samples.append([seconds(function) for function in functions.values()])
    return dict(zip(functions, map(statistics.median, zip(*samples, strict=True)), strict=True))


def seconds(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
