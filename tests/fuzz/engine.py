"""What all fuzz tests share: how many inputs, what a clear error is, and hostile values."""

import math
import random
import re

import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ik_e3nn.errors import IKError

# What may reach a user as an error. ASE's own class stands for "there is no such property".
CLEAR = (IKError, FileNotFoundError, FileExistsError, PermissionError, PropertyNotImplementedError)
# The representation of an object, a traceback, or nothing but a Python exception's bare words.
_UNCLEAR = re.compile(r"Traceback|object at 0x|<class '|^'?\w{0,12}'?$|NoneType|StopIteration|AssertionError:")


def sizes(quick):
    """Run a test with some inputs always, and with ten times as many under ``pytest -m fuzz``."""
    return pytest.mark.parametrize("number", [quick, pytest.param(10 * quick, marks=pytest.mark.fuzz)])


def try_many(check, number, *strategies):
    """Call a check with so many inputs; the inputs are the same in every run."""
    chosen = settings(
        max_examples=number,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # the inputs are small as they are: no time for shrinking them
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    chosen(given(*strategies)(check))()


def assert_clear(error, *, names="", also=()):
    """Raise unless an error is one that a user understands: of our own classes, in words, on few lines.

    Args:
        error: What was raised.
        names: What the message must name.
        also: Further classes that are right here.
    """
    if not isinstance(error, (*CLEAR, *also)):
        raise error
    message = str(error)
    assert 15 < len(message) < 2000, f"the message has {len(message)} characters: {message[:300]!r}"
    assert names in message, f"the message does not name {names!r}: {message!r}"
    assert not _UNCLEAR.search(message), f"the message is not for users: {message!r}"


# Numbers that arrive where ordinary ones are expected.
NUMBERS = [0, -0.0, -1, 1e-300, 1e-2, 1e6, 1e18, 2**31, 2**63, 2**70, 1e200, 1e300, math.inf, -math.inf, math.nan]
WORDS = [
    *("", " ", "no", "null", "true", "1e", "0x10", "../x", "/dev/null", "/", "~", "C" * 300, "%s", "{}", "é", "水"),
    *("os:system", "subprocess:check_output", "a\nb", "-1", "[", "*", "\x00", "$HOME", "a b", "--help", "١٢"),
]
VALUES = [
    None,
    True,
    False,
    *NUMBERS,
    *WORDS,
    [],
    [None],
    [[]],
    {},
    {"a": 1},
    {1: 2},
    [1, "a"],
    {"class_path": "os.system"},
]


def one_of(values):
    """One of a list, whatever its members' types."""
    return st.integers(0, len(values) - 1).map(lambda number: values[number])


@st.composite
def damaged_text(draw, texts):
    """A text with a few lines, words, numbers or characters lost, repeated, exchanged or replaced."""
    text = draw(one_of(texts))
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(1, 3))):
        text = _DAMAGES[draw(st.integers(0, len(_DAMAGES) - 1))](text, rng)
    return text


@st.composite
def damaged_bytes(draw, content):
    """Bytes with a few bits turned, pieces lost, or a truncated or extended end."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        kind, place = draw(st.integers(0, 3)), draw(st.integers(0, max(len(data) - 1, 0)))
        if not data:
            break
        if kind == 0:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            del data[place : place + draw(st.integers(1, 16))]
        else:
            data += bytes(draw(st.integers(1, 16)))
    return bytes(data)


def _lines(change):
    def damage(text, rng):
        lines = text.splitlines(keepends=True) or [""]
        return "".join(change(lines, rng.randrange(len(lines)), rng))

    return damage


def _replace_word(text, rng):
    words = re.split(r"(\s+|[=,;:\"])", text)
    words[rng.randrange(len(words))] = str(rng.choice([*NUMBERS, *WORDS]))
    return "".join(words)


def _replace_number(text, rng):
    places = list(re.finditer(r"-?\d+\.?\d*(e-?\d+)?", text))
    if not places:
        return text
    match = rng.choice(places)
    return text[: match.start()] + str(rng.choice(NUMBERS)) + text[match.end() :]


def _replace_character(text, rng):
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice("\x00\t\n\"'[]{}()=,;:#*%é9-") + text[place + 1 :]


_DAMAGES = [
    _lines(lambda lines, place, rng: lines[:place] + lines[place + 1 :]),
    _lines(lambda lines, place, rng: lines[: place + 1] + lines[place:]),
    _lines(lambda lines, place, rng: rng.sample(lines, len(lines))),
    _replace_word,
    _replace_number,
    _replace_number,
    _replace_character,
    lambda text, rng: text[: rng.randrange(len(text) + 1)],
    lambda text, rng: "\ufeff" + text,
    lambda text, rng: text.replace("\n", "\r\n"),
    lambda text, rng: text + text,
]
