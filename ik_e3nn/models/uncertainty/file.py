"""Files that say how sure models are: they belong to model files and hold no weights of them."""

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
    """Write what a calibration has found, at once or not at all.

    Args:
        model: A committee or a last-layer ensemble.
        path: Where; ".safetensors" is the usual ending.
        summary: Anything JSON-able about the calibration, kept as it is.
        overwrite: Replace a file that exists.

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
    """Models as they are in their files, with the uncertainty that was calibrated for them.

    Args:
        models: One model, or the members of a committee in any order.
        path: A file that ``save_uncertainty`` has written.

    Returns:
        A model with standard deviations, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: It is broken, newer than this library, or was made for other models.
    """
    kind, tensors = _read(models, Path(path))
    factors = tensors.pop("factors")
    try:
        ensemble = KINDS[kind].restored(models, tensors)
        names = [target.name for target in ensemble.uncertain]
        if len(factors) != len(names):
            raise DataError(f"factors must be {len(names)} numbers, of {', '.join(names)}; got {len(factors)}")
    except DataError as error:
        raise ModelFileError(f"{path} is damaged ({error}): calibrate again") from error
    ensemble.calibrate(dict(zip(names, factors.tolist(), strict=True)))
    return ensemble.to(device=models[0].device).eval()


def _read(models: Sequence[StoredModel], path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Kind and tensors of a file that was made for these models."""
    if not is_file(path):
        raise FileNotFoundError(f"no file of an uncertainty at {path}: make one with `ik-e3nn calibrate`")
    try:
        metadata, tensors = read_contents(path)
        info: Any = json.loads(metadata[KEY])
    except PermissionError:
        raise
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is no file of an uncertainty, or is damaged: calibrate again ({error})"
        ) from error
    version = info.get("format_version") if isinstance(info, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise ModelFileError(f"{path} has format {version}, this version reads up to {FORMAT_VERSION}: upgrade ik-e3nn")
    try:
        _check_info(info)
        # Files of version 1 have no checksum; one that was taken back to version 1 by hand has.
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
    """Raise unless a description of any format has what it must."""
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
    """Raise unless tensors can be those of a kind of uncertainty; whether sizes are a model's is not known here."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r:.80}")
    if "factors" not in tensors:
        raise ValueError("factors is missing")
    for name, tensor in tensors.items():
        if name != "factors" and not re.fullmatch(KINDS[kind].tensor_names, name):
            raise ValueError(f"{name} does not belong there")
        expected, shape = ("a list" if name == "factors" else "a matrix"), tuple(tensor.shape)
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.ndim != 1 + (name != "factors") or 0 in shape:
            raise ValueError(f"{name} must be {expected} of floating-point numbers, got {tensor.dtype} {shape}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinity in it")
        if name == "factors":
            for factor in tensor.tolist():
                check_factor(name, factor)
            continue
        # The prior is N(0, 1), and data only narrow it: rows are members or rows of a root of the covariance.
        longest = 1.0 if name != DIRECTIONS else (shape[1] / shape[0]) ** 0.5
        lengths = tensor.double().norm(dim=1)
        if not bool(((lengths > 0) & (lengths < 1.001 * longest)).all()):
            raise ValueError(f"{name} has rows that are zero, or longer than a posterior's can be")
