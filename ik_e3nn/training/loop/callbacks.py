"""Callbacks of the training loop: metrics files and progress bar."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from ik_e3nn.atomic import naming

_log = logging.getLogger(__name__)


class MetricsLog(Callback):
    """Appends one row per epoch to ``metrics.csv`` and ``metrics.jsonl``, and one line to the log.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._csv, self._json = folder / "metrics.csv", folder / "metrics.jsonl"
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of the epochs before a restart, and no others."""
        self.read(trainer.current_epoch)
        if trainer.is_global_zero:
            with naming(self._json):
                self._json.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            self._csv.unlink(missing_ok=True)
            for row in self.rows:
                self._append_csv(row)

    def read(self, epochs: int) -> None:
        """Read the rows of the first ``epochs`` epochs from the file."""
        if epochs and self._json.exists():
            rows = map(self._row, self._json.read_bytes().splitlines(keepends=True))
            self.rows = [row for row in rows if row and row["epoch"] <= epochs]

    def _row(self, line: bytes) -> dict[str, float]:
        """A row of the file; empty if the line was cut off when a run was killed."""
        if not line.endswith(b"\n"):
            return {}
        try:
            row: dict[str, float] = json.loads(line)
            if isinstance(row, dict) and {"epoch", "step", "seconds"} <= row.keys():
                return row
        except ValueError:
            pass
        _log.warning("%s has a damaged line, which is left out: %r", self._json, line[:60])
        return {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's row."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = round(float(pl_module.clock.seconds), 3)  # type: ignore[union-attr, arg-type]
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "seconds": seconds} | metrics
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        with naming(self._json), self._json.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._append_csv(row)
        _log.info("%s", _sentence(row))

    def _append_csv(self, row: dict[str, float]) -> None:
        new = not self._csv.exists()
        with naming(self._csv), self._csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


class ProgressBar(Callback):
    """One bar for the whole run, in epochs, with the latest errors beside it.

    Args:
        every: Optimizer steps between two updates.
    """

    def __init__(self, every: int = 10) -> None:
        self._every = every
        self._bar: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the current epoch."""
        if trainer.is_global_zero:
            form = "{desc} {percentage:3.0f}%|{bar}| epoch {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(
                total=trainer.max_epochs, initial=trainer.current_epoch, desc="train", bar_format=form, miniters=0
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None and batch_idx % self._every == 0:
            done = trainer.current_epoch + (batch_idx + 1) / len(trainer.train_dataloader.sampler)  # type: ignore[union-attr]
            self._bar.update(min(done, self._bar.total) - self._bar.n)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the new errors."""
        if self._bar is not None:
            self._bar.update(trainer.current_epoch + 1 - self._bar.n)
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self._bar.set_postfix_str(_errors(metrics), refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is shown."""
        self.on_train_end(trainer, pl_module)


_SHORT = {
    "valid/energy_mae_meV_per_atom": "E {:.2f} meV/atom",
    "valid/force_mae_meV_per_A": "F {:.1f} meV/A",
    "valid/stress_mae_meV_per_A3": "S {:.2f} meV/A^3",
    "valid/mean_mae_over_spread": "{:.4f} of the spread",
}


def _errors(metrics: dict[str, float]) -> str:
    return ", ".join(text.format(metrics[name]) for name, text in _SHORT.items() if name in metrics)


def _sentence(row: dict[str, float]) -> str:
    return (
        f"epoch {row['epoch']:g}  {row['seconds']:.0f} s  lr {row['lr']:.2e}  loss {row['train/loss']:.4g}  "
        f"valid {row['valid/loss']:.4g}  MAE {_errors(row)}"
    )
