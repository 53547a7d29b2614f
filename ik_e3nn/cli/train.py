"""``ik-e3nn train CONFIG`` and ``ik-e3nn finetune BASE CONFIG``, with ``--section.field=value`` and ``--resume``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ik_e3nn.cli.options import tidy
from ik_e3nn.training.config.file import Config, config_parser, config_type, read_config
from ik_e3nn.training.config.finetune import FinetuneConfig, PropertyFinetuneConfig, finetune_type
from ik_e3nn.training.config.properties import PropertyConfig
from ik_e3nn.training.config.yaml_file import flatten, read_yaml
from ik_e3nn.user_path import user_path


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
    rest, resume = _without_resume(words)
    if "-h" in rest or "--help" in rest:
        kind = config_type(_keys(_file(rest), rest))
        what = "properties" if kind is PropertyConfig else "a potential (properties: --help --data.targets)"
        return _help(kind, usage, f"Train {what}.")
    path = rest.pop(0) if rest and not rest[0].startswith("-") else None
    config = read_config(path, tidy(rest, config_type(_keys(path, rest))))
    _check_kept(path, config, resume=resume)
    from ik_e3nn.training.fit import train

    return _text(train(config, resume=resume))


def run_finetune(words: Sequence[str], *, usage: str) -> str:
    """Fine-tune as the words say.

    Args:
        words: What follows the command's name: the base (a model file, or "base" for the one that comes with the
            package) unless the configuration names it, the configuration file, then overrides.
        usage: First line of the help.

    Returns:
        Where the model is, how good it is, and where the report is.

    Raises:
        ConfigError: An unknown or impossible setting.
    """
    rest, resume = _without_resume(words)
    if "-h" in rest or "--help" in rest:
        chosen = finetune_type(_keys(_file(rest), rest))
        what = "properties" if chosen is PropertyFinetuneConfig else "a potential (properties: --help --data.targets)"
        return _help(chosen, usage, f"Train a model further, on new data: {what}.")
    given: list[str] = []
    while rest and not rest[0].startswith("-") and len(given) < 2:
        given.append(rest.pop(0))
    path = given.pop() if given and given[-1].endswith((".yaml", ".yml")) else None
    kind = finetune_type(_keys(path, rest))
    overrides = tidy(rest, kind)
    config = read_config(path, [*(f"--finetune.base={base}" for base in given), *overrides], kind=kind)
    _check_kept(path, config, resume=resume)
    from ik_e3nn.training.fit import finetune
    from ik_e3nn.training.run.run_folder import FINETUNE_PAGE

    result = finetune(cast(FinetuneConfig | PropertyFinetuneConfig, config), resume=resume)
    return f"{_text(result)}\nreport: {Path(result.folder) / FINETUNE_PAGE}"


def _check_kept(path: str | None, config: Config, *, resume: bool) -> None:
    """Refuse to replace the user's own configuration; that of a run that is resumed is the run's."""
    from ik_e3nn.training.run.run_folder import check_inputs, has_begun

    folder = user_path(config.run.output)
    if path is not None and (not has_begun(folder) if resume else config.run.overwrite):
        check_inputs(folder, [path])


def _file(words: Sequence[str]) -> str | None:
    """The configuration file among the words of a command line that asks for help."""
    return next((word for word in words if word.endswith((".yaml", ".yml")) and Path(word).is_file()), None)


def _keys(path: str | None, words: Sequence[str]) -> list[str]:
    """Dotted keys that a file and the words of a command line give."""
    content = list(flatten(read_yaml(path))) if path is not None else []
    return [*content, *(word.lstrip("-").split("=")[0] for word in words)]


def _without_resume(words: Sequence[str]) -> tuple[list[str], bool]:
    return [word for word in words if word != "--resume"], "--resume" in words


def _help(kind: type[Config], usage: str, description: str) -> str:
    text = config_parser(kind, usage=f"{usage} [--resume]", description=description).format_help()
    return re.sub(r":\w+:`~?([\w.]+)`|``(.+?)``", r"\1\2", text)  # the markup of docstrings


def _text(result: Any) -> str:
    return "\n".join([f"model: {result.model}", *_errors(result.metrics)])


def _errors(metrics: dict[str, Any]) -> list[str]:
    sets = [name for name in ("valid", "test") if name in metrics]
    return [f"{name:<5} {key:<25} {value:.4g}" for name in sets for key, value in metrics[name].items()]
