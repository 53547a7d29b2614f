"""Settings by dotted name: what they are, which words of a command line give them, and the dataclass that they make."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import typing
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, cast

import docstring_parser

from ik_e3nn.errors import ConfigError
from ik_e3nn.renamed import new_name
from ik_e3nn.settings import LARGEST, fits, members_of, plain
from ik_e3nn.training.config.yaml_file import flatten, parse_yaml


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting.

    Args:
        kind: Its type.
        default: Its default; ``inspect.Parameter.empty`` if it must be given.
        help: What its docstring says.
    """

    kind: Any
    default: Any
    help: str


Options = Mapping[str, Option]


def options_of(kind: type[Any], *, skip: Collection[str] = ()) -> dict[str, Option]:
    """The arguments of a class by name; those of a dataclass inside a dataclass have dotted names.

    Args:
        kind: The class; its docstring, or that of a base class, describes its arguments.
        skip: Arguments to leave out.

    >>> @dataclasses.dataclass
    ... class Some:
    ...     speed: float = 1.0
    >>> options_of(Some)
    {'speed': Option(kind=<class 'float'>, default=1.0, help='')}
    """
    return {name: option for name, option in _all_options(cast(Hashable, kind)).items() if name not in skip}


@functools.cache  # parsing docstrings takes most of the time of reading a configuration
def _all_options(kind: type[Any]) -> Options:
    hints = typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__, include_extras=True)
    texts = [one.__doc__ or "" for one in (*reversed(kind.__mro__), kind.__init__)]
    helps = {one.arg_name: one.description or "" for text in texts for one in docstring_parser.parse(text).params}
    found: dict[str, Option] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if _is_section(hints[name]):
            found |= {f"{name}.{inner}": option for inner, option in options_of(hints[name]).items()}
        else:
            found[name] = Option(hints[name], parameter.default, helps.get(name, ""))
    return found


def check_names(content: Mapping[str, Any], options: Options, *, where: str) -> None:
    """Raise for the first setting that does not exist, and for a section that is given a single value.

    Args:
        content: Settings, nested by section.
        options: All settings; keys below one of them (such as an element in ``data.E0s``) are accepted.
        where: File or place, for the message.

    Raises:
        ConfigError: Names the setting, and the nearest one that exists.

    >>> check_names({"run": {"max_epoch": 3}}, dict.fromkeys(["run.max_epochs", "run.seed"]), where="a.yaml")
    Traceback (most recent call last):
    ...
    ik_e3nn.errors.ConfigError: a.yaml: unknown setting 'run.max_epoch'; did you mean 'run.max_epochs'?
    """
    for section in sections_of(options):
        if section in content and not isinstance(content[section], Mapping):
            got = "null" if content[section] is None else repr(content[section])
            raise ConfigError(f"{section} is a section and must be a mapping of settings; got {got}")
    for name in flatten(content):
        if name not in sections_of(options):  # an empty section
            _option(name, options, where)


def sections_of(options: Iterable[str]) -> set[str]:
    """Names of the sections in dotted names.

    >>> sections_of(["run.seed", "verbose"])
    {'run'}
    """
    return {name.partition(".")[0] for name in options if "." in name}


def nearest(key: str, known: Iterable[str]) -> str:
    """A hint for an unknown key: its new name, or the key nearest to it by the whole path, then by the last part."""
    new, known = new_name(key), list(known)
    if new in known:
        return f"it is now called {new!r}."
    last = {name.rpartition(".")[2]: name for name in known}
    by_path = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    by_name = difflib.get_close_matches(key.rpartition(".")[2], list(last), n=1, cutoff=0.6)
    same_name = [name for name in by_name if name == key.rpartition(".")[2]]
    found = [last[name] for name in same_name] + by_path + [last[name] for name in by_name]
    return f"did you mean {found[0]!r}?" if found else f"there are {', '.join(known)}."


def read_words(words: Sequence[str], options: Options) -> tuple[list[str], list[tuple[str, Any]]]:
    """The words of a command line that stand alone, and its options with their values.

    Besides ``--name=value`` and ``--name value`` there are ``-o value`` for the output, ``--energy-key`` for
    ``energy_key``, ``--overwrite`` for ``--overwrite=true``, and ``--smiles CCO CO`` for a list.

    Args:
        words: The words.
        options: All settings.

    Raises:
        ConfigError: An option is unknown (the message names the nearest one), or has no value.

    >>> options = {"overwrite": Option(bool, False, ""), "smiles": Option(list[str], [], "")}
    >>> read_words(["a", "--overwrite", "--smiles", "C", "[OH-]"], options)
    (['a'], [('overwrite', True), ('smiles', ['C', '[OH-]'])])
    """
    alone: list[str] = []
    found: list[tuple[str, Any]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        word = "--output" if word == "-o" and "output" in options else word
        if not word.startswith("-") or word == "-":
            alone.append(word)
            continue
        if not word.startswith("--"):
            raise ConfigError(
                f"command line: unknown option {word!r}; options begin with two hyphens, as in --NAME=VALUE"
            )
        name, equals, text = word[2:].partition("=")
        spelled = name.replace("-", "_")
        name = spelled if spelled in options else name
        if name in sections_of(options):
            value = text if equals else "".join(rest[:1])
            raise ConfigError(
                f"{name} is a section: give its settings one by one, as --{name}.NAME=VALUE; got {value!r}"
            )
        kind = _option(name, options, "command line").kind
        element = _element_of(kind)
        texts = [text] if equals else _values_after(rest, kind, several=element is not None)
        if not texts:
            raise ConfigError(f"command line: --{name} needs a value, as in --{name}=VALUE")
        found.append((name, value_of(texts[0], kind) if element is None else _list_of(texts, kind, element)))
    return alone, found


def value_of(text: str, kind: Any) -> Any:
    """The value of a setting in YAML, or the text itself if the setting takes text and YAML gives nothing else for it.

    >>> value_of("3", int), value_of("3", str), value_of("null", str | None), value_of("[a, b]", str | list[str])
    (3, '3', None, ['a', 'b'])
    """
    try:
        value = converted(parse_yaml(text, "command line"), kind) if text.strip() else text
    except ConfigError:
        value = text
    if fits(value, kind) and not isinstance(value, str):
        return value
    return text if fits(text, kind) or isinstance(value, bool) else value  # "no" is False in YAML


def converted(value: Any, kind: Any) -> Any:
    """A value of YAML with whole numbers as ``float`` where a setting has this type, also inside lists and mappings.

    >>> converted({"H": -13}, str | dict[str, float]), converted(3, int | float)
    ({'H': -13.0}, 3)
    """
    kinds = [plain(one) for one in members_of(kind)]
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        return float(value) if abs(value) <= LARGEST else value
    for one in kinds:
        origin, inner = typing.get_origin(one), typing.get_args(one)
        if isinstance(value, dict) and origin is dict:
            return {key: converted(item, inner[1]) for key, item in value.items()}
        if isinstance(value, list) and origin in (list, Sequence):
            return [converted(item, inner[0]) for item in value]
    return value


def put(content: dict[str, Any], name: str, value: Any) -> None:
    """Set a value in nested mappings by its dotted name; what is there already is not changed but replaced.

    >>> content = {"run": {"seed": 1}}
    >>> put(content, "run.dtype", "float64")
    >>> content
    {'run': {'seed': 1, 'dtype': 'float64'}}
    """
    first, dot, rest = name.partition(".")
    if dot:
        inner = content.get(first)
        content[first] = dict(inner) if isinstance(inner, Mapping) else {}
        put(content[first], rest, value)
    else:
        content[first] = value


def build(kind: type[Any], content: Mapping[str, Any], section: str = "") -> Any:
    """Make a dataclass, and the dataclasses in its fields, from nested mappings.

    Args:
        kind: The dataclass.
        content: Its settings.
        section: Name of the section with a dot, for messages.

    Raises:
        ConfigError: A setting is missing, or the dataclass refuses a value.
    """
    hints, chosen = _hints(cast(Hashable, kind)), dict[str, Any]()
    for field in dataclasses.fields(kind):
        if _is_section(hints[field.name]):
            chosen[field.name] = build(hints[field.name], content.get(field.name, {}), f"{section}{field.name}.")
        elif field.name in content:
            chosen[field.name] = converted(content[field.name], hints[field.name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{section}{field.name} is missing; give it a value.")
    return kind(**chosen)


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _option(name: str, options: Options, where: str) -> Option:
    """The option of a name, or of what is below it."""
    if name in options:
        return options[name]
    if any(name.startswith(f"{known}.") for known in options):
        return Option(Any, None, "")
    raise ConfigError(f"{where}: unknown setting {name!r}; {nearest(name, options)}")


def _values_after(rest: list[str], kind: Any, *, several: bool) -> list[str]:
    """Remove the values of an option from the words after it, and return them."""
    if bool in (kinds := members_of(kind)):  # the next word may belong to no option
        choices = [word for one in kinds if typing.get_origin(one) is typing.Literal for word in typing.get_args(one)]
        return [rest.pop(0)] if rest and rest[0] in ("true", "false", *choices) else ["true"]
    if not several:
        return [rest.pop(0)] if rest and not rest[0].startswith("--") else []
    texts = []
    while rest and not rest[0].startswith("-"):
        texts.append(rest.pop(0))
    return texts


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _element_of(kind: Any) -> Any:
    """The type of the elements of a list; None if a setting takes a single word."""
    members = members_of(kind)
    lists = [one for one in members if typing.get_origin(one) in (list, Sequence)]
    return typing.get_args(lists[0])[0] if lists and str not in members else None


def _list_of(texts: Sequence[str], kind: Any, element: Any) -> Any:
    """Words as a list; a single word may be a list in YAML, unless it can be text (the SMILES ``[OH-]`` is not one)."""
    if len(texts) == 1:
        is_text = element is str and kind == Sequence[str] and '"' not in texts[0]
        whole = value_of(texts[0], kind)
        if isinstance(whole, dict | list) and not is_text:
            return whole
    return [value_of(text, element) for text in texts]
