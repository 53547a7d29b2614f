"""From the words of a command line to settings, and the help that lists them."""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import in_words
from ik_e3nn.training.config.options import Option, Options, build, check_names, options_of, put, read_words, value_of
from ik_e3nn.training.config.yaml_file import read_yaml

FULL_HELP, PRINT = "--help=full", "--print_config"
HELP = ("-h", "--help", FULL_HELP)
_FILE = {"config": Option(str, None, "YAML file with some of the settings below; later words replace them.")}


def parse_settings(settings: type[Any], positional: Sequence[str], words: Sequence[str], *, rest: str = "") -> Any:
    """Parse the words of a command line into settings.

    Args:
        settings: The dataclass of the settings.
        positional: Its fields that are given by position.
        words: The words.
        rest: Its field, a list of texts, that takes all further words; empty if there must be none.

    Raises:
        ConfigError: An option is unknown (the message names the nearest one), or a value is missing or impossible.
    """
    options = options_of(settings)
    alone, given = read_words(words, options | _FILE)
    if len(alone) > len(positional) and not rest:
        raise ConfigError(f"command line: {alone[len(positional)]!r} belongs to no option; see --help")
    content: dict[str, Any] = {}
    for name, value in given:
        if name == "config":
            found = read_yaml(value)
            check_names(found, options, where=value)
            content |= found
        else:
            put(content, name, value)
    for name, word in zip(positional, alone, strict=False):
        put(content, name, value_of(word, options[name].kind))
    if alone[len(positional) :]:
        put(content, rest, alone[len(positional) :])
    return build(settings, content)


def help_of(settings: type[Any], positional: Collection[str], *, usage: str, description: str) -> str:
    """The help of a command with a dataclass of settings."""
    return help_text({**_FILE, **options_of(settings)}, positional, usage=usage, description=description)


def help_text(options: Options, positional: Collection[str] = (), *, usage: str, description: str) -> str:
    """The help of a command.

    Args:
        options: All options.
        positional: Names of the options that are given by position.
        usage: The first line.
        description: What the command does.

    >>> print(help_text({"seed": Option(int, 0, "Seed of ``numpy``.")}, usage="run", description="Run."))
    usage: run
    <BLANKLINE>
    Run.
    <BLANKLINE>
    options:
      -h, --help      show this help message and exit
      --print_config  Print all settings in YAML, and do nothing else.
      --seed SEED     Seed of numpy. (a whole number, default: 0)
    <BLANKLINE>
    """
    parser = argparse.ArgumentParser(usage=usage, description=description)
    parser.add_argument(PRINT, action="store_true", help="Print all settings in YAML, and do nothing else.")
    for name, option in options.items():
        told = f"{option.help} ({_kind_and_default(option)})".replace("%", "%%")
        flags = [name] if name in positional else [*(["-o"] if name == "output" else []), f"--{name}"]
        parser.add_argument(*flags, metavar=name.rpartition(".")[2].upper(), help=told)
    return _without_markup(parser.format_help())


def summary_text(options: Options, *, usage: str, description: str) -> str:
    """A line for each option: the first sentence of its help, or the beginning of a long sentence.

    >>> print(summary_text({"seed": Option(int, 0, "Seed of ``numpy``. Any.")}, usage="run", description="Run."))
    usage: run
    <BLANKLINE>
    Run.
    <BLANKLINE>
      --seed                        Seed of numpy
    <BLANKLINE>
    --help=full describes all settings with their types and defaults; --print_config prints their values.
    """
    firsts = {name: re.split(r"[.;:](?=\s|$)", option.help)[0] for name, option in options.items()}
    rows = [f"  --{name:<28}{textwrap.shorten(first, 88, placeholder=' ...')}" for name, first in firsts.items()]
    more = f"{FULL_HELP} describes all settings with their types and defaults; {PRINT} prints their values."
    return _without_markup("\n".join([f"usage: {usage}", "", textwrap.fill(description, 100), "", *rows, "", more]))


def _without_markup(text: str) -> str:
    """A text of docstrings without their markup."""
    return re.sub(r":\w+:`~?([\w.]+)`|``(.+?)``", r"\1\2", text)


def _kind_and_default(option: Option) -> str:
    if option.default is inspect.Parameter.empty:
        return f"{in_words(option.kind)}, required"
    if not isinstance(option.default, str | int | float | tuple):
        return in_words(option.kind)
    shown = str(option.default).lower() if isinstance(option.default, bool) else option.default
    return f"{in_words(option.kind)}, default: {shown}"
