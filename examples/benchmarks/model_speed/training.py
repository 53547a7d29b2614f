"""The time of a training step, and its parts."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.blocks import derivatives
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.config.schema import LossConfig, OptimizerConfig
from ik_e3nn.training.loop.average import MovingAverage
from ik_e3nn.training.objective.loss import Loss


def training_step(model: InteratomicPotential, batch: dict[str, Tensor]) -> Callable[[], dict[str, float]]:
    """A step of the trainer on one batch, without loading the batch.

    Returns:
        A function that makes a step and returns the seconds of its parts by name. Compiled code makes energies and
        forces together.
    """
    model.train()
    loss = Loss(LossConfig())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, amsgrad=True, fused=True)
    average = MovingAverage(model, decay=OptimizerConfig().ema_decay)

    def parts() -> Iterator[str]:
        optimizer.zero_grad()
        edges = model.prepare(batch)
        yield "edges"
        if model.compiled_for_training is None:
            variables = derivatives.leaves(edges, fields.MOVING)
            energies = model.site_energies({**edges, **variables})
            yield "energies"
            gradients = derivatives.gradients(energies.sum(), variables, create_graph=True)
        else:
            energies, *gradients = model.energies_and_gradients(edges, create_graph=True)
        out = model.assembled(batch, edges, energies, gradients, forces=True, stress=False)
        yield "forces" if model.compiled_for_training is None else "energies and forces"
        loss(out, batch).backward()
        yield "loss and its gradient"
        optimizer.step()
        yield "optimizer"
        average.update(model, step=1)
        yield "moving average"

    def step() -> dict[str, float]:
        found, last = {}, time.perf_counter()
        for name in parts():
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            found[name], last = now - last, now
        return found

    return step


def step_times(models: dict[str, InteratomicPotential], batch: dict[str, Tensor], least: float) -> dict[str, Any]:
    """Median seconds of the parts of a step of each model, which are measured in turn."""
    steps = {name: training_step(model, batch) for name, model in models.items()}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for step in steps.values():  # warm up
        step()
    end = time.perf_counter() + least * len(models)
    while len(next(iter(samples.values()))) < 3 or time.perf_counter() < end:
        for name, step in steps.items():
            samples[name].append(step())
    return {
        name: {part: statistics.median(row[part] for row in rows) for part in rows[0]} for name, rows in samples.items()
    }
