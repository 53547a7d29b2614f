"""Files that say how sure models are: they belong to model files and hold no weights of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import ModelFileError
from ik_e3nn.models.checkpoint import Model, contents_digest, weights_digest
from ik_e3nn.models.last_layer import LastLayerEnsemble
from ik_e3nn.models.potential import InteratomicPotential
from ik_e3nn.models.property import MolecularPropertyModel
from ik_e3nn.models.uncertain import Committee, UncertainPotential
from ik_e3nn.models.uncertain_properties import LastLayerProperties, PropertyCommittee, UncertainProperties

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
        "models_sha256": [weights_digest(cast(Model, member)) for member in model.members],
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
        path: A file that `save_uncertainty` has written.

    Returns:
        A potential with standard deviations, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: It is broken, newer than this library, or was made for other models.
    """
    kind, tensors = _read(models, Path(path))
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
    """The same for models of properties; arguments and errors are those of `with_uncertainty`."""
    kind, tensors = _read(models, Path(path))
    factors = tensors.pop("factors").tolist()
    uncertain = (
        LastLayerProperties(models[0], tensors) if kind == LastLayerProperties.__name__ else PropertyCommittee(models)
    )
    uncertain.calibrate(dict(zip([target.name for target in models[0].targets], factors, strict=True)))
    return uncertain.to(device=models[0].device).eval()


def _read(models: Sequence[Model], path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Kind and tensors of a file that was made for these models."""
    if not path.is_file():
        raise FileNotFoundError(f"no file of an uncertainty at {path}: make one with `ik-e3nn calibrate`")
    path.open("rb").close()  # says what is wrong with permissions, which safetensors does not
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # not a dict
        info: dict[str, Any] = json.loads(metadata[KEY])
        version, digests, kind = info["format_version"], sorted(info["models_sha256"]), info["kind"]
        if type(version) is not int:
            raise TypeError(f"format_version must be a whole number, got {version!r:.80}")
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is no file of an uncertainty, or is damaged: calibrate again ({error})"
        ) from error
    if version > FORMAT_VERSION:
        raise ModelFileError(f"{path} has format {version}, this version reads up to {FORMAT_VERSION}: upgrade ik-e3nn")
    # Files of version 1 have no checksum; one that was taken back to version 1 by hand has.
    damaged = (version != 1 or "sha256" in info) and info.get("sha256") != contents_digest(info, tensors)
    if damaged or not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ModelFileError(f"{path} is damaged (its checksum is wrong, or it has NaN in it): calibrate again")
    if digests != sorted(weights_digest(model) for model in models):
        raise ModelFileError(
            f"{path} was made for {len(digests)} model(s) with other weights than the {len(models)} given: calibrate "
            "these with `ik-e3nn calibrate`"
        )
    return kind, tensors
