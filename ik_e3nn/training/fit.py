"""Training from a configuration to a model file."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from ik_e3nn import __version__
from ik_e3nn.data.files.writing import write_structures
from ik_e3nn.errors import TrainingError
from ik_e3nn.json_file import read_json, write_json
from ik_e3nn.models import save_model
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.finetuning.task import Finetuning
from ik_e3nn.training.inference.plots import plot_loss
from ik_e3nn.training.loop.engine import run_training
from ik_e3nn.training.loop.parallel import is_main, is_worker, run_in_parallel
from ik_e3nn.training.run import resuming, run_folder
from ik_e3nn.training.run.checkpoint import check_checkpoint
from ik_e3nn.training.tasks.tasks import Task, count_parameters
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished run.

    Args:
        folder: The run's folder.
        model: The model file.
        metrics: Contents of ``metrics.json``: errors on each set, epochs, seconds.
    """

    folder: Path
    model: Path
    metrics: dict[str, Any]


def finetune(config: FinetuneConfig, *, resume: bool = False) -> TrainResult:
    """Fine-tune a potential or a model of properties on new data.

    With ``data.targets`` the result is a model of properties, otherwise a potential. Besides the files of a training,
    the run's folder receives ``finetune.json`` and ``finetune.md``: the resolved settings, where they differ from what
    was asked for, and errors before and after, also on the old domain if its data are given.

    Args:
        config: The configuration; ``config.finetune`` names the base and how it is adapted.
        resume: Continue the run in ``config.run.output`` from its last finished epoch.

    Returns:
        The run's folder, model file and errors.

    Raises:
        ConfigError: A setting is impossible, contradicts the base, or has no effect.
        ModelFileError: The base is missing or broken.
        DataError: The data cannot be used.
        TrainingError: The loss is no longer finite, or a process died.
    """
    return train(config, resume=resume)


def train(config: TrainConfig, *, resume: bool = False) -> TrainResult:
    """Train a potential, or a model of properties.

    Args:
        config: Data, model, loss, optimizer and run; see ``TrainConfig`` and ``FinetuneConfig``.
        resume: Continue the run in ``config.run.output`` from its last finished epoch.

    Returns:
        The run's folder, model file and errors.

    Raises:
        ConfigError: A setting is impossible, or the folder holds a run already.
        DataError: The data cannot be used, for example because a label with a weight is missing everywhere; or data or
            base are among the files of an earlier run that would be replaced.
        TrainingError: The loss is no longer finite, or a process died.
    """
    folder = user_path(config.run.output)
    task_type(config).check(config)
    resolve_device(config.run.device)
    if is_worker():  # the process that started it holds the lock
        return _train(config, folder, resume)
    with run_folder.locked(folder):
        return _train(config, folder, resume)


def _train(config: TrainConfig, folder: Path, resume: bool) -> TrainResult:
    """Run a training in its locked folder."""
    if is_worker():
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", config.run.num_processes))
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, num_processes=processes))
    else:
        if config.run.overwrite and not resume:
            run_folder.check_inputs(folder, resuming.files_read(config))
        run_folder.open_run_folder(folder, resume=resume, overwrite=config.run.overwrite)
        if resume:
            resuming.check_continues(config, folder)
    if resume and resuming.is_complete(config, folder):
        _log.info("the run in %s is complete; raise run.max_epochs or run.max_minutes to continue it", folder)
        return TrainResult(folder, folder / run_folder.MODEL, read_json(folder / run_folder.METRICS))
    try:
        if config.run.num_processes > 1 and not is_worker():
            run_in_parallel(_run, config.run.num_processes, config, resume)
        else:
            _run(config, resume)
    except BaseException as error:
        if not is_worker() and not resume and not (folder / run_folder.CHECKPOINTS / "last.ckpt").exists():
            run_folder.abandon(folder)
        elif isinstance(error, KeyboardInterrupt):
            _log.warning("stopped; the same command with --resume continues from the last finished epoch")
        raise
    if not is_worker():
        run_folder.settle(folder)
    metrics = read_json(folder / run_folder.METRICS) if is_main() else {}
    return TrainResult(folder, folder / run_folder.MODEL, metrics)


def _run(config: TrainConfig, resume: bool) -> None:
    """Run one process of a training, from reading the data to the model file."""
    folder = user_path(config.run.output)
    if resume and not (folder / run_folder.CHECKPOINTS / "last.ckpt").exists():
        _log.warning("%s has no checkpoint yet: starting from the beginning", folder)
        resume = False
    if not is_main():
        _fit(config, folder, resume, lambda: None)
        return
    with run_folder.logged_to(folder / run_folder.LOG) as let_go:
        if not resume:
            let_go()
        task, rows, best_epoch = _fit(config, folder, resume, let_go)
        _finish(config, folder, task, rows, best_epoch=best_epoch)


def _fit(
    config: TrainConfig, folder: Path, resume: bool, let_go: Callable[[], None]
) -> tuple[Task, list[dict[str, float]], int]:
    """Read the data and train; whether a run can be resumed is checked before anything is written.

    Returns:
        The task, the rows of the metrics log, and the best epoch.
    """
    task = task_type(config)(config)
    digests = task.digests()
    if resume:
        resuming.check_same_data(digests, config, folder)
        for name in ("last.ckpt", "best.ckpt"):
            check_checkpoint(folder / run_folder.CHECKPOINTS / name, of=task.module)
    if is_main():
        let_go()
        resuming.note_start(config, folder, digests, resume=resume)
        task.begin(folder)
    train, valid = task.graphs["train"], task.graphs["valid"]
    rows, best = run_training(task.module, train, valid, config=config.run, folder=folder, resume=resume)
    return task, rows, best.best_epoch


def task_type(config: TrainConfig) -> type[Task]:
    """The class of task for a configuration.

    >>> from ik_e3nn.training import DataConfig
    >>> task_type(TrainConfig(DataConfig("a.xyz"))).__name__
    'Task'
    """
    return Finetuning if config.model_is_given else Task


def _finish(config: TrainConfig, folder: Path, task: Task, rows: list[dict[str, float]], *, best_epoch: int) -> None:
    """Measure the best model, and write the model file, the plots and ``metrics.json``."""
    if not rows:
        raise TrainingError(f"{folder / 'metrics.jsonl'} has no rows: put back a copy, or start the run anew")
    model = task.module.best_model.to(resolve_device(config.run.device))
    task.finish(model)
    metrics: dict[str, Any] = {
        "best_epoch": best_epoch,
        "epochs": int(rows[-1]["epoch"]),
        "steps": int(rows[-1]["step"]),
        "seconds": rows[-1]["seconds"],
        "parameters": count_parameters(model),
    }
    for name in ("valid", "test"):
        if name in task.graphs:
            metrics[name] = task.measure(model, name, folder)
            _log.info("%s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in metrics[name].items()))
    plot_loss(rows, folder / "loss.png")
    summary = (
        metrics
        | task.report(model, folder, metrics)
        | task.summary()
        | {"versions": versions(), "config": dataclasses.asdict(config)}
    )
    save_model(cast(StoredModel, model), folder / run_folder.MODEL, summary=summary, overwrite=True)
    write_json(folder / run_folder.METRICS, metrics)
    for name in task.set_aside():
        _write_set_aside(task, name, folder)
    _log.info("best epoch %d; the model is in %s", best_epoch, folder / run_folder.MODEL)


def _write_set_aside(task: Task, name: str, folder: Path) -> None:
    """Write the structures that were set aside; values that extxyz cannot store must not make a run fail."""
    path = folder / run_folder.SET_ASIDE / f"{name.replace(' ', '_')}.xyz"
    try:
        write_structures(path, task.structures(name), overwrite=True)
    except (TypeError, ValueError) as error:
        _log.warning("%s is not written: %s", path, error)


def versions() -> dict[str, str]:
    """Versions of this library and of the libraries that results depend on."""
    return {"ik_e3nn": __version__} | {name: version(name) for name in ("torch", "e3nn", "lightning", "ase", "vesin")}
