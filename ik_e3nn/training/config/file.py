"""Reading and writing the YAML configuration, with dotted overrides."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import check_value
from ik_e3nn.training.config.options import Option, build, check_names, converted, options_of, put, read_words
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.config.yaml_file import given_keys, read_yaml

if TYPE_CHECKING:
    from torch import nn

GIVEN_BY_DATA = {"species", "targets"}  # arguments of models that are not settings


def model_type(keys: Iterable[str]) -> type[nn.Module]:
    """The class of model for a configuration with these dotted keys.

    >>> model_type(["data.train", "data.targets"]).__name__
    'MolecularPropertyModel'
    """
    from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel

    named = any(f"{key}.".startswith("data.targets.") for key in keys)
    return MolecularPropertyModel if named else InteratomicPotential


def model_of(config: TrainConfig) -> type[nn.Module]:
    """The class of model for a configuration."""
    return model_type([] if config.data.targets is None else ["data.targets"])


def config_options(kind: type[TrainConfig] = TrainConfig, model: type[nn.Module] | None = None) -> dict[str, Option]:
    """All settings of a configuration by dotted name: its fields, and for the model the arguments of its class.

    Args:
        kind: ``TrainConfig`` or ``FinetuneConfig``.
        model: The class of model; ``InteratomicPotential`` if absent.
    """
    of_model = options_of(model or model_type([]), skip=GIVEN_BY_DATA)
    found: dict[str, Option] = {}
    for name, option in options_of(kind).items():
        found |= {f"model.{inner}": one for inner, one in of_model.items()} if name == "model" else {name: option}
    return found


def read_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), *, kind: type[TrainConfig] = TrainConfig
) -> TrainConfig:
    """Read a configuration file and apply dotted overrides.

    A configuration with ``data.targets`` is for a model of properties, any other for a potential.

    Args:
        path: YAML file; None to use only overrides.
        overrides: ``--section.field=value`` strings, as on the command line.
        kind: ``TrainConfig`` or ``FinetuneConfig``.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: A key is unknown or repeated, or a value has the wrong type.
        FileNotFoundError: The file does not exist.
    """
    sections = ", ".join(field.name for field in dataclasses.fields(TrainConfig))
    content = {} if path is None else read_yaml(path, f"sections ({sections})")
    words = [word[2:].split("=")[0] for word in overrides if word.startswith("--")]
    of_model = model_type([*given_keys(content), *words])
    options = config_options(kind, of_model)
    check_names(content, options, where=str(path))
    alone, given = read_words(overrides, options)
    if alone:
        raise ConfigError(f"command line: {alone[0]!r} belongs to no option; give settings as --SECTION.NAME=VALUE")
    for name, value in given:
        put(content, name, value)
    model = {} if kind.model_is_given else _defaults(of_model)
    for name, value in content.get("model", {}).items():
        option = options[f"model.{name}"]
        model[name] = converted(value, option.kind)
        check_value(model[name], option.kind, f"model.{name}")
    return build(kind, {**content, "model": as_yaml(model)})


def write_config(config: TrainConfig, path: str | Path, *, notes: Sequence[str] = ()) -> None:
    """Write a configuration with all its settings, completely or not at all; ``read_config`` reads it back.

    Args:
        config: The configuration.
        path: The file.
        notes: Comments to write above the settings; see ``config_notes``.
    """
    with written_at_once(Path(path)) as file:
        file.write("".join(f"# {note}\n" for note in notes).encode())
        file.write(settings_text(config).encode())


def settings_text(settings: Any) -> str:
    """A settings dataclass in YAML."""
    return yaml.safe_dump(as_yaml(settings), sort_keys=False)


def config_notes(path: Path) -> list[str]:
    """The comments that ``write_config`` has written above a configuration."""
    lines = itertools.takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
    return [line.removeprefix("# ") for line in lines]


def flat_values(config: TrainConfig) -> dict[str, Any]:
    """All settings by dotted key, including the defaults of the model."""
    sections = dataclasses.asdict(config)
    defaults = {} if config.model_is_given else _defaults(model_of(config))
    sections["model"] = {name: as_yaml(value) for name, value in (defaults | sections["model"]).items()}
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def as_yaml(value: Any) -> Any:
    """The value with plain lists and mappings instead of tuples and dataclasses, at every depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: as_yaml(item) for key, item in value.items()}
    return [as_yaml(item) for item in value] if isinstance(value, tuple | list) else value


def _defaults(model: type[nn.Module]) -> dict[str, Any]:
    """The arguments of a model that are settings, with their defaults."""
    return {name: option.default for name, option in options_of(model, skip=GIVEN_BY_DATA).items()}
