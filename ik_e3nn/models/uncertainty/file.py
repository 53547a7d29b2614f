"""Files that say how sure models are: they belong to model files and hold no weights of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError, ModelFileError
from ik_e3nn.models.files.checkpoint import contents_digest, weights_digest
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.models.uncertainty.ensemble import Ensemble
from ik_e3nn.models.uncertainty.last_layer import LastLayerEnsemble
from ik_e3nn.models.uncertainty.potentials import Committee, UncertainPotential, check_factor
from ik_e3nn.models.uncertainty.properties import LastLayerProperties, PropertyCommittee, UncertainProperties
from ik_e3nn.user_path import is_file

KINDS = (Committee, LastLayerEnsemble, PropertyCommittee, LastLayerProperties)
KEY, FORMAT_VERSION = "ik_e3nn_uncertainty", 2  # 2: with a checksum of the whole file


def save_uncertainty(
    model: UncertainPotential | UncertainProperties,
    path: str | Path,
    summary: dict[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write what a calibration has found, at once or not at all.

    Args:
        model: A committee or a last-layer ensemble, of potentials or of models of properties.
        path: Where; ".safetensors" is the usual ending.
        summary: Anything JSON-able about the calibration, kept as it is.
        overwrite: Replace a file that exists.

    Raises:
        FileExistsError: The file exists and ``overwrite`` is False.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another name, or say overwrite=True")
    if isinstance(model, UncertainProperties):
        tensors = {"factors": model.factors}
    else:
        tensors = {"factors": torch.stack([model.energy_factor, model.forces_factor])}
    if isinstance(model, LastLayerEnsemble):
        tensors |= {"root": model.root, "directions": model.directions}
    elif isinstance(model, LastLayerProperties):
        tensors |= model.roots
    info = {
        "format_version": FORMAT_VERSION,
        "kind": type(model).__name__,
        "models_sha256": [weights_digest(cast(StoredModel, member)) for member in model.members],
        "calibration": summary or {},
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    info = json.loads(json.dumps(info, allow_nan=False, default=str))
    data = save(tensors, metadata={KEY: json.dumps(info | {"sha256": contents_digest(info, tensors)})})
    with written_at_once(path) as file:
        file.write(data)


def with_uncertainty(models: Sequence[InteratomicPotential], path: str | PathLike[str]) -> UncertainPotential:
    """Models as they are in their files, with the uncertainty that was calibrated for them.

    Args:
        models: One model, or the members of a committee in any order.
        path: A file that ``save_uncertainty`` has written.

    Returns:
        A potential with standard deviations, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: It is broken, newer than this library, or was made for other models.
    """
    kind, tensors = _read(models, Path(path), (Committee, LastLayerEnsemble))
    with _fitting(path):
        _check_count(tensors["factors"], ["energy", "forces"])
        potential = (
            LastLayerEnsemble(models[0], tensors["root"], tensors["directions"])
            if kind == LastLayerEnsemble.__name__
            else Committee(models)
        )
    potential.calibrate(*tensors["factors"].tolist())
    return potential.to(device=models[0].device).eval()


def with_property_uncertainty(
    models: Sequence[MolecularPropertyModel], path: str | PathLike[str]
) -> UncertainProperties:
    """The same for models of properties; arguments and errors are those of ``with_uncertainty``."""
    kind, tensors = _read(models, Path(path), (PropertyCommittee, LastLayerProperties))
    factors, names = tensors.pop("factors"), [target.name for target in models[0].targets]
    with _fitting(path):
        _check_count(factors, names)
        extra = sorted(set(tensors) - set(models[0].names))
        if extra:
            raise DataError(f"{extra[0]} is no kind of target that the model has")
        last = kind == LastLayerProperties.__name__
        uncertain = LastLayerProperties(models[0], tensors) if last else PropertyCommittee(models)
    uncertain.calibrate(dict(zip(names, factors.tolist(), strict=True)))
    return uncertain.to(device=models[0].device).eval()


@contextmanager
def _fitting(path: str | PathLike[str]) -> Iterator[None]:
    """Name the file where what it holds does not fit the models."""
    try:
        yield
    except DataError as error:
        raise ModelFileError(f"{path} is damaged ({error}): calibrate again") from error


def _check_count(factors: torch.Tensor, names: Sequence[str]) -> None:
    if len(factors) != len(names):
        raise DataError(f"factors must be {len(names)} numbers, of {', '.join(names)}; got {len(factors)}")


def _read(
    models: Sequence[StoredModel], path: Path, kinds: Sequence[type[Ensemble[Any]]]
) -> tuple[str, dict[str, torch.Tensor]]:
    """Kind, out of some, and tensors of a file that was made for these models."""
    if not is_file(path):
        raise FileNotFoundError(f"no file of an uncertainty at {path}: make one with `ik-e3nn calibrate`")
    path.open("rb").close()  # says what is wrong with permissions, which safetensors does not
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # not a dict
        info: Any = json.loads(metadata[KEY])
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
        _check_numbers(info["kind"], tensors)
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged ({error}): calibrate again") from error
    digests, names = info["models_sha256"], [kind.__name__ for kind in kinds]
    if sorted(digests) != sorted(weights_digest(model) for model in models):
        raise ModelFileError(
            f"{path} was made for {len(digests)} model(s) with other weights than the {len(models)} given: calibrate "
            "these with `ik-e3nn calibrate`"
        )
    if info["kind"] not in names:
        raise ModelFileError(
            f"{path} is damaged (kind must be {' or '.join(names)} for these models, got {info['kind']!r}): calibrate "
            "again"
        )
    return info["kind"], tensors


def _check_info(info: Any) -> None:
    """Raise unless a description has what it must."""
    kinds = {"format_version": int, "kind": str, "models_sha256": list}
    for name, kind in kinds.items():
        found = info.get(name) if isinstance(info, dict) else None
        if type(found) is not kind:
            raise ValueError(f"{name} must be of type {kind.__name__}, got {json.dumps(found)[:80]}")
    names = [kind.__name__ for kind in KINDS]
    if info["kind"] not in names:
        raise ValueError(f"kind must be one of {', '.join(names)}; got {info['kind']!r:.80}")
    number, many = len(info["models_sha256"]), info["kind"] in (Committee.__name__, PropertyCommittee.__name__)
    if not all(isinstance(digest, str) for digest in info["models_sha256"]) or (number > 1) != many or not number:
        what = "at least two checksums" if many else "one checksum"
        raise ValueError(f"models_sha256 must be a list of {what} for the kind {info['kind']!r}, got {number} entries")


def _check_numbers(kind: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise unless tensors can be those of a kind of uncertainty; whether sizes are a model's is not known here."""
    roots = [name for name in tensors if name != "factors" and kind == LastLayerProperties.__name__]
    matrices = ["root", "directions"] if kind == LastLayerEnsemble.__name__ else roots
    for name in sorted({"factors", *matrices}.symmetric_difference(tensors)):
        raise ValueError(f"{name} {'does not belong there' if name in tensors else 'is missing'}")
    for name, tensor in tensors.items():
        expected, shape = ("a list" if name == "factors" else "a matrix"), tuple(tensor.shape)
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.ndim != 1 + (name != "factors") or 0 in shape:
            raise ValueError(f"{name} must be {expected} of floating-point numbers, got {tensor.dtype} {shape}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinity in it")
    for factor in tensors["factors"].tolist():
        check_factor("factors", factor)
    for name in matrices:
        # The prior is N(0, 1), and data only narrow it: rows are members or rows of a root of the covariance.
        longest = 1.0 if name != "directions" else (tensors[name].shape[1] / len(tensors[name])) ** 0.5
        lengths = tensors[name].double().norm(dim=1)
        if not bool(((lengths > 0) & (lengths < 1.001 * longest)).all()):
            raise ValueError(f"{name} has rows that are zero, or longer than a posterior's can be")
