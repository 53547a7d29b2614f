"""A private, frozen copy of a potential for running simulations, from a file or from an instance."""

import copy
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import (
    Committee,
    Ensemble,
    InteratomicPotential,
    MolecularPropertyModel,
    Potential,
    StoredModel,
    load_model,
    with_uncertainty,
)
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.networks.interface import as_potential

ModelLike = str | PathLike[str] | nn.Module | Sequence[str | PathLike[str] | StoredModel]
"""A model file, "base" for the base model that comes with the package, a potential, or several of these.

The potential of a joint model, which predicts energies and properties, is used as if it were saved alone.
"""

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def prepare_model(
    model: ModelLike,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    uncertainty: str | PathLike[str] | None = None,
) -> Potential:
    """Load or copy a potential, or the potential of a joint model, and freeze it for evaluation on a device.

    Args:
        model: A model file, ``"base"`` for the base model that comes with the package, or a potential, which is copied
            and stays unchanged; several files or instances of models with energies make a committee.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ..., or ``"auto"``: a GPU if available.
        dtype: Precision of the evaluation; None keeps the model's.
        uncertainty: A file of ``ik-e3nn calibrate`` that was made for this model or these models.

    Returns:
        A model in evaluation mode whose parameters need no gradients.

    Raises:
        ModelFileError: The file is missing, broken, newer than this library, without energies, or made for other
            models.
        TypeError: ``model`` is neither a path nor a module, nor a sequence of these.
        DataError: A module is not a potential, or a committee has one member or members with different inputs.
        ConfigError: The device or dtype is unknown.
    """
    return prepare_both(model, device=device, dtype=dtype, uncertainty=uncertainty)[0]


def prepare_both(
    model: ModelLike,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    uncertainty: str | PathLike[str] | None = None,
) -> tuple[Potential, MolecularPropertyModel | Ensemble | None]:
    """The potential, see ``prepare_model``, and the joint model or models that it belongs to, if there are any."""
    where = resolve_device(device)
    precision = resolve_dtype(dtype)
    frozen: nn.Module
    if isinstance(model, nn.Module) and uncertainty is None:
        frozen = copy.deepcopy(model)
    else:
        several = isinstance(model, Sequence) and not isinstance(model, str)
        members = [_member(one) for one in (cast(Sequence[Any], model) if several else [model])]
        if several and not members:
            raise DataError("the list of models is empty; give a model file or a potential, or at least two of them")
        potentials = [_potential_of(one) for one in members]
        if uncertainty is not None:
            frozen = with_uncertainty(members, uncertainty)
        elif several:  # of models with other properties, only the potentials make a committee
            frozen = Committee(members if all(one.targets == members[0].targets for one in members) else potentials)
        else:
            frozen = members[0]
    frozen = frozen.to(device=where) if precision is None else frozen.to(device=where, dtype=precision)
    frozen.eval().requires_grad_(False)
    if isinstance(frozen, MolecularPropertyModel):
        return as_potential(_potential_of(frozen)), frozen
    if isinstance(frozen, Ensemble) and isinstance(frozen.first, MolecularPropertyModel):
        return as_potential(frozen.of_potentials()), frozen
    return as_potential(frozen), None


def _potential_of(model: StoredModel) -> InteratomicPotential:
    """The potential in a model, with the domain of the whole model.

    Raises:
        DataError: The model has no potential.
    """
    potential = model.potential
    if potential is None:
        names = ", ".join(target.name for target in model.targets)
        raise DataError(
            f"the model predicts {names}, but no energies, which are needed here; it is for {model.commands}"
        )
    potential.trained_on = model.trained_on
    return potential


def check_arguments(*, skin: object, max_edges: object = None, **flags: object) -> None:
    """Refuse arguments of a calculator that have a wrong type or are out of range.

    Raises:
        ConfigError: An argument is wrong; the message gives its value and what is expected.

    Example:
        >>> check_arguments(skin=0.5, max_edges=1000, compile=False)
    """
    number = isinstance(skin, Real) and not isinstance(skin, bool | np.bool_)
    if not number or not 0.0 <= float(cast(Any, skin)) < float("inf"):
        raise ConfigError(f"skin must be a finite length in A of at least 0, got {skin!r}")
    whole = isinstance(max_edges, Integral) and not isinstance(max_edges, bool | np.bool_)
    if max_edges is not None and not (whole and cast(Any, max_edges) >= 1):
        raise ConfigError(f"max_edges must be a whole number of at least 1, or None for no bound; got {max_edges!r}")
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise ConfigError(f"{name} must be True or False, got {flag!r}")


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The torch dtype of a name; None stays None.

    Raises:
        ConfigError: The dtype is neither float32 nor float64.

    Example:
        >>> resolve_dtype("float64")
        torch.float64
    """
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype in _DTYPES.values()):
        return dtype
    if isinstance(dtype, str) and dtype in _DTYPES:
        return _DTYPES[dtype]
    raise ConfigError(f"dtype must be 'float32' or 'float64', got {str(dtype)!r}")


def _member(model: Any) -> StoredModel:
    """A copy of a model, or the model in a file, on the CPU."""
    if isinstance(model, StoredModel):
        return copy.deepcopy(model)
    if isinstance(model, nn.Module) or not isinstance(model, str | PathLike):
        raise TypeError(f"model must be a model file or an InteratomicPotential, got {type(model).__name__}")
    return load_model(model, device="cpu")
