"""Checkpoints of the last and of the best epoch."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ik_e3nn.atomic import written_at_once

MONITOR = "valid/loss"


class BestAndLast(Callback):
    """Writes ``last.ckpt`` after every epoch, and ``best.ckpt`` after an epoch with the lowest validation loss so far.

    It replaces Lightning's ``ModelCheckpoint``, which stores absolute paths, so that a moved run folder cannot be
    resumed, and warns about every existing folder.

    Args:
        folder: Folder for the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.best, self.last = folder / "best.ckpt", folder / "last.ckpt"
        self.best_loss, self.best_epoch = math.inf, 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files; the best one first, so that ``last.ckpt`` never refers to a missing ``best.ckpt``."""
        loss = float(trainer.callback_metrics[MONITOR])
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, trainer.current_epoch + 1
            trainer.save_checkpoint(self.best)
            if trainer.is_global_zero:
                with self.best.open("rb") as source, written_at_once(self.last) as copy:
                    shutil.copyfileobj(source, copy)
        else:
            trainer.save_checkpoint(self.last)

    def state_dict(self) -> dict[str, Any]:
        """The best loss and its epoch."""
        return {"best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        self.best_loss, self.best_epoch = state_dict["best_loss"], state_dict["best_epoch"]
