"""Training and evaluation of potentials and models of properties, from a configuration to a model file.

Importing this package is cheap; Lightning is loaded when training starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ik_e3nn.lazy import lazy
from ik_e3nn.training.config.finetune import FinetuneConfig, MethodConfig
from ik_e3nn.training.config.schema import DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig

if TYPE_CHECKING:
    from ik_e3nn.training.config.calibrate import CalibrationSettings
    from ik_e3nn.training.config.file import read_config, write_config
    from ik_e3nn.training.fit import TrainResult, finetune, train
    from ik_e3nn.training.inference.evaluation import EvalSettings, evaluate
    from ik_e3nn.training.inference.table import PredictSettings, predict
    from ik_e3nn.training.uncertainty.calibration import calibrate
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "ik_e3nn.training.config.calibrate": ["CalibrationSettings"],
            "ik_e3nn.training.config.file": ["read_config", "write_config"],
            "ik_e3nn.training.fit": ["TrainResult", "finetune", "train"],
            "ik_e3nn.training.inference.evaluation": ["EvalSettings", "evaluate"],
            "ik_e3nn.training.inference.table": ["PredictSettings", "predict"],
            "ik_e3nn.training.uncertainty.calibration": ["calibrate"],
        },
    )

__all__ = [
    "CalibrationSettings",
    "DataConfig",
    "EvalSettings",
    "FinetuneConfig",
    "LossConfig",
    "MethodConfig",
    "OptimizerConfig",
    "PredictSettings",
    "RunConfig",
    "TrainConfig",
    "TrainResult",
    "calibrate",
    "evaluate",
    "finetune",
    "predict",
    "read_config",
    "train",
    "write_config",
]
