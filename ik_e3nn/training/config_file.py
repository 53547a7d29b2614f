"""Reading and writing the YAML configuration, with dotted overrides and errors that name the nearest right key."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ik_e3nn.errors import ConfigError
from ik_e3nn.training.config import TrainConfig
from ik_e3nn.training.property_config import PropertyConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from torch import nn

Config = TrainConfig | PropertyConfig
TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'str'>": "text",
    "<class 'bool'>": "true or false",
    "<class 'dict'>": "a mapping",
    "<class 'list'>": "a list",
    "<class 'NoneType'>": "null",
}
GIVEN_BY_DATA = {"species", "targets"}  # arguments of models that are no settings


def sections_of(kind: type[Config]) -> tuple[str, ...]:
    """Names of a configuration's sections."""
    return tuple(field.name for field in dataclasses.fields(kind))


def model_type(kind: type[Config]) -> type[nn.Module]:
    """The class that the model section of a configuration is for."""
    from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel

    return MolecularPropertyModel if issubclass(kind, PropertyConfig) else InteratomicPotential


def config_type(keys: Iterable[str]) -> type[Config]:
    """What a configuration with some dotted keys is for: properties if it names `data.targets`, a potential if not.

    >>> config_type(["data.train", "data.targets"]).__name__
    'PropertyConfig'
    """
    return PropertyConfig if any(f"{key}.".startswith("data.targets.") for key in keys) else TrainConfig


def config_parser(kind: type[Config] = TrainConfig, **options: Any) -> ArgumentParser:
    """The parser whose options are the fields of a configuration; the model's come from its constructor.

    Args:
        kind: `TrainConfig`, `PropertyConfig`, `FinetuneConfig` or `PropertyFinetuneConfig`.
        options: Passed on to `jsonargparse.ArgumentParser`.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, **options)
    parser.add_argument("--config", action="config", help="YAML file with all or some of the settings below.")
    types = typing.get_type_hints(kind)
    model = model_type(kind)
    given = GIVEN_BY_DATA & set(inspect.signature(model).parameters)
    for field in dataclasses.fields(kind):
        if field.name == "model" and kind.model_is_given:
            parser.add_argument("--model", type=dict[str, Any], default={}, help="What the base's arguments must be.")
        elif field.name == "model":
            parser.add_class_arguments(model, "model", skip=given)
        else:
            parser.add_class_arguments(types[field.name], field.name)
            if field.default_factory is not dataclasses.MISSING:
                own = dataclasses.asdict(field.default_factory())
                parser.set_defaults({f"{field.name}.{name}": value for name, value in own.items()})
    return parser


def read_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), *, kind: type[Config] | None = None
) -> Config:
    """Read a configuration file and apply dotted overrides.

    A configuration that names `data.targets` is one of properties, every other one of a potential.

    Args:
        path: YAML file; None for overrides alone.
        overrides: `--section.field=value` strings, as on the command line.
        kind: What configuration it is, if that is not to be told from the keys.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: An unknown or repeated key, with the nearest right one; or a value of the wrong type.
        FileNotFoundError: There is no such file.
    """
    keys = [] if path is None else list(flatten(read_yaml(path)))
    words = [word[2:].split("=")[0] for word in overrides if word.startswith("--")]
    kind = kind or config_type([*keys, *words])
    known = known_keys(kind)
    check_keys(keys, known, where=str(path))
    check_keys(words, known, where="command line")
    arguments = [] if path is None else [f"--config={path}"]
    return parse_config(config_parser(kind), [*arguments, *overrides], kind)


def parse_config(parser: ArgumentParser, arguments: Sequence[str], kind: type[Config] = TrainConfig) -> Config:
    """Parse checked arguments into a configuration.

    Raises:
        ConfigError: A value of the wrong type, or a required one that is missing.
    """
    try:
        parsed = parser.parse_args(list(arguments)).as_dict()
    except (argparse.ArgumentError, TypeError) as error:
        raise ConfigError(one_line(str(error))) from error
    types = typing.get_type_hints(kind)
    sections = {name: types[name](**parsed[name]) for name in sections_of(kind) if name != "model"}
    return kind(model={name: _as_yaml(value) for name, value in parsed["model"].items()}, **sections)


def write_config(config: Config, path: str | Path) -> None:
    """Write a configuration with every setting spelled out; `read_config` reads it back."""
    Path(path).write_text(yaml.safe_dump(_as_yaml(dataclasses.asdict(config)), sort_keys=False))


def flat_values(config: Config) -> dict[str, Any]:
    """All settings under their dotted keys, the model's defaults included."""
    sections = dataclasses.asdict(config)
    parameters = () if config.model_is_given else inspect.signature(model_type(type(config))).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.name not in GIVEN_BY_DATA}
    sections["model"] = {name: _as_yaml(value) for name, value in (defaults | sections["model"]).items()}
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def _as_yaml(value: Any) -> Any:
    """Plain lists and mappings in place of tuples and dataclasses, at every depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, tuple | list) else value


def known_keys(kind: type[Config] = TrainConfig) -> list[str]:
    """All dotted keys of a configuration."""
    types = typing.get_type_hints(kind)
    model = [name for name in inspect.signature(model_type(kind)).parameters if name not in GIVEN_BY_DATA]
    return [
        f"{section}.{name}"
        for section in sections_of(kind)
        for name in (model if section == "model" else [field.name for field in dataclasses.fields(types[section])])
    ]


def check_keys(keys: Iterable[str], known: Sequence[str], *, where: str) -> None:
    """Raise for the first key that is not known.

    Args:
        keys: Dotted keys; one that lies below a known key (an element of `data.E0s`) is fine.
        known: All dotted keys there are.
        where: File or place, for the message.

    Raises:
        ConfigError: Names the key and the nearest known one.

    >>> check_keys(["run.max_epoch"], ["run.max_epochs", "run.seed"], where="a.yaml")
    Traceback (most recent call last):
    ...
    ik_e3nn.errors.ConfigError: a.yaml: unknown setting 'run.max_epoch'; did you mean 'run.max_epochs'?
    """
    options = set(known) | {key.split(".")[0] for key in known}
    for key in keys:
        if key in options or any(key.startswith(f"{name}.") for name in known):
            continue
        raise ConfigError(f"{where}: unknown setting {key!r}; {nearest(key, known)}")


def nearest(key: str, known: Sequence[str]) -> str:
    """A hint for a key that does not exist: the nearest ones by the whole path, then by the last part alone."""
    last = {name.rpartition(".")[2]: name for name in known}
    by_path = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    by_name = difflib.get_close_matches(key.rpartition(".")[2], list(last), n=1, cutoff=0.6)
    same_name = [name for name in by_name if name == key.rpartition(".")[2]]
    found = [last[name] for name in same_name] + by_path + [last[name] for name in by_name]
    return f"did you mean {found[0]!r}?" if found else f"there are {', '.join(known)}."


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: It is no YAML, no mapping, or has a key twice.
        FileNotFoundError: There is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no configuration file {str(path)!r}")
    try:
        content = yaml.load(Path(path).read_text(), Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {one_line(str(error))}") from error
    if not isinstance(content, dict):
        sections = ", ".join(sections_of(TrainConfig))
        raise ConfigError(f"{path} must hold sections ({sections}), got {type(content).__name__}.")
    return content


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the leaves of nested mappings.

    >>> list(flatten({"run": {"seed": 1, "dtype": "float32"}, "data": {}}))
    ['run.seed', 'run.dtype', 'data']
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def one_line(message: str) -> str:
    r"""A parser's message of several lines as one sentence, with types in words.

    >>> one_line('''Parser key "poses":
    ...   Expected a <class 'int'>. Got value: many''')
    "poses must be a whole number, got 'many'"
    """
    text = " ".join(part.strip() for part in message.splitlines() if part.strip())
    match = re.match(r'Parser key "([^"]+)": (.*(?:Got|Given) value: (.*))$', text)
    expected = [] if match is None else re.findall(r"Expected an? (typing\.Literal\[.*?\]|<class '\w+'>)", match[2])
    if match is None or not expected:
        return text
    return f"{match[1]} must be {' or '.join(dict.fromkeys(map(_in_words, expected)))}, got {match[3]!r}"


def _in_words(kind: str) -> str:
    """What a type of a setting is called in messages."""
    if kind.startswith("typing.Literal"):
        return f"one of {kind.partition('[')[2].rstrip(']')}"
    return TYPES.get(kind, kind)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that has the same key twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} appears twice", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)
