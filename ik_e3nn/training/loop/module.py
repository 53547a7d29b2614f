"""The Lightning module of a training: step, validation and state."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ik_e3nn.errors import TrainingError
from ik_e3nn.models import InteratomicPotential, compile_for_training
from ik_e3nn.models.compiled.beside import missing_compiler
from ik_e3nn.models.compiled.potential import load_compiled
from ik_e3nn.targets import mechanics_of
from ik_e3nn.training.config.schema import OptimizerConfig
from ik_e3nn.training.loop.average import MovingAverage
from ik_e3nn.training.loop.clipping import GradientClipping
from ik_e3nn.training.loop.compilation import pays
from ik_e3nn.training.loop.schedule import LearningRateSchedule
from ik_e3nn.training.objective.loss import Loss, Term
from ik_e3nn.training.objective.metrics import ErrorSums
from ik_e3nn.training.run.checkpoint import random_state, set_random_state
from ik_e3nn.training.run.clock import RunClock, agree
from ik_e3nn.training.sets.loader import to_device

_log = logging.getLogger(__name__)

LOG_EVERY_STEPS = 50


class TrainingModule(LightningModule):
    """Trains a model; its moving average is validated and is the result.

    With several processes, each loss is divided by the label counts of all processes, so that the gradient equals that
    of one process with the same batch, however unevenly the labels are distributed.

    Args:
        model: A potential, a model of properties, or any module with the call signature of one.
        loss: What is minimized.
        optimizer: Settings of the optimizer.
        clock: The clock of the run, with its time limit.
        compile: Compile the training step; "auto" does so on a CPU if the run saves more time than compiling takes.
        lr_factors: Factors of the learning rate by names of the model's parameters, if they are not 1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        optimizer: OptimizerConfig,
        clock: RunClock,
        compile: bool | Literal["auto"] = False,  # noqa: A002
        lr_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.lr_factors = dict(lr_factors or {})
        self.average = MovingAverage(model, decay=optimizer.ema_decay) if optimizer.ema_decay else None
        self.loss = loss
        self.settings = optimizer
        self.clock = clock
        self.compile_step = compile
        self.schedule = LearningRateSchedule(optimizer)
        self.clipping = GradientClipping(optimizer.clip_grad)
        mechanics = mechanics_of(loss.layout.targets.values())
        self._options = {name: name in loss.weights for name in ("forces", "stress")} if mechanics else {}
        self._train_terms: dict[str, Term] = {}
        self._valid_sums = ErrorSums()
        self._valid_start, self._valid_seconds = 0.0, 0.0
        self._elapsed, self._earlier, self._progress = 0.0, 0.0, 0.0
        self._random_state: dict[str, Any] | None = None
        self._was_compiled: bool | None = None  # before a restart

    def outputs(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """The predictions of a model for a batch."""
        return model(batch, **self._options)

    def errors(self) -> ErrorSums:
        """New sums of errors, all zero."""
        return ErrorSums(device=self.device, loss=self.loss)

    @property
    def best_model(self) -> nn.Module:
        """The model to validate and to keep: the moving average if there is one."""
        return self.model if self.average is None else self.average.model

    def progress(self, batch_idx: int) -> float:
        """Fraction of the run that is done before a batch: of its epochs or of its time, whichever is larger."""
        batches = len(self.trainer.train_dataloader.sampler)  # type: ignore[union-attr]
        epochs = (self.current_epoch + batch_idx / batches) / max(self.trainer.max_epochs or 1, 1)
        time = 0.0 if self.clock.limit is None else self._elapsed / self._time_for_training
        return min(max(epochs, time), 1.0)

    @property
    def _time_for_training(self) -> float:
        """The time limit minus the time of one validation, which must still fit."""
        return max((self.clock.limit or math.inf) - self._valid_seconds, 1e-3)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; its learning rate is set before every step."""
        settings = self.settings
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self.lr_factors.get(name, 1.0), []).append(parameter)
        return torch.optim.AdamW(
            [{"params": groups[factor], "lr_factor": factor} for factor in sorted(groups, reverse=True)],
            lr=settings.rate,
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
            fused=True,  # one kernel for all parameters: on the CPU the default is a Python loop over them
        )

    def transfer_batch_to_device(self, batch: dict[str, Tensor], device: torch.device, _: int) -> dict[str, Tensor]:
        """Move a batch to the device, if it is not there already."""
        return to_device(batch, device)

    def on_train_start(self) -> None:
        """Compile, start the clock, and continue the random numbers of the run before a restart."""
        if self._compiles():
            start = time.monotonic()
            _log.info("compiling the training step; this takes a minute or two")
            compile_for_training(cast(InteratomicPotential, self.model))
            with contextlib.suppress(OSError, RuntimeError):  # no code for validation is no fault
                load_compiled(cast(InteratomicPotential, self.best_model))
            _log.info("compiled in %.0f s", time.monotonic() - start)
        self.clock.start(earlier=self._earlier)
        if self._random_state is not None:
            set_random_state(self._random_state)
            self._random_state = None

    def _compiles(self) -> bool:
        """Whether to compile the training step now; a continued run has the kind of step that it had before."""
        if self.compile_step != "auto" or not hasattr(self.model, "compiled_for_training"):
            return bool(self.compile_step) and hasattr(self.model, "compiled_for_training")
        if self._was_compiled is not None:
            return self._was_compiled
        if self.device.type != "cpu" or self.trainer.world_size > 1 or missing_compiler():
            return False
        batches = cast(Any, self.trainer.train_dataloader)
        batch = next(iter(batches))

        def step() -> None:
            self.loss(self.outputs(self.model, batch), batch).backward()
            self.zero_grad()

        steps = (cast(int, self.trainer.max_epochs) - self.current_epoch) * len(batches.sampler)
        return pays(step, steps, seconds=None if self.clock.limit is None else self.clock.limit - self._earlier)

    def on_train_epoch_start(self) -> None:
        """Reset the sums of the last epoch."""
        self._train_terms = {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the next step, and update the progress of the run."""
        if self.clock.limit is not None:
            self._elapsed = agree([self.clock.seconds])[0]
        self._progress = self.progress(batch_idx)
        lr = self.schedule.lr(step=self.global_step, progress=self._progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        outputs = self.outputs(self.model, batch)
        terms = self.loss.terms(outputs, batch)
        for label, term in terms.items():
            total, count = term.total.detach(), term.count
            old = self._train_terms.get(label)
            self._train_terms[label] = Term(total, count) if old is None else Term(old.total + total, old.count + count)
        loss = self.loss.combine(self._share(terms), progress=self._progress)
        if self.global_step % LOG_EVERY_STEPS == 0:
            self._log_step(loss.detach())
        return loss

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clip unusually large gradients; Lightning itself can only apply a fixed limit."""
        self.clipping(parameter for group in optimizer.param_groups for parameter in group["params"])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the moving average; stop when the time is over."""
        if self.average is not None:
            self.average.update(self.model, step=self.global_step)
        if self.clock.limit is not None and self._elapsed >= self._time_for_training:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """Prepare the averaged model and the sums."""
        self._valid_start = self.clock.seconds
        if self.average is not None:
            self.average.copy_buffers(self.model)
        self._valid_sums = self.errors()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Errors of the averaged model on a batch."""
        with torch.enable_grad():  # forces are gradients, and not every model enables them itself
            outputs = self.outputs(self.best_model, batch)
        self._valid_sums.add(outputs, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's training loss and validation errors."""
        train_loss, self._valid_seconds = agree([self._epoch_train_loss(), self.clock.seconds - self._valid_start])
        self._valid_sums.reduce()
        errors = self._valid_sums.compute()
        if not (math.isfinite(train_loss) and math.isfinite(errors["loss"])):
            raise TrainingError(
                f"The loss became {train_loss:g} (training) and {errors['loss']:g} (validation) in epoch "
                f"{self.current_epoch + 1}. Try a lower optimizer.lr or a longer optimizer.warmup_steps, and look for "
                "outliers with `ik-e3nn data check`."
            )
        self.schedule.observe(errors["loss"])
        metrics = {"train/loss": train_loss} | {f"valid/{name}": value for name, value in errors.items()}
        metrics["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not keep: schedule, clipping, clock and random numbers."""
        checkpoint["ik_e3nn"] = {
            "schedule": self.schedule.state_dict(),
            "clipping": self.clipping.state_dict(),
            "seconds": self.clock.seconds,
            "random": random_state(),
            "compiled": getattr(self.model, "compiled_for_training", None) is not None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what ``on_save_checkpoint`` added."""
        state = checkpoint["ik_e3nn"]
        self.schedule.load_state_dict(state["schedule"])
        if "clipping" in state:  # checkpoints of earlier versions lack it; a few steps restore it
            self.clipping.load_state_dict(state["clipping"])
        self._earlier = state["seconds"]
        self._random_state = state["random"]
        self._was_compiled = state.get("compiled")

    def _share(self, terms: dict[str, Term]) -> dict[str, Term]:
        """Counts over all processes, and sums scaled so that the mean over the processes is the loss of the whole."""
        if self.trainer.world_size == 1:
            return terms
        counts = torch.stack([term.count for term in terms.values()])
        torch.distributed.all_reduce(counts)
        scale = self.trainer.world_size
        return {
            label: Term(term.total * scale, count) for (label, term), count in zip(terms.items(), counts, strict=True)
        }

    def _epoch_train_loss(self) -> float:
        return float(self.loss.combine(self._train_terms)) if self._train_terms else math.nan

    def _log_step(self, loss: Tensor) -> None:
        if self.logger is not None:
            self.logger.log_metrics({"train/step_loss": float(loss)}, step=self.global_step)
