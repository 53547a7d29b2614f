"""The settings of dynamics and relaxations of many structures: those of one run, and a few more."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import Count, refuse_unused
from ik_e3nn_calculators.md.settings import MDSettings
from ik_e3nn_calculators.relax.settings import RelaxSettings
from ik_e3nn_calculators.run_settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class ManyStructures:
    """What is said of many structures besides the settings of each run.

    Args:
        more: Further structure files and SMILES strings, which are computed together with the first.
        all_frames: Take all frames of every structure file.
        batch_atoms: Largest number of atoms in one call of the model if there are many structures; limits the memory.
    """

    more: Sequence[str] = ()
    all_frames: bool = False
    batch_atoms: Count = 2000


def are_many(settings: ManyStructures) -> bool:
    """Whether settings name more than one structure, or all frames of a file."""
    return settings.all_frames or len(settings.more) > 0


@dataclass(frozen=True)
class ManyMDSettings(MDSettings, ManyStructures):
    """Molecular dynamics of one structure or of many; those of each structure are settings of ``MDSettings``.

    Raises:
        ValueError: A setting is out of range or has no effect.

    Example:
        >>> ManyMDSettings("CCO", more=["CO", "water.xyz"], time_ps=1.0).num_steps
        2000
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, self)


@dataclass(frozen=True)
class ManyRelaxSettings(RelaxSettings, ManyStructures):
    """A relaxation of one structure or of many; those of each structure are settings of ``RelaxSettings``.

    Raises:
        ValueError: A setting is out of range or has no effect.

    Example:
        >>> ManyRelaxSettings("CCO", more=["CO", "water.xyz"], fmax=0.01).fmax
        0.01
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, self)


def settings_of_one(settings: RunSettings, kind: type[RunSettings], **changes: Any) -> Any:
    """The settings of one run out of those of many.

    Args:
        settings: The settings of all.
        kind: The class of the settings of one run.
        **changes: Settings of this run.

    Example:
        >>> settings_of_one(ManyRelaxSettings("CCO", more=["CO"], fmax=0.01), RelaxSettings, seed=3).seed
        3
    """
    return kind(**{one.name: getattr(settings, one.name) for one in fields(kind) if one.init} | changes)


def _check(run: RunSettings, many: ManyStructures) -> None:
    """Raise for settings that contradict each other or have no effect."""
    if many.all_frames and run.frame is not None:
        raise ConfigError(f"all_frames takes all frames, and frame={run.frame} takes one; choose one of the two")
    if not are_many(many):
        refuse_unused(many, ["batch_atoms"], "there is only one structure")
