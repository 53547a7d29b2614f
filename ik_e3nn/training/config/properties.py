"""The configuration of a training of properties; see ``ik_e3nn.training.config.schema``.

A YAML file whose ``data`` section names ``targets`` is of this kind. The ``model`` section holds the arguments of
``ik_e3nn.models.MolecularPropertyModel``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import yaml

from ik_e3nn.errors import ConfigError
from ik_e3nn.settings import check_settings
from ik_e3nn.training.config.schema import OptimizerConfig, RunConfig


@dataclass(frozen=True)
class PropertyDataConfig:
    """Molecules and their properties.

    Args:
        train: File, folder, glob or list: csv with SMILES, SDF, extxyz, or QM9 in any of its forms.
        targets: Names of QM9's targets (mu alpha homo lumo gap r2 zpve U0 U H G Cv U0_atom U_atom H_atom G_atom), or
            one's own with their kind and unit: {solubility: intensive log(mol/L)}, or {solubility: {kind: intensive,
            unit: log(mol/L)}}. Kinds are extensive, intensive,
            dipole, dipole_norm, polarizability and spatial_extent. Values may be missing.
        valid: Files as for ``train``, or a fraction (below 1) or number of molecules to set aside.
        test: The same for testing; null for none.
        split: How molecules are set aside: at random by run.seed, or as in the paper's QM9 table (numpy's seed 0).
        train_size: Train on the first so many of the training part only.
        bonds: Where bonds come from: the file, the SMILES, the geometry ("perceived"), or the first of these there is.
        on_failure: What happens to a molecule whose bonds are not found: error, skip it, or single bonds throughout.
            With skip, rows whose SMILES cannot be read and molecules with positions that are not finite are left out
            too.
    """

    train: str | list[str]
    targets: dict[str, Any] | list[str]
    valid: int | float | str | list[str] = 0.1
    test: int | float | str | list[str] | None = None
    split: Literal["random", "paper"] = "random"
    train_size: int | None = None
    bonds: Literal["auto", "given", "smiles", "perceived"] = "auto"
    on_failure: Literal["error", "skip", "single"] = "error"

    def __post_init__(self) -> None:
        check_settings(self, "data")
        if isinstance(self.targets, list) and len(self.targets) == 1 and self.targets[0].startswith("{"):
            try:
                object.__setattr__(self, "targets", yaml.safe_load(self.targets[0]))  # of a command line
            except yaml.YAMLError as error:
                raise ConfigError(
                    f"data.targets is {self.targets[0]!r}, but it must be a mapping or a list."
                ) from error
            check_settings(self, "data")
        for name in ("valid", "test"):
            value = getattr(self, name)
            if isinstance(value, float) and not 0 < value < 1:
                raise ConfigError(f"data.{name} is {value!r}, but a fraction must be between 0 and 1.")
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"data.{name} is {value!r}, but it must be at least one molecule.")
        if self.train_size is not None and self.train_size < 1:
            raise ConfigError(f"data.train_size is {self.train_size!r}, but it must be at least one molecule.")


@dataclass(frozen=True)
class PropertyLossConfig:
    """The loss: the weighted mean over targets of mean errors in units of each target's spread.

    Args:
        kind: Squared error, absolute error, or Huber's mixture of both.
        huber_delta: Error, in units of the spread, at which Huber's loss turns from quadratic to linear.
        weights: Weights of targets that are not 1, by name; 0 leaves one out.
    """

    kind: Literal["mse", "mae", "huber"] = "huber"
    huber_delta: float = 0.05
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, "loss")
        if not self.huber_delta > 0:
            raise ConfigError(f"loss.huber_delta is {self.huber_delta!r}, but it must be positive.")
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise ConfigError(f"loss.weights.{name} is {weight!r}, but it must be zero or positive.")


@dataclass(frozen=True)
class PropertyConfig:
    """Everything a training of properties needs.

    Args:
        data: Molecules and properties.
        model: Arguments of ``MolecularPropertyModel`` (species and targets come from the data).
        loss: What is minimized.
        optimizer: How it is minimized.
        run: Where and how long.
    """

    model_is_given: ClassVar[bool] = False

    data: PropertyDataConfig
    model: dict[str, Any] = field(default_factory=dict)
    loss: PropertyLossConfig = field(default_factory=PropertyLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_settings(self)
