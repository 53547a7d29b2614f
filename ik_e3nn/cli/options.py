"""From a settings dataclass to command-line options and back."""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import itertools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ik_e3nn.errors import ConfigError
from ik_e3nn.training.config.file import check_keys, check_sections, one_line
from ik_e3nn.training.config.yaml_file import flatten, read_yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def settings_parser(settings: type[Any], positional: Sequence[str], **options: Any) -> ArgumentParser:
    """Make a parser whose options are the fields of a dataclass.

    Args:
        settings: The dataclass.
        positional: Its fields that are given by position.
        options: Passed on to ``jsonargparse.ArgumentParser``.
    """
    import docstring_parser

    from ik_e3nn.training.config.parser import PlainParser

    parser = PlainParser(exit_on_error=False, **options)
    parser.add_argument("--config", action="config", help="YAML file with some of the settings below.")
    hints = typing.get_type_hints(settings)
    by_hand = set(positional)
    helps = {one.arg_name: one.description for one in docstring_parser.parse(settings.__doc__ or "").params}
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name in positional:
        absent: dict[str, Any] = {"nargs": "?", "default": defaults[name]}
        parser.add_argument(
            name,
            type=hints[name],
            help=helps.get(name),
            **(absent if defaults[name] is not dataclasses.MISSING else {}),
        )
    output = next((field for field in dataclasses.fields(settings) if field.name == "output"), None)
    if output is not None:
        by_hand.add("output")
        required = output.default is dataclasses.MISSING
        default: dict[str, Any] = {"required": True} if required else {"default": output.default}
        parser.add_argument("-o", "--output", type=hints["output"], help=helps.get("output"), **default)
    parser.add_class_arguments(settings, skip=by_hand)
    return parser


def parse_settings(settings: type[Any], positional: Sequence[str], words: Sequence[str], **options: Any) -> Any:
    """Parse the words of a command line into settings.

    Raises:
        ConfigError: An option is unknown (the message names the nearest known one), or a value is impossible.
    """
    known = option_names(settings)
    words = tidy(words, settings)
    sections = {field.name for field in dataclasses.fields(settings)} - set(known)
    for path in _config_files(words):
        content = read_yaml(path)
        check_keys(flatten(content), known, where=path)
        check_sections(content, (), sections)
    check_sections({}, words, sections)
    check_keys((word[2:].split("=")[0] for word in words if _is_option(word)), [*known, "config"], where="command line")
    parser = settings_parser(settings, positional, **options)
    try:
        values = parser.parse_args(words).as_dict()
        return build(settings, values)
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(one_line(str(error))) from error


def _config_files(words: Sequence[str]) -> list[str]:
    """Values of ``--config=PATH`` and ``--config PATH``."""
    after = [path for word, path in itertools.pairwise(words) if word == "--config"]
    return after + [word.partition("=")[2] for word in words if word.startswith("--config=")]


def build(settings: type[Any], values: Mapping[str, Any]) -> Any:
    """Build a dataclass, and the dataclasses in its fields, from nested mappings."""
    hints = typing.get_type_hints(settings)
    chosen = {}
    for field in dataclasses.fields(settings):
        value, kind = values[field.name], hints[field.name]
        nested = isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict)
        chosen[field.name] = build(kind, value) if nested else value
    return settings(**chosen)


def option_names(settings: type[Any]) -> list[str]:
    """Dotted names of all options.

    >>> @dataclasses.dataclass
    ... class Some:
    ...     speed: float = 1.0
    >>> option_names(Some)
    ['speed']
    """
    return list(_leaves(settings))


def tidy(words: Sequence[str], settings: type[Any]) -> list[str]:
    """Accept common spellings: ``--energy-key``, ``--overwrite`` without a value, and ``--smiles CCO CO`` for a list.

    >>> @dataclasses.dataclass
    ... class Some:
    ...     overwrite: bool = False
    ...     smiles: Sequence[str] = ()
    >>> import sys
    >>> tidy(["--overwrite", "--smiles", "C", "[OH-]", "-o", "a"], Some)
    ['--overwrite=true', '--smiles=["C", "[OH-]"]', '-o', 'a']
    """
    leaves = _leaves(settings)
    result: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _is_option(word):
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name if name in leaves else name.replace("-", "_")
        given = [value] if equals else []
        kind = leaves.get(name)
        if not equals and kind is bool:
            given = [rest.pop(0)] if rest[:1] in (["true"], ["false"]) else ["true"]
        elif not equals and _is_list(kind):
            while rest and not rest[0].startswith("-"):
                given.append(rest.pop(0))
        result.append(f"--{name}=" + (_as_list(given, kind) if _is_list(kind) else given[0]) if given else f"--{name}")
    return result


def _leaves(settings: type[Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(settings).items():
        nested = isinstance(kind, type) and dataclasses.is_dataclass(kind)
        found |= _leaves(kind, f"{prefix}{name}.") if nested else {f"{prefix}{name}": kind}
    return found


def _is_option(word: str) -> bool:
    return word.startswith("--") and len(word) > 2 and word not in ("--help", "--print_config")


def _members(kind: Any) -> list[Any]:
    return list(typing.get_args(kind)) if typing.get_origin(kind) in (typing.Union, types.UnionType) else [kind]


def _is_list(kind: Any) -> bool:
    members = [typing.get_origin(member) for member in _members(kind)]
    return str not in _members(kind) and any(member in (list, collections.abc.Sequence) for member in members)


def _as_list(given: Sequence[str], kind: Any) -> str:
    """Words as a list in JSON; a single word may be JSON already (a SMILES like ``[OH-]`` is not)."""
    if len(given) == 1:
        try:
            if isinstance(json.loads(given[0]), list | dict):
                return given[0]
        except ValueError:
            pass
    element = next(typing.get_args(member)[0] for member in _members(kind) if typing.get_args(member))
    return json.dumps(list(given)) if element is str else f"[{', '.join(given)}]"
