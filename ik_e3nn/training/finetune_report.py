"""What a fine-tuning has come to, in words: settings as they were resolved, and errors before and after."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.config import TrainConfig
from ik_e3nn.training.config_file import flat_values
from ik_e3nn.training.prepare import TrainingData

_log = logging.getLogger(__name__)

_REASONS = {
    "run.device": "the device that is there",
    "data.E0s": "energies of the elements, in eV",
    "finetune.base": "where the base model is",
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

    @classmethod
    def of(
        cls, config: TrainConfig, key: str, resolved: Any, base: InteratomicPotential, data: TrainingData
    ) -> Change | None:
        """The change of a setting, or None if it is as it was asked for."""
        asked = flat_values(config).get(key)
        if asked == resolved:
            return None
        reason = _REASONS.get(key, "the base's")
        if key == "model.species":
            extra = [chemical_symbols[z] for z in data.species if z not in base.species]
            reason = f"the base's and {', '.join(extra)} of the data" if extra else "the base's"
        return cls(key, asked, resolved, reason)

    def line(self) -> str:
        """The change in one line.

        >>> Change("run.device", "auto", "cpu", "the device that is there").line()
        "run.device: asked for 'auto', is 'cpu' (the device that is there)"
        """
        asked = "not asked for" if self.asked is None else f"asked for {self.asked!r}"
        return f"{self.setting}: {asked}, is {self.resolved!r} ({self.reason})"


def describe(config: TrainConfig, resolved: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """All settings as they are used, and the changes; both are logged too."""
    settings = flat_values(config) | dict(resolved)
    _log.info("settings:\n%s", "\n".join(f"  {key}: {value!r}" for key, value in settings.items()))
    _log.info("not as asked for:\n%s", "\n".join(f"  {change.line()}" for change in changes) or "  nothing")
    return {"settings": settings, "changes": [asdict(change) for change in changes]}


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """Write the report as Markdown."""
    share = 100.0 * report["trained_parameters"] / report["parameters"]
    parts = [
        "# Fine-tuning",
        f"Base: `{report['base']['file']}`. Trained: {report['trained_parameters']:,} of {report['parameters']:,} "
        f"parameters ({share:.1f} %). Replayed structures: {report['replayed']}. "
        f"New elements: {', '.join(report['new_elements']) or 'none'}. E0s: {report['E0s_from']}.",
        "## Errors before and after",
        "*Before* is the base with the new elements and E0s. Energies of the old domain are moved to the new E0s.",
        error_table(report["errors"]),
        "## Settings that are not as they were asked for",
        "\n".join(f"- {Change(**change).line()}" for change in report["changes"]) or "None.",
        "## All settings",
        "\n".join(["| setting | value |", "|---|---|", *(f"| {k} | `{v!r}` |" for k, v in report["settings"].items())]),
    ]
    if "old domain" not in report["errors"]:
        parts.insert(5, "**Nothing says what was forgotten**: there was no data of the old domain to measure it on.")
    path.write_text("\n\n".join(parts) + "\n")


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
