"""YAML files of settings, read so that none of them can do harm: no code, no cycles, no unbounded size."""

from __future__ import annotations

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
        sections: What it should hold, for messages.

    Raises:
        ConfigError: It is no YAML, no mapping, has a key twice, or names classes to import.
        FileNotFoundError: There is no such file.
    """
    place = _file(path)
    text = _text(place)
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)
    except (AttributeError, LookupError, TypeError) as error:  # PyYAML's own, of values like !!int ""
        raise ConfigError(
            f"{path} is not valid YAML: a value is not what its tag (!!) says; leave the tag out"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply; settings are at most {DEEPEST} levels deep.") from error
    if not isinstance(content, dict):
        found = "it is empty" if content is None else f"it holds {_KINDS.get(type(content), 'a single value')}"
        raise ConfigError(f"{path} must hold {sections}, but {found}.")
    for number, (key, value, depth) in enumerate(_everything(content)):
        if number > MOST_VALUES or depth > DEEPEST:
            what = f"more than {MOST_VALUES} values" if number > MOST_VALUES else f"more than {DEEPEST} levels"
            raise ConfigError(f"{path} has {what}, counted with what anchors (&) repeat; write the settings out.")
        refuse_class(key, str(path))
        for one in (key, value):
            if isinstance(one, str) and "\0" in one:
                raise ConfigError(f"{path} has a NUL character in {one!r}.")
    return content


def refuse_class(key: Any, where: str) -> None:
    """Raise for the keys by which the parser would import a class, which runs the code of a module.

    Raises:
        ConfigError: It is such a key.
    """
    if key in ("class_path", "init_args", "dict_kwargs"):
        raise ConfigError(f"{where}: {key!r} is no setting: configurations import no classes; give plain values.")


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
    """Dotted keys of the leaves that are not null, which stands for a setting that is left out.

    >>> given_keys({"data": {"train": "a.xyz", "targets": None}})
    ['data.train']
    """
    given = {key: value for key, value in content.items() if value is not None}
    parts = {key: given_keys(value) if isinstance(value, Mapping) and value else None for key, value in given.items()}
    return [name for key, part in parts.items() for name in ([key] if part is None else [f"{key}.{x}" for x in part])]


def _file(path: str | Path) -> Path:
    if "\0" in str(path):
        raise ConfigError(f"a NUL character is in the name of the configuration file {str(path)!r}.")
    place = user_path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no configuration file {str(path)!r}")
    if not place.is_file():
        raise ConfigError(f"{str(path)!r} is not a configuration file but a folder, a pipe or a device.")
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
    """Keys and values at all depths; one that is too deep is the last."""
    pairs = content.items() if isinstance(content, Mapping) else ((None, item) for item in content)
    for key, value in pairs:
        yield key, value, depth
        if isinstance(value, dict | list) and depth <= DEEPEST:
            yield from _everything(value, depth + 1)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that has the same key twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # nested ones would grow without bound
                raise yaml.constructor.ConstructorError(
                    None, None, "mappings are not merged with << here; write the settings out", key.start_mark
                )
            name = str(self.construct_object(key, deep=deep))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} appears twice", node.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)
