"""Functions that tests run in processes of their own; imports stay light where they can."""

import os

from ik_e3nn.errors import DataError


def fail(kind):
    """Raise an expected error, or die."""
    if kind == "error":
        raise DataError("no labels at all")
    os._exit(3)


def train_unevenly(folder, processes):
    """Train on batches whose labels are shared unevenly; store gradients, weights and the rows of the log."""
    import torch
    from lightning.pytorch import Callback

    from ik_e3nn.training.config.schema import LossConfig, OptimizerConfig, RunConfig
    from ik_e3nn.training.loop.engine import run_training
    from tests.training.helpers import graphs, make_module, structures

    gradients = []

    class Gradients(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            gradients.append({name: p.grad.clone() for name, p in pl_module.model.named_parameters()})

    data = graphs(structures(11))
    data[0]["energy"][:] = torch.nan
    data[3]["forces"][:] = torch.nan
    loss = LossConfig(energy_weight=1.0, forces_weight=10.0, stress_weight=10.0)
    optimizer = OptimizerConfig(lr=0.02, warmup_steps=2, clip_grad=None, schedule="plateau", plateau_patience=1)
    module = make_module(loss=loss, optimizer=optimizer)
    config = RunConfig(batch_size=3, max_epochs=2, device="cpu", num_processes=processes, progress=False)
    folder.mkdir(exist_ok=True)
    rows, best = run_training(module, data[:8], data[8:], config=config, folder=folder, callbacks=[Gradients()])
    rank = os.environ.get("LOCAL_RANK", "0")
    torch.save([gradients, module.state_dict(), rows, best.best_epoch], folder / f"result{rank}.pt")

    still = make_module(optimizer=OptimizerConfig(lr=1e-12, warmup_steps=0, ema_decay=0.0))
    config = RunConfig(batch_size=3, max_epochs=30, patience=2, device="cpu", num_processes=processes, progress=False)
    rows, _ = run_training(still, data[:8], data[8:], config=config, folder=folder)
    torch.save(len(rows), folder / f"epochs{rank}.pt")
