"""Model files: one safetensors file, with everything else as JSON in its header. Loading never runs code from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import ModelFileError
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.files.pretrained import packaged_domain
from ik_e3nn.models.files.upgrade import FORMAT_VERSION, STEPS, upgraded
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.nn import add_lora, lora_layers
from ik_e3nn.user_path import is_file

OLDEST_VERSION = min(STEPS)  # that is still read: its checksum covers names and bytes of the weights
DTYPES = {"float32": torch.float32, "float64": torch.float64}
KEY = "ik_e3nn"
Model = InteratomicPotential | MolecularPropertyModel
M = TypeVar("M", InteratomicPotential, MolecularPropertyModel)
COMMANDS = {
    "InteratomicPotential": "ik-e3nn eval, md, relax and dock",
    "MolecularPropertyModel": "ik-e3nn predict, and finetune with data.targets",
}
LARGEST = {"l_max": 12, "l_features": 12, "correlation": 8, "num_layers": 100, "kernel_depth": 100, "grid_degree": 200}
MAY_BE_NAN = ("scales.per_atom", "scales.per_square")
UNITS = {"length": "A", "energy": "eV", "forces": "eV/A", "stress": "eV/A^3"}


def save_model(
    model: Model, path: str | Path, summary: dict[str, Any] | None = None, *, overwrite: bool = False
) -> None:
    """Write a model to one file, at once or not at all.

    Args:
        model: A potential, or a model of properties.
        path: Where; ".safetensors" is the usual ending.
        summary: Anything JSON-able about the training, kept as it is.
        overwrite: Replace a file that exists.

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
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another name, or say overwrite=True")
    tensors = _tensors(model)
    info = {
        "format_version": FORMAT_VERSION,
        "model": type(model).__name__,
        "config": model.config,
        "lora": lora_layers(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        **_units_and_references(model),
        "versions": {name: _version(name) for name in ("ik-e3nn", "torch", "e3nn")},
        "trained_on": None if model.trained_on is None else asdict(model.trained_on),
        "training": summary or {},
    }
    bad = not_finite(tensors)
    if bad:
        raise ModelFileError(f"{path} is not written: {bad}; the training has diverged")
    info = json.loads(json.dumps(info, allow_nan=False, default=str))
    data = save(tensors, metadata={KEY: json.dumps(info | {"sha256": contents_digest(info, tensors)})})
    with written_at_once(path) as file:
        file.write(data)


def read_model_info(path: str | Path) -> dict[str, Any]:
    """The JSON part of a model file: configuration, species, E0 and where they come from, units, versions, training.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: Not a model file, broken, or written by a newer version.
    """
    return _read(Path(path))[0]


def load_model(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> InteratomicPotential:
    """Read a model, ready for prediction.

    Args:
        path: The file.
        device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one.
        dtype: Floating type; the one it was saved with if absent.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: Not a model file, broken, or written by a newer version.
        ConfigError: An unknown device.
    """
    model, info = _load(Path(path), InteratomicPotential, device, dtype)
    try:
        model.energy_reference_provenance = str(info["energy_reference"]["provenance"])
    except (TypeError, KeyError) as error:
        raise ModelFileError(f"{path}: the weights do not fit the configuration in the file: {error!r}") from error
    return model


def load_property_model(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> MolecularPropertyModel:
    """Read a model of properties, ready for prediction; arguments and errors are those of ``load_model``.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "gap.safetensors"
        ...     save_model(MolecularPropertyModel(["H", "C"], [Intensive("gap", "eV")]), file)
        ...     load_property_model(file).targets[0].unit
        'eV'
    """
    return _load(Path(path), MolecularPropertyModel, device, dtype)[0]


def _load(path: Path, kind: type[M], device: str | torch.device, dtype: torch.dtype | None) -> tuple[M, dict[str, Any]]:
    """A model of one kind, and what is in its file."""
    where = resolve_device(device)
    info, tensors = _read(path)
    if info["model"] != kind.__name__:
        article, other = ("an" if name[0] in "AEIO" else "a" for name in (kind.__name__, info["model"]))
        use = f"; it is for {COMMANDS[info['model']]}" if info["model"] in COMMANDS else ""
        raise ModelFileError(f"{path} holds {other} {info['model']}, not {article} {kind.__name__}{use}")
    try:
        check_sizes(info["config"], tensors)
        check_sizes(info.get("lora", {}), tensors)
        saved_dtype = DTYPES[info["dtype"]]
        model = kind(**info["config"]).to(saved_dtype)
        for name, rank in info.get("lora", {}).items():
            add_lora(model.get_submodule(name), rank)
        for name, tensor in model.state_dict().items():
            if name in tensors and tensors[name].dtype != tensor.dtype:
                raise TypeError(f"{name} is {tensors[name].dtype} in the file, expected {tensor.dtype}")
        model.load_state_dict(tensors)
        model.trained_on = _domain(path, info)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the weights do not fit the configuration in the file: {error!r}") from error
    return model.to(device=where, dtype=dtype or saved_dtype).eval(), info


def _domain(path: Path, info: Mapping[str, Any]) -> Domain | None:
    """What the model was trained on, where that is known; older files do not say it of unpaired electrons."""
    if info.get("trained_on") is None:
        return packaged_domain(path)
    return Domain(**({"unpaired": True} | info["trained_on"]))


def _units_and_references(model: Model) -> dict[str, Any]:
    """What a model's numbers mean."""
    symbols = [chemical_symbols[z] for z in model.species]
    if isinstance(model, MolecularPropertyModel):
        rows = zip(model.targets, model.scales.per_atom.tolist(), model.scales.shift.tolist(), strict=True)
        references = {
            t.name: {"shift": b, **{s: None if isnan(value) else value for s, value in zip(symbols, a, strict=True)}}
            for t, a, b in rows
        }
        return {"units": {"length": "A", **{t.name: t.unit for t in model.targets}}, "references": references}
    values = dict(zip(symbols, model.atomic_energy.reference.tolist(), strict=True))
    return {
        "units": UNITS,
        "energy_reference": {"values": values, "provenance": model.energy_reference_provenance},
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not is_file(path):
        raise FileNotFoundError(f"no model file at {path}")
    path.open("rb").close()  # says what is wrong with permissions, which safetensors does not
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # not a dict
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is not a readable model file ({error}); it may be truncated: copy it again or train anew"
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
    reference = "references" if info.get("model") == MolecularPropertyModel.__name__ else "energy_reference"
    checksum = "weights_sha256" if found == OLDEST_VERSION else "sha256"
    missing = {"model", "config", "dtype", reference, checksum} - info.keys()
    if missing:
        raise ModelFileError(f"{path}: the description of the model is incomplete; it lacks {sorted(missing)}")
    kinds = {"model": str, "config": dict, "dtype": str, reference: dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(info[name], kind)]
    if wrong or not isinstance(info.get("lora", {}), dict):
        raise ModelFileError(f"{path}: the description of the model is broken: {[*wrong, 'lora'][0]} has a wrong type")
    if info["dtype"] not in DTYPES:
        raise ModelFileError(f"{path}: unknown dtype {info['dtype']!r}; expected one of {', '.join(DTYPES)}")
    digest = _digest(tensors) if found == OLDEST_VERSION else contents_digest(info, tensors)
    if info[checksum] != digest:
        raise ModelFileError(f"{path}: the file is damaged (its checksum is wrong): copy it again or train anew")
    bad = not_finite(tensors)
    if bad:
        raise ModelFileError(f"{path}: {bad}: train anew, or use an earlier file")
    return upgraded(info, tensors)


def _format(info: Any, path: Path) -> tuple[int, str]:
    """The number of the format that a description is in, and the version of the package that wrote it."""
    kinds = {"format_version": (int, "a whole number"), "versions": (dict, "a mapping")}
    for name, (kind, words) in kinds.items():
        found = info.get(name, {} if kind is dict else None) if isinstance(info, dict) else None
        if type(found) is not kind:
            raise ModelFileError(
                f"{path}: the description of the model is broken: {name} must be {words}, got {json.dumps(found)[:80]}"
            )
    return info["format_version"], str(info.get("versions", {}).get("ik-e3nn"))


def contents_digest(info: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Checksum of everything in a file: the description, and name, type, shape and numbers of every tensor."""
    described = {name: value for name, value in info.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str:
    """Which weights are NaN or infinite, in words; empty if none are.

    What an element adds to a property may be unknown, which is NaN.
    """
    for name, tensor in tensors.items():
        good = tensor.isfinite()
        if name.endswith(MAY_BE_NAN):
            good = good | tensor.isnan()
        if not bool(good.all()):
            return f"the weights {name!r} are NaN or infinite"
    return ""


def check_sizes(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse sizes that no weights in the file can have: a model of them would exhaust the memory before that shows.

    Raises:
        ValueError: Names the setting.
    """
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_sizes(value, tensors)
        most = LARGEST.get(name, max(largest, len(tensors)))
        if isinstance(value, int) and not isinstance(value, bool) and value > most:
            raise ValueError(f"{name} is {value}, expected at most {most}")


def weights_digest(model: Model) -> str:
    """The checksum of all weights that the model's file has."""
    return _digest(_tensors(model))


def _tensors(model: Model) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """Checksum of all weights; safetensors has none of its own."""
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
