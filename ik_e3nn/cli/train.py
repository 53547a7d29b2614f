"""``ik-e3nn train CONFIG`` and ``ik-e3nn finetune BASE CONFIG``, with ``--section.field=value`` and ``--resume``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ik_e3nn.cli.options import FULL_HELP, HELP, PRINT, help_text, summary_text
from ik_e3nn.training.config.file import config_options, model_type, read_config, settings_text
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.config.yaml_file import given_keys, read_yaml
from ik_e3nn.user_path import user_path


def run_training(words: Sequence[str], *, base_is_given: bool, usage: str, summary: str) -> str:
    """Train, or fine-tune, with the settings of a command line.

    Args:
        words: The words after the name of the command: the base of a fine-tuning (a model file, or "base" for the model
            that comes with the package) unless the configuration names it, the configuration file, then overrides.
        base_is_given: Whether to fine-tune a base.
        usage: First line of the help.
        summary: Second line of the help.

    Returns:
        The model file, its errors and, for a fine-tuning, the file of the report.

    Raises:
        ConfigError: A setting is unknown or impossible.
    """
    kind = FinetuneConfig if base_is_given else TrainConfig
    rest = [word for word in words if word not in ("--resume", PRINT)]
    resume = "--resume" in words
    if set(HELP).intersection(rest):
        return _help(kind, rest, f"{usage} [--resume]", summary)
    given: list[str] = []
    while rest and not rest[0].startswith("-") and len(given) < 1 + base_is_given:
        given.append(rest.pop(0))
    path = given.pop() if given and (not base_is_given or given[-1].endswith((".yaml", ".yml"))) else None
    config = read_config(path, [*(f"--finetune.base={base}" for base in given), *rest], kind=kind)
    if PRINT in words:
        return settings_text(config)
    _check_kept(path, config, resume=resume)
    from ik_e3nn.training.fit import train
    from ik_e3nn.training.run.run_folder import FINETUNE_PAGE

    result = train(config, resume=resume)
    report = [f"report: {Path(result.folder) / FINETUNE_PAGE}"] if base_is_given else []
    return "\n".join([f"model: {result.model}", *_errors(result.metrics), *report])


def _check_kept(path: str | None, config: TrainConfig, *, resume: bool) -> None:
    """Refuse to replace the user's own configuration; in a resumed run, the configuration belongs to the run."""
    from ik_e3nn.training.run.run_folder import check_inputs, has_begun

    folder = user_path(config.run.output)
    if path is not None and (not has_begun(folder) if resume else config.run.overwrite):
        check_inputs(folder, [path])


def _help(kind: type[TrainConfig], words: Sequence[str], usage: str, summary: str) -> str:
    """The help for a configuration: a line for each setting, or everything.

    The options of the model depend on whether a file or an option names targets; a fine-tuning has the model of its
    base.
    """
    path = next((word for word in words if word.endswith((".yaml", ".yml")) and Path(word).is_file()), None)
    keys = given_keys(read_yaml(path)) if path is not None else []
    model = model_type([*keys, *(word.lstrip("-").split("=")[0] for word in words)])
    what = "a potential (properties: --help --data.targets)" if model is model_type([]) else "properties"
    options = config_options(kind, model)
    if kind.model_is_given:
        settings = (
            "The model is that of the base: leave the section model out, except group and inputs that add a surface, "
            "wire, site or face, and hidden and places of new heads."
        )
        options = {name: option for name, option in options.items() if not name.startswith("model.")}
    else:
        settings = f"The settings of the model are those of {what}."
    description = f"{summary} {settings}"
    show = help_text if FULL_HELP in words else summary_text
    return show(options, usage=usage, description=description)


def _errors(metrics: dict[str, Any]) -> list[str]:
    sets = [name for name in ("valid", "test") if name in metrics]
    return [f"{name:<5} {key:<25} {value:.4g}" for name in sets for key, value in metrics[name].items()]
