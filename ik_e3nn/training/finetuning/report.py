"""What a fine-tuning has come to, in words: settings as they were resolved, and errors before and after."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ik_e3nn.atomic import written_at_once
from ik_e3nn.training.config.file import flat_values
from ik_e3nn.training.config.schema import TrainConfig

_log = logging.getLogger(__name__)

OF_BASE = "the base's"
_REASONS = {
    "run.device": "the device that is there",
    "data.E0s": "energies of the elements, in eV",
    "finetune.base": "where the base model is",
    "finetune.lora_lr_factor": "the default",
    "finetune.lora_rank": "the default",
    "finetune.replay_ratio": "as many as there are",
}


@dataclass(frozen=True)
class Change:
    """A setting that is not what was asked for.

    Args:
        setting: Its dotted name.
        asked: What was asked for, or None.
        resolved: What it is.
        reason: Why.
    """

    setting: str
    asked: Any
    resolved: Any
    reason: str

    def line(self) -> str:
        """The change in one line.

        >>> Change("run.device", "auto", "cpu", "the device that is there").line()
        "run.device: asked for 'auto', is 'cpu' (the device that is there)"
        """
        asked = "not asked for" if self.asked is None else f"asked for {self.asked!r}"
        return f"{self.setting}: {asked}, is {self.resolved!r} ({self.reason})"


@dataclass(frozen=True)
class PageText:
    """What a report's page says of one kind of fine-tuning.

    Args:
        facts: Sentences that follow those on the base and the trained weights.
        before: What the errors before are those of.
        warning: What the errors do not tell, or nothing.
    """

    facts: str
    before: str
    warning: str = ""


def changes_of(config: TrainConfig, resolved: Mapping[str, Any], reasons: Mapping[str, str]) -> list[Change]:
    """Settings that are not as they were asked for.

    Args:
        config: What was asked for.
        resolved: What settings are, by dotted names.
        reasons: Why, where it is neither a usual reason nor that the base has them so.
    """
    asked, known = flat_values(config), _REASONS | dict(reasons)
    return [
        Change(key, asked.get(key), value, known.get(key, OF_BASE))
        for key, value in resolved.items()
        if asked.get(key) != value
    ]


def change_lines(changes: Sequence[Change]) -> list[str]:
    """One line a change; what is the base's without having been asked for shares one.

    >>> change_lines([Change("model.r_max", None, 5.0, OF_BASE), Change("model.group", None, "O3", OF_BASE)])
    ["not asked for, the base's: model.r_max, model.group"]
    """
    taken = [one.setting for one in changes if one.asked is None and one.reason == OF_BASE]
    lines = [one.line() for one in changes if one.setting not in taken]
    return [*lines, f"not asked for, {OF_BASE}: {', '.join(taken)}"] if taken else lines


def describe(config: TrainConfig, resolved: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """All settings as they are used, and the changes; both are logged too."""
    settings = flat_values(config) | dict(resolved)
    _log.info("settings:\n%s", "\n".join(f"  {key}: {value!r}" for key, value in settings.items()))
    _log.info("not as asked for:\n%s", "\n".join(f"  {line}" for line in change_lines(changes)) or "  nothing")
    return {"settings": settings, "changes": [asdict(change) for change in changes]}


def write_page(report: Mapping[str, Any], path: Path, text: PageText) -> None:
    """Write the report as Markdown."""
    share = 100.0 * report["trained_parameters"] / report["parameters"]
    parts = [
        "# Fine-tuning",
        f"Base: `{report['base']['file']}`. Trained: {report['trained_parameters']:,} of {report['parameters']:,} "
        f"parameters ({share:.1f} %); the heads have {report['head_parameters']:,}. "
        f"New elements: {', '.join(report['new_elements']) or 'none'}. {text.facts}",
        "## Errors before and after",
        f"*Before* is {text.before}",
        error_table(report["errors"]),
        text.warning,
        "## Settings that are not as they were asked for",
        "\n".join(f"- {line}" for line in change_lines([Change(**one) for one in report["changes"]])) or "None.",
        "## All settings",
        "\n".join(["| setting | value |", "|---|---|", *(f"| {k} | `{v!r}` |" for k, v in report["settings"].items())]),
    ]
    with written_at_once(path) as file:
        file.write(("\n\n".join(part for part in parts if part) + "\n").encode())


def warn_unmeasured(*, replay: bool) -> str:
    """Say that nothing will tell what was forgotten, and what to do; the same for the page.

    Args:
        replay: Whether old data are learned again, with none left.
    """
    why = "all of finetune.replay is learned again" if replay else "there are no data of the old domain"
    remedy = "finetune.old_domain, or a smaller replay_ratio" if replay else "finetune.old_domain or finetune.replay"
    _log.warning("nothing will say what the model has forgotten, because %s: give %s", why, remedy)
    return f"**Nothing says what was forgotten**, because {why}: give {remedy}."


def error_table(errors: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A Markdown table of errors before and after.

    >>> print(error_table({"valid": {"before": {"force_mae_meV_per_A": 80.0}, "after": {"force_mae_meV_per_A": 20.0}}}))
    | set | error | before | after | ratio |
    |---|---|---:|---:|---:|
    | valid | force_mae_meV_per_A | 80 | 20 | 0.25 |
    """
    lines = ["| set | error | before | after | ratio |", "|---|---|---:|---:|---:|"]
    for name, both in errors.items():
        for key, before in both["before"].items():
            after = both["after"].get(key, float("nan"))
            ratio = after / before if before else float("nan")
            lines.append(f"| {name} | {key} | {before:.4g} | {after:.4g} | {ratio:.2f} |")
    return "\n".join(lines)
