"""The folder of a run: what lies where, and the rule that nothing is overwritten by accident."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ik_e3nn.errors import ConfigError

CONFIG = "config.yaml"
MODEL = "model.safetensors"
METRICS = "metrics.json"
LOG = "train.log"
CHECKPOINTS = "checkpoints"

_OURS = (CONFIG, MODEL, METRICS, LOG, CHECKPOINTS, "metrics.csv", "metrics.jsonl", "tensorboard")


def open_run_folder(path: str | Path, *, resume: bool, overwrite: bool) -> Path:
    """Make the folder of a run, or open that of an earlier one.

    Args:
        path: The folder.
        resume: Continue the run that is there.
        overwrite: Remove an earlier run's files first.

    Returns:
        The folder.

    Raises:
        ConfigError: There is an earlier run and neither `resume` nor `overwrite`, or the folder cannot be written.
    """
    folder = Path(path).expanduser()
    try:
        earlier = [name for name in _OURS if (folder / name).exists()] if folder.exists() else []
        if earlier and not resume and not overwrite:
            raise ConfigError(
                f"run.output: {folder} already holds a run ({earlier[0]}); continue it with --resume, replace it with "
                "--run.overwrite=true, or choose another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        if overwrite and not resume:
            for name in earlier:
                place = folder / name
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            (folder / CHECKPOINTS).mkdir(exist_ok=True)
        (folder / LOG).touch()
    except OSError as error:
        raise ConfigError(f"run.output: cannot write to the folder {folder}: {error.strerror}.") from error
    return folder


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file in one step."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append this library's messages to a file inside the block."""
    logger = logging.getLogger("ik_e3nn")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
