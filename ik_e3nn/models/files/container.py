"""The container of model and uncertainty files: a safetensors file with everything else as JSON in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from ik_e3nn.atomic import written_at_once


def write_contents(
    path: str | Path, key: str, info: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, overwrite: bool
) -> None:
    """Write a description and tensors with a checksum of both, completely or not at all.

    Args:
        path: Path of the file.
        key: Name of the description in the header.
        info: The description, for JSON; objects that JSON cannot store are written as text.
        tensors: The tensors by name.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: The file exists and ``overwrite`` is False.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another name, or pass overwrite=True")
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    plain = json.loads(json.dumps(info, allow_nan=False, default=str))
    data = save(kept, metadata={key: json.dumps(plain | {"sha256": contents_digest(plain, kept)})})
    with written_at_once(path) as file:
        file.write(data)


def read_contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """The header of a safetensors file and its tensors.

    Raises:
        SafetensorError: The file is not a safetensors file.
        OSError: The file cannot be read.
    """
    path.open("rb").close()  # its error names missing permissions, which that of safetensors does not
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # not a dict


def contents_digest(info: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Checksum of everything in a file: the description, and the name, dtype, shape and values of every tensor."""
    described = {name: value for name, value in info.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
