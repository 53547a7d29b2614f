"""Uncertainty files: they store calibrated uncertainties of models, but not the weights of the models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError

from ik_e3nn.errors import DataError, ModelFileError
from ik_e3nn.models.files.checkpoint import weights_digest
from ik_e3nn.models.files.container import contents_digest, read_contents, write_contents
from ik_e3nn.models.files.upgrade import name_before_4
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.models.uncertainty.ensemble import Committee, Ensemble, check_factor
from ik_e3nn.models.uncertainty.last_layer import DIRECTIONS, LastLayerEnsemble
from ik_e3nn.models.uncertainty.upgrade import FORMAT_VERSION, STEPS, upgraded
from ik_e3nn.user_path import is_file

KINDS: dict[str, type[Ensemble]] = {one.kind: one for one in (Committee, LastLayerEnsemble)}
KEY = "ik_e3nn_uncertainty"


def save_uncertainty(
    model: Ensemble, path: str | Path, summary: dict[str, Any] | None = None, *, overwrite: bool = False
) -> None:
    """Write a calibrated uncertainty to a file; an error leaves no partial file.

    Args:
        model: A committee or a last-layer ensemble.
        path: The file; ".safetensors" is the usual suffix.
        summary: A description of the calibration for the file, of values that JSON can store.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: The file exists and ``overwrite`` is False.
    """
    info = {
        "format_version": FORMAT_VERSION,
        "kind": model.kind,
        "models_sha256": [weights_digest(cast(StoredModel, member)) for member in model.members],
        "calibration": summary or {},
    }
    write_contents(path, KEY, info, {"factors": model.factors, **model.tensors()}, overwrite=overwrite)


def with_uncertainty(models: Sequence[StoredModel], path: str | PathLike[str]) -> Ensemble:
    """Models with the uncertainty that was calibrated for them.

    Args:
        models: One model, or the members of a committee in any order, with the weights of their files.
        path: A file that ``save_uncertainty`` has written.

    Returns:
        A model with standard deviations, in evaluation mode.

    Raises:
        FileNotFoundError: The file does not exist.
        ModelFileError: The file is damaged, newer than this library, or was made for other models.
    """
    kind, tensors = _read(models, Path(path))
    factors = tensors.pop("factors")
    try:
        ensemble = KINDS[kind].restored(models, tensors)
        names = [target.name for target in ensemble.uncertain]
        if len(factors) != len(names):
            raise DataError(f"factors must be {len(names)} numbers, for {', '.join(names)}; got {len(factors)}")
    except DataError as error:
        raise ModelFileError(f"{path} is damaged ({error}): calibrate again") from error
    ensemble.calibrate(dict(zip(names, factors.tolist(), strict=True)))
    return ensemble.to(device=models[0].device).eval()


def _read(models: Sequence[StoredModel], path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Kind and tensors of a file that was made for these models."""
    if not is_file(path):
        raise FileNotFoundError(f"there is no uncertainty file {path}: make one with `ik-e3nn calibrate`")
    try:
        metadata, tensors = read_contents(path)
        info: Any = json.loads(metadata[KEY])
    except PermissionError:
        raise
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} is not an uncertainty file, or is damaged: calibrate again ({error})") from error
    version = info.get("format_version") if isinstance(info, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise ModelFileError(f"{path} has format {version}, this version reads up to {FORMAT_VERSION}: upgrade ik-e3nn")
    try:
        _check_info(info)
        # Files of version 1 have no checksum, unless somebody changed the version of a newer file by hand.
        if (version != 1 or "sha256" in info) and info.get("sha256") != contents_digest(info, tensors):
            raise ValueError("its checksum is wrong")
        new, tensors = upgraded(info, tensors)
        _check_numbers(new["kind"], tensors)
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged ({error}): calibrate again") from error
    spellings = (str,) if version == FORMAT_VERSION else (str, name_before_4)
    found = sorted(info["models_sha256"])
    if found not in [sorted(weights_digest(model, spelled) for model in models) for spelled in spellings]:
        raise ModelFileError(
            f"{path} was made for {len(found)} model(s) with other weights than the {len(models)} given: calibrate "
            "these with `ik-e3nn calibrate`"
        )
    return new["kind"], tensors


def _check_info(info: Any) -> None:
    """Raise unless a description, of any format, has the required entries."""
    kinds = {"format_version": int, "kind": str, "models_sha256": list}
    for name, kind in kinds.items():
        found = info.get(name) if isinstance(info, dict) else None
        if type(found) is not kind:
            raise ValueError(f"{name} must be of type {kind.__name__}, got {json.dumps(found)[:80]}")
    if info["format_version"] not in (*STEPS, FORMAT_VERSION):
        raise ValueError(f"format_version must be from 1 to {FORMAT_VERSION}, got {info['format_version']}")
    digests = info["models_sha256"]
    if not digests or not all(isinstance(digest, str) for digest in digests):
        raise ValueError(f"models_sha256 must be a list of one or more checksums, got {json.dumps(digests)[:80]}")


def _check_numbers(kind: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise unless the tensors fit the kind of uncertainty; their sizes are compared with the model later."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r:.80}")
    if "factors" not in tensors:
        raise ValueError("factors is missing")
    for name, tensor in tensors.items():
        if name != "factors" and not re.fullmatch(KINDS[kind].tensor_names, name):
            raise ValueError(f"{name} is not a tensor of this kind of uncertainty")
        expected, shape = ("a list" if name == "factors" else "a matrix"), tuple(tensor.shape)
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.ndim != 1 + (name != "factors") or 0 in shape:
            raise ValueError(f"{name} must be {expected} of floating-point numbers, got {tensor.dtype} {shape}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} contains NaN or infinity")
        if name == "factors":
            for factor in tensor.tolist():
                check_factor(name, factor)
            continue
        # Data can only narrow the prior N(0, 1), which limits the rows of directions and of roots of covariances.
        longest = 1.0 if name != DIRECTIONS else (shape[1] / shape[0]) ** 0.5
        lengths = tensor.double().norm(dim=1)
        if not bool(((lengths > 0) & (lengths < 1.001 * longest)).all()):
            raise ValueError(f"{name} has rows of length zero, or longer than the prior allows")
