"""Safe reading of YAML files with settings: without code, cycles or unbounded size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ik_e3nn.atomic import naming
from ik_e3nn.errors import ConfigError
from ik_e3nn.user_path import user_path

_KINDS = {list: "a list", str: "text", int: "a number", float: "a number"}
MOST_BYTES, MOST_VALUES, DEEPEST = 10_000_000, 200_000, 30


def read_yaml(path: str | Path, sections: str = "settings") -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: The file.
        sections: What the file should contain, for messages.

    Raises:
        ConfigError: The file is not valid YAML, is not a mapping, repeats a key, or names a class to import.
        FileNotFoundError: The file does not exist.
    """
    content = parse_yaml(_text(_file(path)), str(path))
    if not isinstance(content, dict):
        found = "it is empty" if content is None else f"it holds {_KINDS.get(type(content), 'a single value')}"
        raise ConfigError(f"{path} must hold {sections}, but {found}.")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """The content of a text in YAML.

    Args:
        text: The text.
        where: File or place, for messages.

    Raises:
        ConfigError: The text is not valid YAML, repeats a key, or has too many values or levels.

    >>> parse_yaml("{lr: 1e-3, begin: 2026-01-31}", "a.yaml")
    {'lr': 0.001, 'begin': '2026-01-31'}
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except (AttributeError, LookupError, TypeError) as error:  # PyYAML raises these for values such as !!int ""
        raise ConfigError(
            f"{where} is not valid YAML: a value does not match its tag (!!); leave the tag out"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply; settings are at most {DEEPEST} levels deep.") from error
    for number, (key, value, depth) in enumerate(_everything([content])):
        if number > MOST_VALUES or depth > DEEPEST:
            what = f"more than {MOST_VALUES} values" if number > MOST_VALUES else f"more than {DEEPEST} levels"
            raise ConfigError(f"{where} has {what}, counting repetitions by anchors (&); write the settings out.")
        for one in (key, value):
            if isinstance(one, str) and "\0" in one:
                raise ConfigError(f"{where} contains a NUL character in {one!r}; remove it.")
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


def given_keys(content: Mapping[str, Any]) -> list[str]:
    """Dotted keys of the leaves that are not null; a setting that is null counts as left out.

    >>> given_keys({"data": {"train": "a.xyz", "targets": None}})
    ['data.train']
    """
    given = {key: value for key, value in content.items() if value is not None}
    parts = {key: given_keys(value) if isinstance(value, Mapping) and value else None for key, value in given.items()}
    return [name for key, part in parts.items() for name in ([key] if part is None else [f"{key}.{x}" for x in part])]


def _file(path: str | Path) -> Path:
    if "\0" in str(path):
        raise ConfigError(f"the name of the configuration file, {str(path)!r}, contains a NUL character; remove it.")
    place = user_path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no configuration file {str(path)!r}")
    if not place.is_file():
        raise ConfigError(f"{str(path)!r} is a folder, a pipe or a device; give a configuration file.")
    if place.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{path} has {place.stat().st_size:,} bytes; a configuration has at most {MOST_BYTES:,}.")
    return place


def _text(path: Path) -> str:
    with naming(path):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: the text is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8, for "
            "example with: iconv -f latin1 -t utf-8"
        ) from error


def _everything(content: Any, depth: int = 0) -> Iterator[tuple[Any, Any, int]]:
    """Keys, values and depths, down to the first level that is too deep."""
    pairs = content.items() if isinstance(content, Mapping) else ((None, item) for item in content)
    for key, value in pairs:
        yield key, value, depth
        if isinstance(value, dict | list) and depth <= DEEPEST:
            yield from _everything(value, depth + 1)


class _Loader(yaml.SafeLoader):
    """A loader that refuses repeated keys, of which YAML would silently keep the last, and reads dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's name)
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # nested merges would grow without bound
                raise yaml.constructor.ConstructorError(
                    None, None, "merging mappings with << is not supported; write the settings out", key.start_mark
                )
            name = str(self.construct_object(key, deep=deep))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} appears twice", node.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML reads, takes 1e-3 and 1.5e3 for text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
