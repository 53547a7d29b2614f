"""Reading and writing the YAML configuration, with dotted overrides and errors that suggest the nearest known key."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import inspect
import itertools
import operator
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docstring_parser
import yaml

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import ConfigError
from ik_e3nn.renamed import new_name
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.config.yaml_file import flatten, given_keys, read_yaml, refuse_class

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from torch import nn

TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'str'>": "text",
    "<class 'bool'>": "true or false",
    "<class 'dict'>": "a mapping",
    "<class 'list'>": "a list",
    "<class 'NoneType'>": "null",
    "<class 'collections.abc.Iterable'>": "a list",
    "<class 'collections.abc.Sequence'>": "a list",
    "<class 'collections.abc.Mapping'>": "a mapping",
}
GIVEN_BY_DATA = {"species", "targets"}  # arguments of models that are not settings


def sections_of(kind: type[TrainConfig]) -> tuple[str, ...]:
    """Names of the sections of a configuration."""
    return tuple(field.name for field in dataclasses.fields(kind))


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


def config_parser(
    kind: type[TrainConfig] = TrainConfig, model: type[nn.Module] | None = None, **options: Any
) -> ArgumentParser:
    """A parser whose options are the fields of a configuration and, for the model, the arguments of its constructor.

    Args:
        kind: ``TrainConfig`` or ``FinetuneConfig``.
        model: The class of model; ``InteratomicPotential`` if absent.
        options: Passed on to ``jsonargparse.ArgumentParser``.
    """
    from ik_e3nn.training.config.parser import PlainParser

    parser = PlainParser(exit_on_error=False, **options)
    parser.add_argument("--config", action="config", help="YAML file with all or some of the settings below.")
    hints = typing.get_type_hints(kind)
    model = model or model_type([])
    given = GIVEN_BY_DATA & set(inspect.signature(model).parameters)
    for field in dataclasses.fields(kind):
        if field.name == "model" and kind.model_is_given:
            parser.add_argument("--model", type=dict[str, Any], default={}, help="Arguments that the base must have.")
        elif field.name == "model":
            _add_model_arguments(parser, model, given)
        else:
            parser.add_class_arguments(hints[field.name], field.name)
            if field.default_factory is not dataclasses.MISSING:
                own = dataclasses.asdict(field.default_factory())
                parser.set_defaults({f"{field.name}.{name}": value for name, value in own.items()})
    return parser


def _add_model_arguments(parser: ArgumentParser, model: type[nn.Module], given: set[str]) -> None:
    """Add the arguments of a model; those that accept objects take text and mappings, so that no class is imported."""
    hints, parameters = typing.get_type_hints(model.__init__), inspect.signature(model).parameters
    plain = {name: _without_classes(hints[name]) for name in parameters if name not in given}
    objects = {name for name, kind in plain.items() if kind != hints[name]}
    parser.add_class_arguments(model, "model", skip=given | objects)
    documented = (
        docstring_parser.parse(model.__doc__ or "").params + docstring_parser.parse(model.__init__.__doc__ or "").params
    )
    helps = {one.arg_name: one.description for one in documented}
    for name in sorted(objects):
        default = parameters[name].default
        parser.add_argument(f"--model.{name}", type=plain[name], default=default, help=helps.get(name))


def _without_classes(kind: Any) -> Any:
    """A union of types without the classes of this package.

    >>> from ik_e3nn.symmetry import SymmetryGroup
    >>> _without_classes(SymmetryGroup | str)
    <class 'str'>
    """
    members = (
        typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else ()
    )
    kept = [one for one in members if not (inspect.isclass(one) and one.__module__.startswith("ik_e3nn."))]
    return functools.reduce(operator.or_, kept) if len(kept) < len(members) else kind


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
    content = {} if path is None else read_yaml(path, f"sections ({', '.join(sections_of(TrainConfig))})")
    keys = list(flatten(content))
    words = [word[2:].split("=")[0] for word in overrides if word.startswith("--")]
    model = model_type([*given_keys(content), *words])
    known = known_keys(kind, model)
    check_keys(keys, known, where=str(path))
    check_keys(words, known, where="command line")
    sections = {name for name in sections_of(kind) if name != "model" or not kind.model_is_given}
    check_sections(content, overrides, sections)
    arguments = [] if path is None else [f"--config={path}"]
    return parse_config(config_parser(kind, model), [*arguments, *overrides], kind)


def check_sections(content: Mapping[str, Any], words: Sequence[str], sections: Collection[str]) -> None:
    """Raise if a whole section is given a single value, which the parser could take for a class to import.

    Args:
        content: The content of the file.
        words: The words of the command line.
        sections: Names of the sections.

    Raises:
        ConfigError: Names the section.

    >>> check_sections({}, ["--run=os.system"], ["run"])
    Traceback (most recent call last):
    ...
    ik_e3nn.errors.ConfigError: run is a section: give its settings one by one, as --run.NAME=VALUE; got 'os.system'
    """
    for name in sections:
        if name in content and not isinstance(content[name], Mapping):
            got = "null" if content[name] is None else repr(content[name])
            raise ConfigError(f"{name} is a section and must be a mapping of settings; got {got}")
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in sections:
            raise ConfigError(
                f"{name} is a section: give its settings one by one, as --{name}.NAME=VALUE; got {value!r}"
            )
        for key in ("class_path", "init_args"):
            if re.search(rf"[{{,.\"'\s]{key}[\"']?\s*[:=]", word):
                refuse_class(key, "command line")


def parse_config(
    parser: ArgumentParser, arguments: Sequence[str], kind: type[TrainConfig] = TrainConfig
) -> TrainConfig:
    """Parse checked arguments into a configuration.

    Raises:
        ConfigError: A value has the wrong type, or a required setting is missing.
    """
    try:
        parsed = parser.parse_args(list(arguments)).as_dict()
    except (argparse.ArgumentError, TypeError) as error:
        raise ConfigError(one_line(str(error))) from error
    hints = typing.get_type_hints(kind)
    sections = {name: hints[name](**parsed[name]) for name in sections_of(kind) if name != "model"}
    return kind(model={name: _as_yaml(value) for name, value in parsed["model"].items()}, **sections)


def write_config(config: TrainConfig, path: str | Path, *, notes: Sequence[str] = ()) -> None:
    """Write a configuration with all its settings, completely or not at all; ``read_config`` reads it back.

    Args:
        config: The configuration.
        path: The file.
        notes: Comments to write above the settings; see ``config_notes``.
    """
    with written_at_once(Path(path)) as file:
        file.write("".join(f"# {note}\n" for note in notes).encode())
        file.write(yaml.safe_dump(_as_yaml(dataclasses.asdict(config)), sort_keys=False).encode())


def config_notes(path: Path) -> list[str]:
    """The comments that ``write_config`` has written above a configuration."""
    lines = itertools.takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
    return [line.removeprefix("# ") for line in lines]


def flat_values(config: TrainConfig) -> dict[str, Any]:
    """All settings by dotted key, including the defaults of the model."""
    sections = dataclasses.asdict(config)
    parameters = () if config.model_is_given else inspect.signature(model_of(config)).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.name not in GIVEN_BY_DATA}
    sections["model"] = {name: _as_yaml(value) for name, value in (defaults | sections["model"]).items()}
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def _as_yaml(value: Any) -> Any:
    """The value with plain lists and mappings instead of tuples and dataclasses, at every depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, tuple | list) else value


def known_keys(kind: type[TrainConfig] = TrainConfig, model: type[nn.Module] | None = None) -> list[str]:
    """All dotted keys of a configuration, see ``config_parser``."""
    hints = typing.get_type_hints(kind)
    of_model = [name for name in inspect.signature(model or model_type([])).parameters if name not in GIVEN_BY_DATA]
    return [
        f"{section}.{name}"
        for section in sections_of(kind)
        for name in (of_model if section == "model" else [field.name for field in dataclasses.fields(hints[section])])
    ]


def check_keys(keys: Iterable[str], known: Sequence[str], *, where: str) -> None:
    """Raise for the first unknown key.

    Args:
        keys: Dotted keys; those below a known key (such as an element in ``data.E0s``) are accepted.
        known: All known dotted keys.
        where: File or place, for the message.

    Raises:
        ConfigError: Names the key and the nearest known key.

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
    """A hint for an unknown key: its new name, or the key nearest to it by the whole path, then by the last part."""
    new = new_name(key)
    if new in known:
        return f"it is now called {new!r}."
    last = {name.rpartition(".")[2]: name for name in known}
    by_path = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    by_name = difflib.get_close_matches(key.rpartition(".")[2], list(last), n=1, cutoff=0.6)
    same_name = [name for name in by_name if name == key.rpartition(".")[2]]
    found = [last[name] for name in same_name] + by_path + [last[name] for name in by_name]
    return f"did you mean {found[0]!r}?" if found else f"there are {', '.join(known)}."


def one_line(message: str) -> str:
    r"""The message of a parser, which has several lines, as one sentence with types in words.

    >>> one_line('''Parser key "poses":
    ...   Expected a <class 'int'>. Got value: many''')
    "poses must be a whole number, got 'many'"
    """
    match = re.match(r'Parser key "([^"]+)":(.*(?:Got|Given) value: ?(.*))\Z', message, re.DOTALL)
    expected = [] if match is None else re.findall(r"Expected an? (typing\.Literal\[.*?\]|<class '[\w.]+'>)", match[2])
    text = " ".join(part.strip() for part in message.splitlines() if part.strip())
    if match is None or not expected:
        return text
    new = new_name(match[3])
    hint = f", which is now called {new!r}" if new is not None and repr(new) in match[2] else ""
    return f"{match[1]} must be {' or '.join(dict.fromkeys(map(_in_words, expected)))}, got {match[3]!r}{hint}"


def _in_words(kind: str) -> str:
    """The name of a type in messages."""
    if kind.startswith("typing.Literal"):
        return f"one of {kind.partition('[')[2].rstrip(']')}"
    return TYPES.get(kind, kind)
