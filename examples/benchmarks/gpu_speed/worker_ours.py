"""Time this library's potential, untrained, on a GPU or a CPU."""

from collections.abc import Callable
from typing import Any

from ase import Atoms
from model_speed.common import batch_of
from model_speed.training import step_times

from gpu_speed.worker import Job, main, measure, silicon
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, compile_for_training
from ik_e3nn_calculators import IKCalculator

CELLS_IN_TRAINING, STRUCTURES = 2, 8  # 64 atoms each


def run(job: Job) -> dict[str, Any]:
    """The result of a job: dynamics, or training steps."""
    model = InteratomicPotential(["Si"], preset=job["model"])
    model.set_scale(1e-3)  # forces so weak that the crystal stays intact
    model = model.to(job["device"])
    if job["task"] == "train":
        return train(model, job)
    calculator = IKCalculator(model.eval().requires_grad_(False), device=job["device"], compile=job["compile"])

    def call(atoms: Atoms) -> Callable[[], Any]:
        graph = {name: tensor.to(job["device"]) for name, tensor in build_graph(atoms, model.r_max).items()}
        return lambda: calculator.evaluator.model(graph)

    found = measure(job, calculator, call)
    return found | {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def train(model: InteratomicPotential, job: Job) -> dict[str, Any]:
    """Edges per second of training steps."""
    structures = [silicon(CELLS_IN_TRAINING) for _ in range(STRUCTURES)]
    batch = {name: tensor.to(job["device"]) for name, tensor in batch_of(structures, model).items()}
    if job["compile"] and not compile_for_training(model):
        return {"error": "the training step could not be compiled; see the warning"}
    seconds = sum(step_times({"step": model}, batch, job["seconds"])["step"].values())
    return {"train_edges_per_s": batch["edge_index"].shape[1] / seconds}


if __name__ == "__main__":
    main(run)
