"""Reading and writing the YAML configuration, with dotted overrides and errors that name the nearest right key."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from ik_e3nn.errors import ConfigError
from ik_e3nn.training.config import TrainConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Config = TypeVar("Config", bound=TrainConfig)


def sections_of(kind: type[TrainConfig]) -> tuple[str, ...]:
    """Names of a configuration's sections."""
    return tuple(field.name for field in dataclasses.fields(kind))


def config_parser(kind: type[TrainConfig] = TrainConfig, **options: Any) -> ArgumentParser:
    """The parser whose options are the fields of a configuration; the model's come from its constructor.

    Args:
        kind: `TrainConfig`, or another with the same and more sections.
        options: Passed on to `jsonargparse.ArgumentParser`.
    """
    from jsonargparse import ArgumentParser

    from ik_e3nn.models import InteratomicPotential

    parser = ArgumentParser(exit_on_error=False, **options)
    parser.add_argument("--config", action="config", help="YAML file with all or some of the settings below.")
    types = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name == "model" and kind.model_is_given:
            parser.add_argument("--model", type=dict[str, Any], default={}, help="What the base's arguments must be.")
        elif field.name == "model":
            parser.add_class_arguments(InteratomicPotential, "model", skip={"species"})
        else:
            parser.add_class_arguments(types[field.name], field.name)
            if field.default_factory is not dataclasses.MISSING:
                own = dataclasses.asdict(field.default_factory())
                parser.set_defaults({f"{field.name}.{name}": value for name, value in own.items()})
    return parser


def read_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
) -> Config:
    """Read a configuration file and apply dotted overrides.

    Args:
        path: YAML file; None for overrides alone.
        overrides: `--section.field=value` strings, as on the command line.
        kind: What configuration it is.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: An unknown or repeated key, with the nearest right one; or a value of the wrong type.
        FileNotFoundError: There is no such file.
    """
    parser = config_parser(kind)
    known = known_keys(kind)
    arguments = []
    if path is not None:
        check_keys(flatten(read_yaml(path)), known, where=str(path))
        arguments = [f"--config={path}"]
    check_keys((word[2:].split("=")[0] for word in overrides if word.startswith("--")), known, where="command line")
    return parse_config(parser, [*arguments, *overrides], kind)


def parse_config(parser: ArgumentParser, arguments: Sequence[str], kind: type[Config]) -> Config:
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


def write_config(config: TrainConfig, path: str | Path) -> None:
    """Write a configuration with every setting spelled out; `read_config` reads it back."""
    Path(path).write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))


def flat_values(config: TrainConfig) -> dict[str, Any]:
    """All settings under their dotted keys, the model's defaults included."""
    from ik_e3nn.models import InteratomicPotential

    sections = dataclasses.asdict(config)
    parameters = inspect.signature(InteratomicPotential).parameters.values()
    defaults = {} if config.model_is_given else {one.name: one.default for one in parameters if one.name != "species"}
    sections["model"] = {name: _as_yaml(value) for name, value in (defaults | sections["model"]).items()}
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def _as_yaml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def known_keys(kind: type[TrainConfig] = TrainConfig) -> list[str]:
    """All dotted keys of a configuration."""
    from ik_e3nn.models import InteratomicPotential

    types = typing.get_type_hints(kind)
    model = [name for name in inspect.signature(InteratomicPotential).parameters if name != "species"]
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
    """A parser's message of several lines as one sentence."""
    return " ".join(part.strip() for part in message.splitlines() if part.strip())


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
