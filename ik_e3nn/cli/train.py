"""`ik-e3nn train CONFIG [--section.field=value ...] [--resume]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ik_e3nn.cli.options import tidy
from ik_e3nn.training.config_file import config_parser, config_type, flatten, read_config, read_yaml
from ik_e3nn.training.property_config import PropertyConfig


def run_train(words: Sequence[str], *, usage: str) -> str:
    """Train as the words say.

    Args:
        words: What follows the command's name: the configuration file, then overrides.
        usage: First line of the help.

    Returns:
        Where the model is and how good it is.

    Raises:
        ConfigError: An unknown or impossible setting.
    """
    rest = list(words)
    if "-h" in rest or "--help" in rest:
        kind = config_type(word.lstrip("-") for word in rest)
        what = "properties" if kind is PropertyConfig else "a potential (properties: --help --data.targets)"
        parser = config_parser(kind, usage=f"{usage} [--resume]", description=f"Train {what}.")
        return str(parser.format_help())
    resume = "--resume" in rest
    rest = [word for word in rest if word != "--resume"]
    path = rest.pop(0) if rest and not rest[0].startswith("-") else None
    content = list(flatten(read_yaml(path))) if path is not None else []
    kind = config_type([*content, *(word.lstrip("-").split("=")[0] for word in rest)])
    config = read_config(path, tidy(rest, kind))
    from ik_e3nn.training.fit import train

    result = train(config, resume=resume)
    return "\n".join([f"model: {result.model}", *_errors(result.metrics)])


def _errors(metrics: dict[str, Any]) -> list[str]:
    sets = [name for name in ("valid", "test") if name in metrics]
    return [f"{name:<5} {key:<25} {value:.4g}" for name in sets for key, value in metrics[name].items()]
