"""The settings and data that a run began with, and whether it can be resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.json_file import read_json, write_json
from ik_e3nn.training.config.file import config_notes, flat_values, read_config, write_config
from ik_e3nn.training.config.finetune import OLD, REPLAY
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.run import run_folder
from ik_e3nn.training.run.checkpoint import check_checkpoint
from ik_e3nn.training.sets.prepare import ISOLATED

_log = logging.getLogger(__name__)

# settings that may change without changing the training
_OF_NO_EFFECT = {"run.output", "run.overwrite", "run.progress", "run.num_threads", "data.cache"}
_MEASURED = ("test", OLD)  # sets that are not used for training or validation
_SETTINGS = {
    "train": "data.train", "valid": "data.valid", "test": "data.test", ISOLATED: "data.isolated_atoms",
    REPLAY: "finetune.replay", OLD: "finetune.old_domain",
}  # fmt: skip
_SAME = (
    "a run can be resumed only with the data that it began with. Restore them, or choose another run.output; to train "
    "a finished model further, use ik-e3nn finetune."
)


def check_continues(config: TrainConfig, folder: Path) -> None:
    """Raise if the run in a folder cannot be resumed with a configuration, and warn of other changes.

    The data are compared later, when they have been read; see ``check_same_data``.

    Raises:
        ConfigError: Model, loss, optimizer, E0s, precision, fine-tuning or seed differ from those of the run, or its
            settings cannot be read.
        TrainingError: A checkpoint is damaged or missing.
    """
    for key, change in changes(config, folder).items():
        if key.startswith(("model.", "finetune.", "data.targets")) or key == "run.dtype":
            other = "fine-tuning" if key.startswith("finetune.") else "model"
            raise ConfigError(f"{change}: a run cannot be resumed with another {other}; choose another run.output.")
        if key == "run.seed":
            raise ConfigError(f"{change}: another seed splits the data anew; choose another run.output.")
        if key.startswith(("optimizer.", "loss.")) or key == "data.E0s":
            raise ConfigError(
                f"{change}: a run can be resumed only with the loss, optimizer and E0s that it began with. Undo the "
                "change, or choose another run.output; to train a finished model further, use ik-e3nn finetune."
            )
        if key in ("run.batch_size", "run.max_atoms", "run.max_edges") or not (
            key.startswith("run.") or key in _OF_NO_EFFECT
        ):
            _log.warning("resuming with a change: %s", change)
    if _last(folder).exists():
        check_checkpoint(_last(folder))
        check_checkpoint(folder / run_folder.CHECKPOINTS / "best.ckpt")


def changes(config: TrainConfig, folder: Path) -> dict[str, str]:
    """Settings that have changed since the run in a folder was last started, by dotted key.

    Raises:
        ConfigError: The settings of the run cannot be read.
    """
    path = folder / run_folder.CONFIG
    if not path.exists() and not _last(folder).exists():
        return {}
    try:
        before = flat_values(read_config(path, kind=type(config)))
    except (ConfigError, OSError) as error:
        reason = str(error).removeprefix(f"{path}: ").rstrip(".")
        raise ConfigError(
            f"{path}, the settings of the run, cannot be read: {reason}. Put back a copy, or choose another run.output."
        ) from error
    now = flat_values(config)
    changed = [key for key in now if before.get(key) != now[key]]
    return {key: f"{key} was {before.get(key)!r} and is now {now[key]!r}" for key in changed}


def files_read(config: TrainConfig) -> list[str]:
    """Files, globs and folders of data that a training reads, and the base model of a fine-tuning.

    >>> from ik_e3nn.training import DataConfig
    >>> files_read(TrainConfig(DataConfig("a.xyz", test=["b.xyz", "c.xyz"])))
    ['a.xyz', 'b.xyz', 'c.xyz']
    """
    values = flat_values(config)
    given = [values.get(key) for key in (*_SETTINGS.values(), "finetune.base")]
    lists = [one if isinstance(one, list) else [one] for one in given]
    return [name for names in lists for name in names if isinstance(name, str)]


def is_complete(config: TrainConfig, folder: Path) -> bool:
    """Whether a run has its model and has reached one of its limits, and the settings of its data are unchanged."""
    if not ((folder / run_folder.METRICS).exists() and (folder / run_folder.MODEL).exists()):
        return False
    try:
        metrics = read_json(folder / run_folder.METRICS, "seconds", "epochs")
    except DataError as error:
        _log.warning("%s; the model is measured again", error)
        return False
    minutes = config.run.max_minutes
    out_of_time = minutes is not None and metrics["seconds"] >= 60.0 * minutes
    over = out_of_time or bool(metrics["epochs"] >= config.run.max_epochs)
    return over and not _data_changes(config, folder)


def check_same_data(digests: Mapping[str, str], config: TrainConfig, folder: Path) -> None:
    """Raise unless the data are those that a run began with; warn if only the test set or the old domain has changed.

    Args:
        digests: Digests of the data as read now, by set.
        config: The present configuration.
        folder: The run's folder.

    Raises:
        ConfigError: Structures, labels or inputs for training or validation have changed; or this is not known, and
            settings of the data have changed.
    """
    known, reason = _known_digests(folder / run_folder.DATA, digests)
    changed = list(_data_changes(config, folder).values())
    if reason:
        unknown = f"{reason}; whether the data are those of the start is not known"
        if changed:
            raise ConfigError(f"{unknown}, and {changed[0]}. {_SAME[0].upper()}{_SAME[1:]}")
        _log.warning("%s", unknown)
    complete = not reason and "-" in known["train"]
    for name in dict.fromkeys([*digests, *known]):
        then, now = known.get(name), digests.get(name)
        if _agree(then, now) or (then is None and not complete):
            continue
        what = f"the structures, labels, charges or bonds of {_SETTINGS.get(name, name)} are not those of the start"
        if name not in _MEASURED:
            raise ConfigError(f"{what}{f' ({changed[0]})' if changed else ''}: {_SAME}")
        _log.warning("resuming with a change: %s", what)


def note_start(config: TrainConfig, folder: Path, digests: Mapping[str, str], *, resume: bool) -> None:
    """Write settings and digests; comments above the settings list those that changed, and after which epoch.

    Args:
        config: The present configuration.
        folder: The run's folder.
        digests: Digests of the data, by set.
        resume: Whether a run is resumed.
    """
    path, notes = folder / run_folder.CONFIG, []
    if resume:
        epoch = check_checkpoint(_last(folder)) + 1
        told = [change for key, change in changes(config, folder).items() if key not in _OF_NO_EFFECT]
        notes = [*config_notes(path), *(f"after epoch {epoch}: {change}" for change in told)]
    write_config(config, path, notes=notes)
    write_json(folder / run_folder.DATA, digests)


def _last(folder: Path) -> Path:
    return folder / run_folder.CHECKPOINTS / "last.ckpt"


def _data_changes(config: TrainConfig, folder: Path) -> dict[str, str]:
    """Changed settings of the data, without those that do not affect the training."""
    found = changes(config, folder).items()
    return {key: change for key, change in found if key.startswith("data.") and key not in _OF_NO_EFFECT}


def _known_digests(path: Path, digests: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The digests in a file, and what is wrong with the file if a needed digest is missing."""
    try:
        content: dict[str, Any] = read_json(path)
    except DataError as error:
        return {}, str(error)
    known = {name: digest for name, digest in content.items() if isinstance(digest, str)}
    needed = [name for name in digests if name in ("train", "valid", REPLAY) and name not in known]
    return known, f"{path} is damaged (it has no {needed[0]!r}): put back a copy" if needed else ""


def _agree(then: str | None, now: str | None) -> bool:
    """Whether two digests agree in the parts that both have; earlier versions wrote only the first part."""
    if then is None or now is None:
        return then == now
    return all(one == other for one, other in zip(then.split("-"), now.split("-"), strict=False))
