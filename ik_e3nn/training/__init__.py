"""Training and evaluation of potentials and models of properties, from a configuration to a model file.

Importing this package is cheap; Lightning is loaded when training starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ik_e3nn.training.config.finetune import FinetuneConfig, MethodConfig, PropertyFinetuneConfig
from ik_e3nn.training.config.properties import PropertyConfig, PropertyDataConfig, PropertyLossConfig
from ik_e3nn.training.config.schema import DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig

if TYPE_CHECKING:
    from ik_e3nn.training.config.calibrate import CalibrationSettings
    from ik_e3nn.training.config.file import read_config, write_config
    from ik_e3nn.training.fit import TrainResult, finetune, train
    from ik_e3nn.training.inference.evaluation import EvalSettings, evaluate
    from ik_e3nn.training.uncertainty.calibration import calibrate

__all__ = [
    "CalibrationSettings",
    "DataConfig",
    "EvalSettings",
    "FinetuneConfig",
    "LossConfig",
    "MethodConfig",
    "OptimizerConfig",
    "PropertyConfig",
    "PropertyDataConfig",
    "PropertyFinetuneConfig",
    "PropertyLossConfig",
    "RunConfig",
    "TrainConfig",
    "TrainResult",
    "calibrate",
    "evaluate",
    "finetune",
    "read_config",
    "train",
    "write_config",
]

_LAZY = {
    "CalibrationSettings": "config.calibrate",
    "calibrate": "uncertainty.calibration",
    "EvalSettings": "inference.evaluation",
    "evaluate": "inference.evaluation",
    "finetune": "fit",
    "TrainResult": "fit",
    "train": "fit",
    "read_config": "config.file",
    "write_config": "config.file",
}


def __getattr__(name: str) -> Any:
    """Import what needs heavy packages only when it is used."""
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
