"""Training and evaluation of potentials and models of properties, from a configuration to a model file.

Importing this package is cheap; Lightning is loaded when training starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ik_e3nn.training.config import DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig
from ik_e3nn.training.finetune_config import FinetuneConfig, MethodConfig, PropertyFinetuneConfig
from ik_e3nn.training.property_config import PropertyConfig, PropertyDataConfig, PropertyLossConfig

if TYPE_CHECKING:
    from ik_e3nn.training.calibration import calibrate
    from ik_e3nn.training.calibration_settings import CalibrationSettings
    from ik_e3nn.training.config_file import read_config, write_config
    from ik_e3nn.training.evaluation import EvalSettings, evaluate
    from ik_e3nn.training.fit import TrainResult, finetune, train

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
    "CalibrationSettings": "calibration_settings",
    "calibrate": "calibration",
    "EvalSettings": "evaluation",
    "evaluate": "evaluation",
    "finetune": "fit",
    "TrainResult": "fit",
    "train": "fit",
    "read_config": "config_file",
    "write_config": "config_file",
}


def __getattr__(name: str) -> Any:
    """Import what needs heavy packages only when it is used."""
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
