"""``ik-e3nn train CONFIG`` and ``ik-e3nn finetune BASE CONFIG``, with ``--section.field=value`` and ``--resume``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ik_e3nn.cli.options import tidy
from ik_e3nn.training.config.file import config_parser, model_type, read_config
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.config.yaml_file import given_keys, read_yaml
from ik_e3nn.user_path import user_path


def run_train(words: Sequence[str], *, usage: str) -> str:
    """Train with the settings of a command line.

    Args:
        words: The words after the name of the command: the configuration file, then overrides.
        usage: First line of the help.

    Returns:
        The model file and its errors.

    Raises:
        ConfigError: A setting is unknown or impossible.
    """
    rest, resume = _without_resume(words)
    if "-h" in rest or "--help" in rest:
        return _help(TrainConfig, rest, usage, "Train {}.")
    path = rest.pop(0) if rest and not rest[0].startswith("-") else None
    config = read_config(path, tidy(rest, TrainConfig))
    _check_kept(path, config, resume=resume)
    from ik_e3nn.training.fit import train

    return _text(train(config, resume=resume))


def run_finetune(words: Sequence[str], *, usage: str) -> str:
    """Fine-tune with the settings of a command line.

    Args:
        words: The words after the name of the command: the base (a model file, or "base" for the model that comes with
            the package) unless the configuration names it, the configuration file, then overrides.
        usage: First line of the help.

    Returns:
        The model file, its errors and the file of the report.

    Raises:
        ConfigError: A setting is unknown or impossible.
    """
    rest, resume = _without_resume(words)
    if "-h" in rest or "--help" in rest:
        return _help(FinetuneConfig, rest, usage, "Train a model further, on new data: {}.")
    given: list[str] = []
    while rest and not rest[0].startswith("-") and len(given) < 2:
        given.append(rest.pop(0))
    path = given.pop() if given and given[-1].endswith((".yaml", ".yml")) else None
    overrides = [*(f"--finetune.base={base}" for base in given), *tidy(rest, FinetuneConfig)]
    config = read_config(path, overrides, kind=FinetuneConfig)
    _check_kept(path, config, resume=resume)
    from ik_e3nn.training.fit import finetune
    from ik_e3nn.training.run.run_folder import FINETUNE_PAGE

    result = finetune(cast(FinetuneConfig, config), resume=resume)
    return f"{_text(result)}\nreport: {Path(result.folder) / FINETUNE_PAGE}"


def _check_kept(path: str | None, config: TrainConfig, *, resume: bool) -> None:
    """Refuse to replace the user's own configuration; in a resumed run, the configuration belongs to the run."""
    from ik_e3nn.training.run.run_folder import check_inputs, has_begun

    folder = user_path(config.run.output)
    if path is not None and (not has_begun(folder) if resume else config.run.overwrite):
        check_inputs(folder, [path])


def _without_resume(words: Sequence[str]) -> tuple[list[str], bool]:
    return [word for word in words if word != "--resume"], "--resume" in words


def _help(kind: type[TrainConfig], words: Sequence[str], usage: str, description: str) -> str:
    """The help for a configuration; the options of the model depend on whether a file or an option names targets."""
    path = next((word for word in words if word.endswith((".yaml", ".yml")) and Path(word).is_file()), None)
    keys = given_keys(read_yaml(path)) if path is not None else []
    model = model_type([*keys, *(word.lstrip("-").split("=")[0] for word in words)])
    what = "a potential (properties: --help --data.targets)" if model is model_type([]) else "properties"
    parser = config_parser(kind, model, usage=f"{usage} [--resume]", description=description.format(what))
    return re.sub(r":\w+:`~?([\w.]+)`|``(.+?)``", r"\1\2", parser.format_help())  # removes the markup of docstrings


def _text(result: Any) -> str:
    return "\n".join([f"model: {result.model}", *_errors(result.metrics)])


def _errors(metrics: dict[str, Any]) -> list[str]:
    sets = [name for name in ("valid", "test") if name in metrics]
    return [f"{name:<5} {key:<25} {value:.4g}" for name in sets for key, value in metrics[name].items()]
