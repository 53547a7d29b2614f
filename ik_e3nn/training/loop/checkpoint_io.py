"""Checkpoint files that stay intact if a run is killed, and that contain only tensors and plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ik_e3nn.atomic import written_at_once
from ik_e3nn.training.run.checkpoint import load_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file that replaces the old one in one step; reads without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``; an earlier file stays whole until the new one is complete."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_at_once(target) as file:
            torch.save(_plain(checkpoint), file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint, tensors and plain values only."""
        return load_checkpoint(path)


def _plain(value: Any) -> Any:
    """The value with paths as strings and built-in mappings and sequences, as ``weights_only=True`` requires."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else list(map(_plain, value))
    return str(value) if isinstance(value, Path) else value
