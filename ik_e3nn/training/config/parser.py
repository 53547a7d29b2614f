"""The parser of command lines; it is imported where one is made, because jsonargparse takes long to import."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser


class PlainParser(ArgumentParser):
    """A parser that reports mistakes as exceptions, and whose help has no markup of docstrings."""

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help text without the double backticks around names."""
        return super().format_help(*args, **kwargs).replace("``", "")
