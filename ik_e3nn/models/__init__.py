"""Models and their files."""

from ik_e3nn.models.checkpoint import load_model, load_property_model, read_model_info, save_model
from ik_e3nn.models.compiled import CompileWarning, compile_for_training, compile_potential
from ik_e3nn.models.forecaster import Forecaster
from ik_e3nn.models.hyperparameters import PRESETS
from ik_e3nn.models.point_cloud import PointCloudClassifier
from ik_e3nn.models.potential import InteratomicPotential
from ik_e3nn.models.property import MolecularPropertyModel

__all__ = [
    "PRESETS",
    "CompileWarning",
    "Forecaster",
    "InteratomicPotential",
    "MolecularPropertyModel",
    "PointCloudClassifier",
    "compile_for_training",
    "compile_potential",
    "load_model",
    "load_property_model",
    "read_model_info",
    "save_model",
]
