"""The Lightning trainer with its callbacks."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from ik_e3nn.errors import TrainingError
from ik_e3nn.memory import is_out_of_memory, keep_freed_memory
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.training.config.schema import RunConfig
from ik_e3nn.training.loop.bestlast import MONITOR, BestAndLast
from ik_e3nn.training.loop.callbacks import MetricsLog, ProgressBar
from ik_e3nn.training.loop.checkpoint_io import AtomicCheckpointIO
from ik_e3nn.training.loop.module import TrainingModule
from ik_e3nn.training.run.checkpoint import check_checkpoint, load_checkpoint
from ik_e3nn.training.run.run_folder import CHECKPOINTS
from ik_e3nn.training.sets.loader import BatchLoader, Graphs, sizes_of
from ik_e3nn.training.sets.sampler import EpochSampler

_log = logging.getLogger(__name__)

# Measured on two cores: a second thread gains a tenth (eager) to a quarter (compiled) at 900 edges, a third at 3,200.
EDGES_PER_THREAD = 500

# buffers are constants, so that synchronizing them would only cost time (torch 2.13 renamed the option)
_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_DDP_OPTIONS: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


def run_training(
    module: TrainingModule,
    train: Graphs,
    valid: Graphs,
    *,
    config: RunConfig,
    folder: Path,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> tuple[list[dict[str, float]], BestAndLast]:
    """Train a module until a limit of epochs, time or patience, and load the weights of its best epoch into it.

    Args:
        module: What to train.
        train: Labeled graphs for training.
        valid: Labeled graphs for validation after every epoch.
        config: Limits, batches, device and processes.
        folder: Folder for checkpoints and logs.
        resume: Continue from the last checkpoint in ``folder``.
        callbacks: More Lightning callbacks.

    Returns:
        The rows of the metrics log, and the best epoch.

    Raises:
        TrainingError: The loss is no longer finite, the memory does not suffice for a step, or a checkpoint is broken.
        KeyboardInterrupt: The user stopped the run; it can be resumed.
    """
    keep_freed_memory()
    checkpoints = BestAndLast(folder / CHECKPOINTS)
    log = MetricsLog(folder)
    watch, threads = _Interruptions(), _Threads()
    stop = [EarlyStopping(MONITOR, patience=config.patience, check_on_train_epoch_end=False)] if config.patience else []
    bar = [ProgressBar()] if config.progress else []
    with _quiet():
        everything = [threads, *stop, log, *bar, *callbacks, checkpoints, watch]
        trainer = make_trainer(config, folder, everything)
    share = {"rank": trainer.global_rank, "processes": trainer.world_size}
    sampler = EpochSampler(sizes_of(train), config.limits, **share, seed=config.seed)
    warm, steps = module.settings.warmup_steps, config.max_epochs * len(sampler)
    if warm >= steps and trainer.is_global_zero:
        _log.warning(
            "optimizer.warmup_steps is %d, but the whole run has at most %d steps (%d epochs of %d): the learning rate "
            "never reaches optimizer.lr; use a shorter warm-up or more epochs",
            warm, steps, config.max_epochs, len(sampler),
        )  # fmt: skip
    edges = sum(size.edges for size in sampler.sizes) / len(sampler) / trainer.world_size
    threads.count = config.num_threads or useful_threads(edges, processes=config.num_processes)
    if resume:  # Lightning fetches the first batch before it sets the epoch
        sampler.set_epoch(check_checkpoint(checkpoints.last, of=module) + 1)
    train_loader = BatchLoader(train, sampler)
    valid_loader = BatchLoader(valid, EpochSampler(sizes_of(valid), config.limits, **share))
    seed = config.seed + trainer.global_rank
    with _random_seed(seed), _threads_kept(), watch.reraised(), _memory_named(sampler, config), _quiet():
        trainer.fit(module, train_loader, valid_loader, ckpt_path=checkpoints.last if resume else None)
    if not log.rows:  # no epoch was left to train, and Lightning did not start
        log.read(trainer.current_epoch)
    module.load_state_dict(load_checkpoint(checkpoints.best)["state_dict"])
    return log.rows, checkpoints


def useful_threads(edges: float, *, processes: int = 1) -> int:
    """CPU threads for steps with this many edges: one for about every 500, at most its share of torch's number.

    The number is computed, not measured, because it decides how sums are rounded: a training that is repeated on the
    same machine gives the same bits. ``OMP_WAIT_POLICY=PASSIVE`` is left to the user: with it, steps beside another
    busy process took twice instead of five times as long, but two to three times as long on an idle machine.

    >>> useful_threads(100.0)
    1
    """
    share = torch.get_num_threads() // (1 if "OMP_NUM_THREADS" in os.environ else processes)
    return max(min(round(edges / EDGES_PER_THREAD), share), 1)


def make_trainer(config: RunConfig, folder: Path, callbacks: list[Callback]) -> Trainer:
    """A Lightning trainer with the callbacks and files of this package instead of its own.

    Args:
        config: Limits, device and processes.
        folder: Folder for the TensorBoard log.
        callbacks: All callbacks.
    """
    device, parallel = resolve_device(config.device), config.num_processes > 1
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=config.num_processes if device.index is None or device.type == "cpu" else [device.index],
        strategy=DDPStrategy(**_DDP_OPTIONS) if parallel else "auto",
        max_epochs=config.max_epochs,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # forces are gradients, in validation too
        use_distributed_sampler=False,
    )


class _Interruptions(Callback):
    """Turns Lightning's ``sys.exit`` after Ctrl-C or SIGTERM into an interrupt, and restores the signal handler."""

    def __init__(self) -> None:
        self._interrupt: BaseException | None = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._interrupt = exception if isinstance(exception, KeyboardInterrupt | SystemExit) else None

    @contextlib.contextmanager
    def reraised(self) -> Iterator[None]:
        handler = signal.getsignal(signal.SIGINT)
        try:
            yield
        except SystemExit as error:
            if self._interrupt is None:
                raise
            signal.signal(signal.SIGINT, handler)
            if isinstance(self._interrupt, KeyboardInterrupt):
                raise self._interrupt from error
            raise KeyboardInterrupt from error


@contextlib.contextmanager
def _memory_named(sampler: EpochSampler, config: RunConfig) -> Iterator[None]:
    """Raise an error with the size of the batches if the memory does not suffice for a step.

    Unlike predictions, a training does not continue with smaller batches: most of the memory is needed in the backward
    pass, which Lightning runs after the step; all processes would have to divide the same batch; and a run whose steps
    take twice as long should not start unnoticed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        structures, atoms, edges = sampler.largest
        raise TrainingError(
            f"the memory of the device ({config.device}) does not suffice for a training step: batches have up to "
            f"{structures} structures, {atoms:,} atoms and {edges:,} edges in a process. Set run.max_edges to about "
            "half of that, or lower run.max_atoms or run.batch_size; a run that has finished an epoch can be resumed "
            "with the new value"
        ) from error


@contextlib.contextmanager
def _random_seed(seed: int) -> Iterator[None]:
    """Seed the random numbers inside the block, and restore the caller's state afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's notes on hardware and checkpoints, and torch's warning about Lightning's own code."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            yield
    finally:
        logger.setLevel(before)


class _Threads(Callback):
    """Sets the number of CPU threads after Lightning, which sets its own number when it starts several processes."""

    count = 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.set_num_threads(self.count)


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """Restore the caller's number of CPU threads after the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
