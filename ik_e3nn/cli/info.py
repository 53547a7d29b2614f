"""The contents of a model file as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ik_e3nn.settings import check_settings


@dataclass(frozen=True)
class InfoSettings:
    """Settings of ``ik-e3nn info``.

    Args:
        model: Model file; "base" and "base-properties" are the models that come with the package.
        full: Also show the whole training configuration.
    """

    model: str
    full: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


def info(settings: InfoSettings) -> str:
    """List architecture, species, E0s and training of a model file, one per line.

    Args:
        settings: The file.

    Raises:
        ModelFileError: The file is broken or newer than this library.
    """
    from ik_e3nn.models import read_model_info

    content = dict(read_model_info(settings.model))
    if not settings.full:
        training = dict(content.get("training", {}))
        training.pop("config", None)
        content["training"] = training
    return "\n".join(lines(content))


def lines(content: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Nested mappings as indented lines.

    >>> list(lines({"r_max": 5.0, "errors": {"mae": 1.23456}}))
    ['r_max: 5', 'errors:', '  mae: 1.23456']
    """
    for key, value in content.items():
        if isinstance(value, Mapping):
            if value:
                yield f"{indent}{key}:"
                yield from lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {format(value, '.8g') if isinstance(value, float) else value}"
