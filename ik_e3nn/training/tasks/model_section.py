"""The section ``model`` of a configuration: checks of its values before data are read, and models made from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ik_e3nn.blocks.face import parse_group
from ik_e3nn.blocks.steerable_settings import SteerableSettings
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.settings import check_value
from ik_e3nn.training.config.file import GIVEN_BY_DATA
from ik_e3nn.training.config.options import nearest, options_of
from ik_e3nn.training.config.schema import TrainConfig

# Arguments that hold the arguments of another class, and which of the latter come from elsewhere.
_NESTED: dict[str, tuple[type[Any], set[str]]] = {
    "potential": (InteratomicPotential, {*GIVEN_BY_DATA, "r_max"}),
    "steerable": (SteerableSettings, set()),
}


def check_model_arguments(
    arguments: Mapping[str, Any],
    kind: type[Any] = InteratomicPotential,
    *,
    section: str = "model",
    given: Collection[str] = GIVEN_BY_DATA,
) -> None:
    """Raise for an argument that a class does not have, or that has the wrong type.

    Args:
        arguments: The arguments.
        kind: The class that they are for.
        section: The name of their section in messages.
        given: Arguments that come from elsewhere.

    Raises:
        ConfigError: Names the argument and the nearest known one, or what it must be.

    Example:
        >>> check_model_arguments({"group": "C4w"})
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.ConfigError: model.group: unknown symmetry group 'C4w': expected one of C1, Ci, Cs, C_n, ...
    """
    known = options_of(kind, skip=given)
    for name, value in arguments.items():
        where = f"{section}.{name}"
        if name not in known:
            raise ConfigError(f"unknown setting {where!r}; {nearest(name, known)}")
        check_value(value, known[name].kind, where)
        if name == "group":
            try:
                parse_group(value, frozenset(arguments.get("inputs") or ()))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{where}: {error}") from error
    for name, inner, part, outside in _parts(arguments, known):
        check_model_arguments(part, inner, section=f"{section}.{name}", given=outside)


def seeded(config: TrainConfig, kind: type[nn.Module], *given: Any) -> nn.Module:
    """The model of a configuration, on the CPU in its precision; the same seed gives the same model.

    Args:
        config: The configuration.
        kind: The class of the model.
        given: Positional arguments, which come from the data.

    Raises:
        ConfigError: The model refuses one of its arguments.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        try:
            model = kind(*given, **config.model)
        except (TypeError, ValueError) as error:
            raise ConfigError(_placed(str(error), config.model, options_of(kind, skip=GIVEN_BY_DATA))) from error
    return model.to(getattr(torch, config.run.dtype))


def _parts(
    arguments: Mapping[str, Any], known: Collection[str]
) -> Iterator[tuple[str, type[Any], Mapping[str, Any], set[str]]]:
    """Arguments that hold those of another class: name, class, content, and arguments that come from elsewhere."""
    for name, (inner, outside) in _NESTED.items():
        if name in known and isinstance(arguments.get(name), Mapping):
            yield name, inner, arguments[name], outside


def _placed(message: str, arguments: Mapping[str, Any], known: Collection[str]) -> str:
    """The error message of a model, whose first word is the wrong argument, with the full name of that argument."""
    word = message.split(" ", 1)[0]
    for name, inner, _, outside in _parts(arguments, known):
        if word in options_of(inner, skip=outside):
            return f"model.{name}.{message}"
    return f"model.{message}" if word in known else f"model: {message}"
