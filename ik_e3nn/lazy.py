"""Packages whose names are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, names: Mapping[str, Iterable[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package that imports some names only when they are used.

    Args:
        package: Name of the package, ``__name__`` there.
        names: The names that the package offers, by the module that holds them.

    Returns:
        Both functions, to be assigned to these names in the package.

    Example:
        >>> get, names = lazy("ik_e3nn", {"ik_e3nn.errors": ["DataError"]})
        >>> get("DataError").__name__, "DataError" in names()
        ('DataError', True)
    """
    modules = {name: module for module, group in names.items() for name in group}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})
