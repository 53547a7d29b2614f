"""Model files: one safetensors file, with everything else as JSON in its header. Loading never runs code from it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from safetensors import SafetensorError

from ik_e3nn.errors import ConfigError, MissingModelError, ModelFileError
from ik_e3nn.models.files.container import contents_digest, read_contents, write_contents
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import hint_for, model_path, packaged_domain
from ik_e3nn.models.files.upgrade import FORMAT_VERSION, STEPS, upgraded
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.nn import add_lora, lora_layers
from ik_e3nn.user_path import is_file

OLDEST_VERSION = min(STEPS)  # oldest format that can be read; its checksum covers names and bytes of the weights
DTYPES = {"float32": torch.float32, "float64": torch.float64}
KEY = "ik_e3nn"
M = TypeVar("M", bound=StoredModel)
MODELS: dict[str, type[StoredModel]] = {kind.__name__: kind for kind in (InteratomicPotential, MolecularPropertyModel)}
"""The classes of models that can be saved, by their names in the file."""
LARGEST = {
    "l_max": 12, "l_features": 12, "l_filter": 24, "correlation": 8, "num_layers": 100, "kernel_depth": 100,
    "grid_degree": 200, "windows": 1000,
}  # fmt: skip
MAY_BE_NAN = ("scales.per_atom", "scales.per_square")


def save_model(
    model: StoredModel, path: str | Path, summary: dict[str, Any] | None = None, *, overwrite: bool = False
) -> None:
    """Write a model to one file, completely or not at all.

    Args:
        model: A potential, or a model of properties.
        path: Path of the file, usually with the suffix ".safetensors".
        summary: Data about the training that JSON can store; it is stored as it is.
        overwrite: Replace an existing file.

    Raises:
        FileExistsError: The file exists and ``overwrite`` is False.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "water.safetensors"
        ...     save_model(InteratomicPotential(["H", "O"]), file)
        ...     load_model(file).config["r_max"]
        5.0
    """
    tensors = _tensors(model)
    info = {
        "format_version": FORMAT_VERSION,
        "model": type(model).__name__,
        "config": model.config,
        "lora": lora_layers(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "units": model.units,
        model.reference_entry: model.reference(),
        "versions": {name: _version(name) for name in ("ik-e3nn", "torch", "e3nn")},
        "trained_on": None if model.trained_on is None else asdict(model.trained_on),
        "training": summary or {},
    }
    bad = not_finite(tensors)
    if bad:
        raise ModelFileError(f"{path} was not written, because {bad}; the training has diverged")
    write_contents(path, KEY, info, tensors, overwrite=overwrite)


def read_model_info(path: str | PathLike[str]) -> dict[str, Any]:
    """The JSON part of a model file: configuration, species, E0s and their origin, units, versions, training.

    Args:
        path: The file; "base" and "base-properties" are the models that come with the package.

    Raises:
        MissingModelError: The file does not exist.
        ModelFileError: The file is not a model file, broken, or written by a newer version.
    """
    return _read(model_path(path))[0]


@overload
def load_model(
    path: str | PathLike[str], device: str | torch.device = "auto", dtype: torch.dtype | None = None
) -> StoredModel: ...


@overload
def load_model(
    path: str | PathLike[str], device: str | torch.device = "auto", dtype: torch.dtype | None = None, *, kind: type[M]
) -> M: ...


def load_model(
    path: str | PathLike[str],
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    *,
    kind: type[StoredModel] | None = None,
) -> StoredModel:
    """Read a model of any kind, ready for prediction.

    Args:
        path: The file; "base" and "base-properties" are the models that come with the package.
        device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU if one is available; graphs must be on the same device:
            ``graph.to(model.device)``.
        dtype: Floating type; by default the type in the file.
        kind: The class that the model must have; by default any.

    Returns:
        An ``InteratomicPotential`` or a ``MolecularPropertyModel``, in evaluation mode.

    Raises:
        MissingModelError: The file does not exist.
        ModelFileError: The file is not a model file, broken, written by a newer version, or of another kind.
        ConfigError: The device is unknown.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "gap.safetensors"
        ...     save_model(MolecularPropertyModel(["H", "C"], [Intensive("gap", "eV")]), file)
        ...     load_model(file).units["gap"]
        'eV'
    """
    path, where = model_path(path), resolve_device(device)
    info, tensors = _read(path)
    found = MODELS[info["model"]]
    if kind is not None and not issubclass(found, kind):
        raise ModelFileError(f"{path} holds {_a(found.__name__)}, not {_a(kind.__name__)}; it is for {found.commands}")
    try:
        check_sizes(info["config"], tensors)
        check_sizes(info.get("lora", {}), tensors)
        saved_dtype = DTYPES[info["dtype"]]
        model = found(**info["config"]).to(saved_dtype)
        for name, rank in info.get("lora", {}).items():
            add_lora(model.get_submodule(name), rank)
        for name, tensor in model.state_dict().items():
            if name in tensors and tensors[name].dtype != tensor.dtype:
                raise TypeError(f"{name} is {tensors[name].dtype} in the file, expected {tensor.dtype}")
        model.load_state_dict(tensors)
        model.take_reference(info[model.reference_entry])
        model.trained_on = _domain(path, info)
    except ConfigError as error:
        raise ModelFileError(f"{path}: the configuration in the file makes no model: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the weights do not fit the configuration in the file: {error!r}") from error
    return model.to(device=where, dtype=dtype or saved_dtype).eval()


def _a(name: str) -> str:
    """The name with its article."""
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _domain(path: Path, info: Mapping[str, Any]) -> Domain | None:
    """The domain of the model, if it is known; older files do not include unpaired electrons."""
    if info.get("trained_on") is None:
        return packaged_domain(path)
    return Domain(**({"unpaired": True} | info["trained_on"]))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not is_file(path):
        raise MissingModelError(f"there is no model file {str(path)!r}{hint_for(path)}")
    try:
        metadata, tensors = read_contents(path)
    except PermissionError:
        raise
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is not a readable model file ({error}); expected a .safetensors file that ik-e3nn wrote: name "
            "such a file, or copy this one again if it is truncated"
        ) from error
    if KEY not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but not a model of ik_e3nn: it lacks the entry {KEY!r}")
    try:
        info: Any = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: the description of the model is broken ({error})") from error
    found, writer = _format(info, path)
    if found > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {found}, written by ik-e3nn {writer}; this version reads up to format "
            f"{FORMAT_VERSION}: upgrade ik-e3nn"
        )
    if found < OLDEST_VERSION:
        raise ModelFileError(
            f"{path} has format {found}, from before the architecture changed; this version reads formats from "
            f"{OLDEST_VERSION} to {FORMAT_VERSION}: train the model again, or use the version that wrote it, ik-e3nn "
            f"{writer}"
        )
    checksum = "weights_sha256" if found == OLDEST_VERSION else "sha256"
    _check_description(info, checksum, path)
    digest = _digest(tensors) if found == OLDEST_VERSION else contents_digest(info, tensors)
    if info[checksum] != digest:
        raise ModelFileError(f"{path}: the file is damaged (its checksum is wrong): copy it or train the model again")
    bad = not_finite(tensors)
    if bad:
        raise ModelFileError(f"{path}: {bad}: train the model again, or use an earlier file")
    return upgraded(info, tensors)


def _format(info: Any, path: Path) -> tuple[int, str]:
    """The format number of a description, and the version of the package that wrote it."""
    kinds = {"format_version": (int, "a whole number"), "versions": (dict, "a mapping")}
    for name, (kind, words) in kinds.items():
        found = info.get(name, {} if kind is dict else None) if isinstance(info, dict) else None
        if type(found) is not kind:
            raise ModelFileError(
                f"{path}: the description of the model is broken: {name} must be {words}, got {json.dumps(found)[:80]}"
            )
    return info["format_version"], str(info.get("versions", {}).get("ik-e3nn"))


def _check_description(info: Mapping[str, Any], checksum: str, path: Path) -> None:
    """Refuse a description with missing entries, entries of a wrong type, or an unknown kind of model."""
    kinds: dict[str, type] = {"model": str, "config": dict, "dtype": str}
    if isinstance(info.get("model"), str):
        if info["model"] not in MODELS:
            raise ModelFileError(
                f"{path} holds {_a(info['model'])}, which this version does not know; it reads {' and '.join(MODELS)}: "
                "upgrade ik-e3nn"
            )
        kinds[MODELS[info["model"]].reference_entry] = dict
    missing = {*kinds, checksum} - info.keys()
    if missing:
        raise ModelFileError(f"{path}: the description of the model is incomplete; it lacks {sorted(missing)}")
    wrong = [name for name, kind in kinds.items() if not isinstance(info[name], kind)]
    if wrong or not isinstance(info.get("lora", {}), dict):
        raise ModelFileError(f"{path}: the description of the model is broken: {[*wrong, 'lora'][0]} has a wrong type")
    if info["dtype"] not in DTYPES:
        raise ModelFileError(f"{path}: unknown dtype {info['dtype']!r}; expected one of {', '.join(DTYPES)}")


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str:
    """A clause about weights that are NaN or infinite; empty if there are none.

    Reference numbers of elements may be NaN, which means that they are unknown.
    """
    for name, tensor in tensors.items():
        good = tensor.isfinite()
        if name.endswith(MAY_BE_NAN):
            good = good | tensor.isnan()
        if not bool(good.all()):
            return f"the weights {name!r} are NaN or infinite"
    return ""


def check_sizes(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse sizes that do not fit the weights in the file, because such a model might exhaust the memory.

    Raises:
        ValueError: A size is too large; the message names it.
    """
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_sizes(value, tensors)
        most = LARGEST.get(name, max(largest, len(tensors)))
        if isinstance(value, int) and not isinstance(value, bool) and value > most:
            raise ValueError(f"{name} is {value}, expected at most {most}")


def weights_digest(model: StoredModel, spelled: Callable[[str], str] = str) -> str:
    """The checksum of all weights of a model, with their names in the present spelling or that of ``spelled``."""
    return _digest({spelled(name): tensor for name, tensor in _tensors(model).items()})


def _tensors(model: StoredModel) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """Checksum of all weights, which safetensors does not have."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
