"""The parser of command lines, in a module of its own because jsonargparse takes long to import."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser


class PlainParser(ArgumentParser):
    """A parser whose help shows docstrings without their markup."""

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help text without the double backticks around names."""
        return super().format_help(*args, **kwargs).replace("``", "")
