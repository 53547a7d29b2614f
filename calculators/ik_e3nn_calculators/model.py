"""A private, frozen copy of a potential for running simulations, from a file or from an instance."""

import copy
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from ik_e3nn.errors import IKError, ModelFileError
from ik_e3nn.models import load_model

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def prepare_model(
    model: str | PathLike[str] | nn.Module,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
) -> nn.Module:
    """Load or copy a potential, move it, and freeze it for evaluation.

    Args:
        model: A model file, or an `InteratomicPotential`, which is copied and stays as it is.
        device: `"cpu"`, `"cuda"`, `"cuda:1"` ..., or `"auto"`: a GPU where there is one.
        dtype: Precision of the evaluation; None keeps the model's.

    Returns:
        A model in evaluation mode whose parameters need no gradients.

    Raises:
        ModelFileError: The file is missing, broken or newer than this library.
        TypeError: `model` is neither a path nor a module.
        ValueError: An unknown device or dtype.
    """
    where = resolve_device(device)
    precision = resolve_dtype(dtype)
    if isinstance(model, nn.Module):
        frozen = copy.deepcopy(model)
    elif isinstance(model, str | PathLike):
        frozen = _load(Path(model))
    else:
        raise TypeError(f"model must be a model file or an InteratomicPotential, got {type(model).__name__}")
    frozen = frozen.to(device=where) if precision is None else frozen.to(device=where, dtype=precision)
    return frozen.eval().requires_grad_(False)


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that a name stands for.

    Raises:
        ValueError: The name is unknown, or no such device is present.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu' or 'cuda'") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} was asked for, but torch sees no GPU here; use 'auto' or 'cpu'")
    return chosen


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The torch dtype that a name stands for; None stays None.

    Raises:
        ValueError: It is neither float32 nor float64.

    Example:
        >>> resolve_dtype("float64")
        torch.float64
    """
    if dtype is None or dtype in _DTYPES.values():
        return dtype  # type: ignore[return-value]
    if isinstance(dtype, str) and dtype in _DTYPES:
        return _DTYPES[dtype]
    raise ValueError(f"dtype must be 'float32' or 'float64', got {str(dtype)!r}")


def _load(path: Path) -> nn.Module:
    """Read a model file on the CPU."""
    if not path.is_file():
        raise ModelFileError(f"there is no model file {str(path)!r}")
    model = load_model(path, device="cpu")
    if not isinstance(model, nn.Module):
        raise IKError(f"{path} holds no potential")
    return model
