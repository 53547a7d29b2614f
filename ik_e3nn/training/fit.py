"""Training from a configuration to a model file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from ik_e3nn import __version__
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn.training import run_folder
from ik_e3nn.training.clock import RunClock
from ik_e3nn.training.config import TrainConfig
from ik_e3nn.training.config_file import flat_values, nearest, read_config, write_config
from ik_e3nn.training.engine import run_training
from ik_e3nn.training.loss import PotentialLoss
from ik_e3nn.training.module import PotentialModule
from ik_e3nn.training.parallel import is_main, is_worker, run_in_parallel
from ik_e3nn.training.plots import plot_loss
from ik_e3nn.training.prediction import choose_device, plot_predictions, predict
from ik_e3nn.training.recipe import Fitted, Recipe, count_parameters

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a finished run left behind.

    Args:
        folder: The run's folder.
        model: The model file.
        metrics: Contents of `metrics.json`: errors on each set, epochs, seconds.
    """

    folder: Path
    model: Path
    metrics: dict[str, Any]


def train(config: TrainConfig, *, resume: bool = False, recipe: Recipe | None = None) -> TrainResult:
    """Train a potential.

    Args:
        config: Data, model, loss, optimiser and run; see `TrainConfig`.
        resume: Continue the run in `config.run.output` from its last finished epoch.
        recipe: What is trained, and what becomes of it; by default a new model.

    Returns:
        The run's folder, model file and errors.

    Raises:
        ConfigError: A setting is impossible, or the folder holds a run already.
        DataError: The data cannot be used; in particular a label with a weight is absent everywhere.
        TrainingError: The loss is no longer finite, or a process died.
    """
    recipe = recipe or Recipe()
    folder = Path(config.run.output).expanduser()
    check_model_arguments(config.model)
    choose_device(config.run.device)
    if is_worker():
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", config.run.num_processes))
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, num_processes=processes))
    else:
        run_folder.open_run_folder(folder, resume=resume, overwrite=config.run.overwrite)
        if resume:
            check_continues(config, folder)
    if resume and _is_complete(config, folder):
        _log.info("the run in %s is complete; raise run.max_epochs or run.max_minutes to go on", folder)
        return TrainResult(folder, folder / run_folder.MODEL, json.loads((folder / run_folder.METRICS).read_text()))
    try:
        if config.run.num_processes > 1 and not is_worker():
            run_in_parallel(_run, config.run.num_processes, config, resume, recipe)
        else:
            _run(config, resume, recipe)
    except BaseException:
        if not is_worker() and not resume and not (folder / run_folder.CHECKPOINTS / "last.ckpt").exists():
            run_folder.abandon(folder)
        raise
    if not is_worker():
        run_folder.settle(folder)
    metrics = json.loads((folder / run_folder.METRICS).read_text()) if is_main() else {}
    return TrainResult(folder, folder / run_folder.MODEL, metrics)


def _is_complete(config: TrainConfig, folder: Path) -> bool:
    """Whether a run has its model and has reached one of its limits."""
    if not ((folder / run_folder.METRICS).exists() and (folder / run_folder.MODEL).exists()):
        return False
    metrics = json.loads((folder / run_folder.METRICS).read_text())
    minutes = config.run.max_minutes
    out_of_time = minutes is not None and metrics["seconds"] >= 60.0 * minutes
    return out_of_time or bool(metrics["epochs"] >= config.run.max_epochs)


def check_model_arguments(arguments: dict[str, Any]) -> None:
    """Raise for an argument that `InteratomicPotential` does not have.

    Raises:
        ConfigError: Names the argument and the nearest right one.
    """
    known = [name for name in inspect.signature(InteratomicPotential).parameters if name != "species"]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"unknown setting 'model.{name}'; {nearest(name, known)}")


def check_continues(config: TrainConfig, folder: Path) -> None:
    """Raise if a run in a folder cannot be continued with a configuration, and warn of what else has changed.

    Raises:
        ConfigError: Model or precision differ from those of the run.
    """
    if not (folder / run_folder.CONFIG).exists():
        return
    before, now = (flat_values(one) for one in (read_config(folder / run_folder.CONFIG, kind=type(config)), config))
    changed = [key for key in now if before.get(key) != now[key]]
    for key in changed:
        change = f"{key} was {before.get(key)!r} and is now {now[key]!r}"
        if key.startswith(("model.", "finetune.")) or key == "run.dtype":
            raise ConfigError(f"{change}: a run cannot be resumed with another model; choose another run.output.")
        if key == "run.seed":
            raise ConfigError(f"{change}: another seed splits the data anew; choose another run.output.")
        if not key.startswith("run.") or key in ("run.batch_size", "run.max_atoms"):
            _log.warning("resuming with a change: %s", change)


def _run(config: TrainConfig, resume: bool, recipe: Recipe) -> None:
    """One process of a run, from reading the data to the model file."""
    folder = Path(config.run.output).expanduser()
    if not is_main():
        _fit(config, folder, resume, recipe)
        return
    write_config(config, folder / run_folder.CONFIG)
    with run_folder.logged_to(folder / run_folder.LOG):
        _finish(config, folder, _fit(config, folder, resume, recipe), recipe)


def _fit(config: TrainConfig, folder: Path, resume: bool, recipe: Recipe) -> Fitted:
    if resume and not (folder / run_folder.CHECKPOINTS / "last.ckpt").exists():
        _log.warning("%s has no checkpoint yet: starting from the beginning", folder)
        resume = False
    data = recipe.prepare(config)
    model = recipe.start(config, data)
    dtype = getattr(torch, config.run.dtype)
    graphs = {name: data.dataset(name, model, dtype) for name in data.sets}
    recipe.scale(model, graphs["train"])
    limit = None if config.run.max_minutes is None else 60.0 * config.run.max_minutes
    module = PotentialModule(
        model,
        PotentialLoss(config.loss),
        optimizer=config.optimizer,
        clock=RunClock(limit),
        compile=config.run.compile,
        lr_factors=recipe.lr_factors(model),
    )
    rows, best = run_training(module, graphs["train"], graphs["valid"], config=config.run, folder=folder, resume=resume)
    best_model = cast(InteratomicPotential, module.best_model.to(choose_device(config.run.device)))
    recipe.finish(best_model)
    return Fitted(data, graphs, best_model, rows, best.best_epoch)


def _finish(config: TrainConfig, folder: Path, fitted: Fitted, recipe: Recipe) -> None:
    """Measure the best model, and write the model file, the plots and `metrics.json`."""
    model, last = fitted.model, fitted.rows[-1]
    metrics: dict[str, Any] = {
        "best_epoch": fitted.best_epoch,
        "epochs": int(last["epoch"]),
        "steps": int(last["step"]),
        "seconds": last["seconds"],
        "parameters": count_parameters(model),
    }
    for name in ("valid", "test"):
        if name in fitted.graphs:
            graphs = fitted.graphs[name]
            result = predict(model, graphs, batch_size=config.run.batch_size, max_atoms=config.run.max_atoms)
            metrics[name] = result.errors
            plot_predictions(result, graphs.structures, graphs.labels, folder, name)
            _log.info("%s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in result.errors.items()))
    plot_loss(fitted.rows, folder / "loss.png")
    summary = (
        metrics
        | recipe.report(config, folder, fitted, metrics)
        | {
            "labels": {name: dataclasses.asdict(one.counts) for name, one in fitted.data.sets.items()},
            "versions": versions(),
            "config": dataclasses.asdict(config),
        }
    )
    save_model(model, folder / run_folder.MODEL, summary=summary, overwrite=True)
    run_folder.write_json(metrics, folder / run_folder.METRICS)
    _log.info("best epoch %d; the model is in %s", fitted.best_epoch, folder / run_folder.MODEL)


def versions() -> dict[str, str]:
    """Versions of this library and of those that a result depends on."""
    return {"ik_e3nn": __version__} | {name: version(name) for name in ("torch", "e3nn", "lightning", "ase", "vesin")}
