"""Reading checkpoint files, which contain only tensors and plain values; states of random-number generators."""

from __future__ import annotations

import functools
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ik_e3nn.errors import TrainingError

_KINDS = {"state_dict": dict, "epoch": int, "global_step": int, "optimizer_states": list, "lr_schedulers": list}
_KEYS = ("state_dict", "epoch", "global_step", "optimizer_states", "lr_schedulers", "loops", "callbacks")


def check_checkpoint(path: str | Path, *, of: nn.Module | None = None) -> int:
    """Raise if a checkpoint cannot be used; a file that has not changed since it was checked is not read again.

    Args:
        path: The file.
        of: The module whose weights it must have, with the same names and shapes.

    Returns:
        The number of its epoch; the first is 0.

    Raises:
        TrainingError: The file is broken, or has other weights.
    """
    try:
        found = Path(path).stat()
    except OSError:  # reported when it is read
        stamp: tuple[int, ...] = ()
    else:
        stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    epoch, saved = _epoch_and_shapes(str(path), stamp)
    if of is not None:
        now = _shapes(of.state_dict())
        differing = sorted(key for key in saved.keys() | now.keys() if saved.get(key) != now.get(key))
        if differing:
            raise TrainingError(
                f"{path} has other weights than this model ({len(differing)} differ, {differing[0]} first): the data "
                "have other elements or properties than at the start, or another version of the package wrote the "
                "file. Restore the data or the version, or start anew with --run.overwrite=true or another --run.output"
            )
    return epoch


@functools.lru_cache(maxsize=8)
def _epoch_and_shapes(path: str, stamp: tuple[int, ...]) -> tuple[int, dict[str, tuple[int, ...]]]:
    """The epoch of a checkpoint and the shapes of its weights."""
    del stamp  # tells the versions of a file apart
    checkpoint = load_checkpoint(path)
    return checkpoint["epoch"], _shapes(checkpoint["state_dict"])


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: The file.

    Returns:
        The checkpoint, with only tensors and plain values.

    Raises:
        TrainingError: The file is broken.
    """
    other = "best.ckpt" if Path(path).name == "last.ckpt" else "last.ckpt"
    advice = f"Copy {other} over it, or start anew with --run.overwrite=true"
    try:
        damaged = _damaged(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise any kind of error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"{path} cannot be read as a checkpoint: {reason}. {advice}") from error
    if damaged is not None:
        raise TrainingError(f"{path} is damaged: the checksum of {damaged} is wrong. {advice}")
    missing = [key for key in _KEYS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise TrainingError(f"{path} is not a checkpoint of a training: it has no {missing[0]!r}. {advice}")
    wrong = [key for key, kind in _KINDS.items() if type(checkpoint[key]) is not kind]
    if wrong or not all(isinstance(one, torch.Tensor) for one in checkpoint["state_dict"].values()):
        raise TrainingError(f"{path} is not a checkpoint of a training: {[*wrong, 'state_dict'][0]} is wrong. {advice}")
    return checkpoint


def _damaged(path: str | Path) -> str | None:
    """The first record whose checksum is wrong; torch writes checksums but does not check them."""
    with zipfile.ZipFile(path) as file:
        return file.testzip()


def random_state() -> dict[str, Any]:
    """States of the random-number generators of torch, numpy and Python, as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, next_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(internal), next_gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Continue from ``random_state()``."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
