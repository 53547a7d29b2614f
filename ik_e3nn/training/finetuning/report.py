"""The report of a fine-tuning: resolved settings, and errors before and after."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from ik_e3nn.atomic import written_at_once
from ik_e3nn.models import StoredModel
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.training.config.file import flat_values
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.finetuning.references import energies_of

_log = logging.getLogger(__name__)

OF_BASE = "the base's"
_REASONS = {
    "run.device": "the available device",
    "data.E0s": "energies of the elements, in eV",
    "finetune.base": "the file of the base model",
    "finetune.E0s": "the default",
    "finetune.lora_lr_factor": "the default",
    "finetune.lora_rank": "the default",
    "finetune.replay_ratio": "as many structures as available",
}


@dataclass(frozen=True)
class Change:
    """A setting that differs from what was asked for.

    Args:
        setting: Its dotted name.
        asked: The value asked for; None if the default was used.
        resolved: The value used.
        reason: The reason.
    """

    setting: str
    asked: Any
    resolved: Any
    reason: str

    def line(self) -> str:
        """The change in one line.

        >>> Change("run.device", "cuda", "cuda:0", "the available device").line()
        "run.device: asked for 'cuda', is 'cuda:0' (the available device)"
        """
        asked = "not asked for" if self.asked is None else f"asked for {self.asked!r}"
        return f"{self.setting}: {asked}, is {self.resolved!r} ({self.reason})"


def resolved_settings(model: StoredModel, config: FinetuneConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are used, as far as they may differ from what was asked for, by dotted name.

    Args:
        model: The model to train.
        config: The settings asked for.
        facts: The file of the base, and numbers of new and replayed structures.
    """
    method, found = config.finetune, {f"model.{name}": one for name, one in model.config.items() if name != "targets"}
    found |= {"finetune.base": facts["base"]["file"], "run.device": str(resolve_device(config.run.device))}
    if model.potential is not None:
        energies, found["finetune.E0s"] = energies_of(model.potential), config.references
        found["data.E0s"] = {chemical_symbols[z]: round(energy, 6) for z, energy in energies.items()}
    if method.method == "lora":
        found |= {"finetune.lora_rank": method.rank, "finetune.lora_lr_factor": method.lr_factor}
    if 0 < facts["replayed"] < method.replay_count(facts["structures"]):
        found["finetune.replay_ratio"] = round(facts["replayed"] / facts["structures"], 6)
    return found


def changes_of(config: TrainConfig, resolved: Mapping[str, Any], reasons: Mapping[str, str]) -> list[Change]:
    """Settings that differ from what was asked for.

    Args:
        config: The settings asked for.
        resolved: The settings used, by dotted name.
        reasons: Reasons by dotted name, if not a usual reason; without any reason a setting is the base's.
    """
    before, usual, known = flat_values(config), _defaults(config), _REASONS | dict(reasons)
    asked = {key: value for key, value in before.items() if value != usual.get(key)}
    return [
        Change(key, asked.get(key), value, known.get(key, OF_BASE))
        for key, value in resolved.items()
        if before.get(key) != value
    ]


def _defaults(config: TrainConfig) -> dict[str, Any]:
    """Defaults of the settings that have one, by dotted key."""
    sections = {one.name: getattr(config, one.name) for one in fields(config)}
    return {
        f"{name}.{one.name}": one.default
        for name, section in sections.items()
        if is_dataclass(section)
        for one in fields(section)
        if one.default is not MISSING
    }


def change_lines(changes: Sequence[Change]) -> list[str]:
    """One line per change; settings of the base that were not asked for share one.

    >>> change_lines([Change("model.r_max", None, 5.0, OF_BASE), Change("model.group", None, "O3", OF_BASE)])
    ["not asked for, the base's: model.r_max, model.group"]
    """
    taken = [one.setting for one in changes if one.asked is None and one.reason == OF_BASE]
    lines = [one.line() for one in changes if one.setting not in taken]
    return [*lines, f"not asked for, {OF_BASE}: {', '.join(taken)}"] if taken else lines


def describe(config: TrainConfig, resolved: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Log all settings and the changes, see ``changes_of``, and return both for the report."""
    changes = changes_of(config, resolved, reasons)
    settings = flat_values(config) | dict(resolved)
    _log.info("settings:\n%s", "\n".join(f"  {key}: {value!r}" for key, value in settings.items()))
    changed = "\n".join(f"  {line}" for line in change_lines(changes)) or "  nothing"
    _log.info("settings that differ from what was asked for:\n%s", changed)
    return {"settings": settings, "changes": [asdict(change) for change in changes]}


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the report as Markdown."""
    share = 100.0 * report["trained_parameters"] / report["parameters"]
    parts = [
        "# Fine-tuning",
        f"Base: `{report['base']['file']}`. Trained: {report['trained_parameters']:,} of {report['parameters']:,} "
        f"parameters ({share:.1f} %); the heads have {report['head_parameters']:,}. "
        f"New elements: {', '.join(report['new_elements']) or 'none'}. "
        f"New surroundings: {report['new_surroundings'] or 'none'}. {_targets_and_data(report)}",
        "## Errors before and after",
        f"*Before* is {_before(report)}.",
        error_table(report["errors"]),
        report["warning"],
        "## Settings that differ from what was asked for",
        "\n".join(f"- {line}" for line in change_lines([Change(**one) for one in report["changes"]])) or "None.",
        "## All settings",
        "\n".join(["| setting | value |", "|---|---|", *(f"| {k} | `{v!r}` |" for k, v in report["settings"].items())]),
    ]
    with written_at_once(path) as file:
        file.write(("\n\n".join(part for part in parts if part) + "\n").encode())


def _targets_and_data(report: Mapping[str, Any]) -> str:
    """Sentences about targets, old data and references."""
    names = {
        "Targets shared with the base": "kept_targets", "new": "new_targets",
        "kept from the base for old data": "old_targets", "left out": "lost_targets",
    }  # fmt: skip
    text = "; ".join(f"{what}: {', '.join(report[key]) or 'none'}" for what, key in names.items()) + "."
    text += f" Old structures: {report['replayed']} replayed, {report['measured']} to measure on."
    return text + (f" E0s: {report['E0s_from']}." if "E0s_from" in report else "")


def _before(report: Mapping[str, Any]) -> str:
    """The model that the errors before belong to."""
    text = "the base with the new elements and surroundings"
    if report["new_targets"]:
        text += "; new targets are predicted by their references, from composition and size alone"
        text += ", and targets of the base by its own heads" if report["kept_targets"] or report["old_targets"] else ""
    if report["kept_targets"] and report["settings"]["finetune.E0s"] != "base":
        text += "; references, and the values of old data, are shifted to the new labels"
    return text


def warn_unmeasured(*, replay: bool) -> str:
    """Warn that forgetting is not measured and how to change that, and return the same text for the page.

    Args:
        replay: Whether old data are replayed, with none left to measure on.
    """
    why = "all structures of finetune.replay are replayed" if replay else "there are no data of the old domain"
    remedy = "finetune.old_domain, or a smaller replay_ratio" if replay else "finetune.old_domain or finetune.replay"
    _log.warning("what the model forgets is not measured, because %s: give %s", why, remedy)
    return f"**What the model has forgotten was not measured**, because {why}: give {remedy}."


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
