"""Checks of settings: every field of a settings dataclass must have its type, be finite, and not be empty."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

from ik_e3nn.errors import ConfigError
from ik_e3nn.renamed import new_name

LARGEST = 2**63 - 1  # the largest integer in tensors and files
LARGEST_SEED = 2**32 - 1  # the largest seed that numpy accepts
_DEEPEST = 20


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting may have, for ``Annotated[int, Range(...)]``.

    Args:
        words: What a number must be, for messages.
        holds: Whether a number is.
    """

    words: str
    holds: Callable[[float], bool]


Positive = Annotated[float, Range("positive", lambda x: x > 0)]
NotNegative = Annotated[float, Range("zero or positive", lambda x: x >= 0)]
Share = Annotated[float, Range("between 0 and 1", lambda x: 0 <= x <= 1)]
Count = Annotated[int, Range("at least 1", lambda n: n >= 1)]
CountOrZero = Annotated[int, Range("zero or positive", lambda n: n >= 0)]
Seed = Annotated[int, Range(f"between 0 and {LARGEST_SEED} (2^32 - 1)", lambda n: 0 <= n <= LARGEST_SEED)]

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Any: "any value",
    **dict.fromkeys((list, tuple, Sequence, Iterable), "a list"),
    **dict.fromkeys((dict, Mapping), "a mapping"),
}


def check_settings(settings: Any, section: str = "") -> None:
    """Raise an error for the first field of a dataclass that does not match its annotation.

    Numbers must be finite, and whole ones below 2^63; text must not be empty (unless that is its default) and hold no
    NUL. Types like ``Positive`` and ``Count`` limit numbers further.

    Args:
        settings: The dataclass.
        section: Name of the section that holds the fields, for messages.

    Raises:
        ConfigError: A field has a wrong value; the message gives the value and what it must be.

    Example:
        >>> @dataclasses.dataclass
        ... class Some:
        ...     speed: float = 1.0
        >>> check_settings(Some(float("inf")), "run")
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.ConfigError: run.speed is inf, but it must be a finite number.
    """
    hints = _hints(type(settings))  # type: ignore[arg-type]
    for field in dataclasses.fields(settings):
        name = f"{section}.{field.name}" if section else field.name
        value = getattr(settings, field.name)
        if value == "" and field.default == "":
            continue
        check_value(value, hints[field.name], name)


def refuse_unused(settings: Any, names: Iterable[str], reason: str, *, section: str = "", advice: str = "") -> None:
    """Raise if one of these settings, which would have no effect, is changed from its default.

    Args:
        settings: The dataclass.
        names: Fields that have no effect.
        reason: Why they have none, as the rest of a sentence after "because".
        section: Name of the section that holds the fields, for messages.
        advice: What else to do than to leave the setting out.

    Raises:
        ConfigError: Names the setting and its value.

    Example:
        >>> @dataclasses.dataclass
        ... class Some:
        ...     pressure: float = 0.0
        >>> refuse_unused(Some(1.0), ["pressure"], "the volume is fixed")
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.ConfigError: pressure is 1.0, but has no effect, because the volume is fixed; leave it out.
    """
    usual = {one.name: _default(one) for one in dataclasses.fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if (list(value) if isinstance(value, tuple) else value) != usual[name]:
            raise no_effect(f"{section}.{name}" if section else name, value, reason, advice=advice)


def _default(field: dataclasses.Field[Any]) -> Any:
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return list(value) if isinstance(value, tuple) else value


def check_value(value: Any, kind: Any, name: str) -> None:
    """Raise a ``ConfigError`` if a setting is not of a type; see ``check_settings``."""
    expected = _fault(value, kind)
    if expected is not None:
        got, new = "null" if value is None else _shortened(repr(value)), new_name(value)
        hint = f"; {value!r} is now called {new!r}" if new is not None and repr(new) in expected else ""
        raise ConfigError(f"{name} is {got}, but it must be {expected}{hint}.")


def no_effect(name: str, value: Any, reason: str, *, advice: str = "") -> ConfigError:
    """The error for a setting that is given, but has no effect.

    >>> str(no_effect("run.seed", 3, "nothing is random"))
    'run.seed is 3, but has no effect, because nothing is random; leave it out.'
    """
    what = f"{advice}, or leave it out" if advice else "leave it out"
    return ConfigError(f"{name} is {value!r}, but has no effect, because {reason}; {what}.")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; see ``check_settings``.

    >>> fits(3, float | None), fits("3", float | None)
    (True, False)
    """
    return _fault(value, kind) is None


def members_of(kind: Any) -> list[Any]:
    """The types of a union; a single type alone.

    >>> members_of(int | None), members_of(int)
    ([<class 'int'>, <class 'NoneType'>], [<class 'int'>])
    """
    return list(typing.get_args(kind)) if typing.get_origin(kind) in (typing.Union, types.UnionType) else [kind]


def plain(kind: Any) -> Any:
    """A type without limits of its numbers.

    >>> plain(Count)
    <class 'int'>
    """
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def in_words(kind: Any) -> str:
    """The name of a type in messages and helps.

    >>> in_words(int | None), in_words(typing.Literal["wall", "cpu"]), in_words(Count)
    ('a whole number or null', "one of 'wall', 'cpu'", 'a whole number, at least 1')
    """
    return " or ".join(map(_in_words, members_of(kind)))


def _fault(value: Any, kind: Any) -> str | None:
    """What a value must be, or None if it is valid."""
    members = members_of(kind)
    faults = [_fault_of_one(value, member) for member in members]
    if None in faults:
        return None
    near = [_same_family(value, member) for member in members]
    if len(members) > 1 and bool in members and any(near):
        near[members.index(bool)] = True  # a wrong choice may stand for true or false
    close = [fault for fault, is_close in zip(faults, near, strict=True) if is_close]
    return " or ".join(dict.fromkeys(fault for fault in close or faults if fault is not None))


def _fault_of_one(value: Any, kind: Any) -> str | None:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in _CHECKS:
        return _CHECKS[origin](value, inner)
    return None if isinstance(value, origin) else in_words(kind)


def _fault_of_choice(value: Any, choices: tuple[Any, ...]) -> str | None:
    return None if isinstance(value, str) and value in choices else in_words(typing.Literal[choices])


def _fault_of_list(value: Any, inner: tuple[Any, ...]) -> str | None:
    element = inner[0] if inner else Any
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return f"a list (of {in_words(element)})"
    fault = _first(_fault(item, element) for item in value)
    return fault and f"a list, each item {fault}"


def _fault_of_number(value: Any, kind: type[Any]) -> str | None:
    accepted = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, accepted):
        return _WORDS[kind]
    if isinstance(value, int):
        return "a number of less than 2^63" if abs(value) > LARGEST else None
    if not math.isfinite(value):
        return "a finite number"
    return None


def _fault_of_range(value: Any, inner: tuple[Any, ...]) -> str | None:
    kind, limits = inner
    return _fault(value, kind) or (None if limits.holds(value) else limits.words)


def _fault_of_text(value: Any) -> str | None:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return "text"
    if not value.strip():
        return "text that is not empty"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "text without surrogates (it cannot be written as UTF-8)"
    return "text without NUL characters" if "\0" in value else None


def _fault_of_mapping(value: Any, inner: tuple[Any, ...]) -> str | None:
    if not isinstance(value, Mapping):
        return "a mapping"
    wrong = [key for key in value if not isinstance(key, str) or not key]
    if wrong:
        return f"a mapping whose keys are text, which {wrong[0]!r} is not (quotation marks make it text)"
    faults = {key: _fault(item, inner[1] if inner else Any) for key, item in value.items()}
    return _first(f"a mapping in which {key!r} is {fault}" for key, fault in faults.items() if fault is not None)


def _fault_of_anything(value: Any, inner: tuple[Any, ...] = (), depth: int = _DEEPEST) -> str | None:
    """Check that a value that goes into a file is made of plain values."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, str | numbers.Real):
        return _fault_of_text(value) if isinstance(value, str) else _fault_of_number(value, float)
    if isinstance(value, Mapping | list | tuple) and depth:
        items = value.values() if isinstance(value, Mapping) else value
        keys = _fault_of_mapping(value, (str, object)) if isinstance(value, Mapping) else None
        return keys or _first(_fault_of_anything(item, (), depth - 1) for item in items)
    is_plain = dataclasses.is_dataclass(value) or hasattr(value, "to_config")  # sizes of a network, a group
    return None if is_plain else "made of numbers, text, lists and mappings, at most 20 levels deep"


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


_Check = Callable[[Any, tuple[Any, ...]], str | None]
_CHECKS: dict[Any, _Check] = {
    Any: _fault_of_anything,
    typing.Literal: _fault_of_choice,
    Annotated: _fault_of_range,
    int: lambda value, _: _fault_of_number(value, int),
    float: lambda value, _: _fault_of_number(value, float),
    str: lambda value, _: _fault_of_text(value),
    bool: lambda value, _: None if isinstance(value, bool) else "true or false",
    **dict.fromkeys((list, tuple, Sequence, Iterable), _fault_of_list),
    **dict.fromkeys((dict, Mapping), _fault_of_mapping),
}


def _same_family(value: Any, kind: Any) -> bool:
    """Whether a value is close to a type, so that the message is about this type and leaves out others."""
    kind = plain(kind)
    origin = typing.get_origin(kind) or kind
    if isinstance(value, bool) or value is None:
        return False
    families = (
        (numbers.Real, (int, float)),
        (str, (str, typing.Literal)),
        (Mapping, (dict, Mapping)),
        ((list, tuple), (list, tuple, Sequence, Iterable)),
    )
    return any(isinstance(value, types_) and origin in origins for types_, origins in families)


def _in_words(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        choices = ", ".join(map(repr, typing.get_args(kind)))
        return f"one of {choices}" if len(typing.get_args(kind)) > 1 else choices
    if origin is Annotated:
        inner, limits = typing.get_args(kind)
        return f"{in_words(inner)}, {limits.words}"
    return _WORDS.get(origin) or str(getattr(kind, "__name__", kind))


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


@functools.cache
def _hints(settings: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(settings, include_extras=True)
