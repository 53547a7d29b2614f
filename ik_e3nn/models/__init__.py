"""Models and their files."""

from ik_e3nn.models.checkpoint import load_model, load_property_model, read_model_info, save_model
from ik_e3nn.models.compiled import CompileWarning, compile_for_training, compile_potential
from ik_e3nn.models.forecaster import Forecaster
from ik_e3nn.models.hyperparameters import PRESETS
from ik_e3nn.models.last_layer import LastLayerEnsemble
from ik_e3nn.models.point_cloud import PointCloudClassifier
from ik_e3nn.models.potential import InteratomicPotential
from ik_e3nn.models.pretrained import base_model_path, model_files, model_path
from ik_e3nn.models.property import MolecularPropertyModel
from ik_e3nn.models.retarget import retargeted
from ik_e3nn.models.species import extended
from ik_e3nn.models.uncertain import Committee, UncertainPotential
from ik_e3nn.models.uncertain_properties import LastLayerProperties, PropertyCommittee, UncertainProperties
from ik_e3nn.models.uncertainty_file import save_uncertainty, with_property_uncertainty, with_uncertainty

__all__ = [
    "PRESETS",
    "Committee",
    "CompileWarning",
    "Forecaster",
    "InteratomicPotential",
    "LastLayerEnsemble",
    "LastLayerProperties",
    "MolecularPropertyModel",
    "PointCloudClassifier",
    "PropertyCommittee",
    "UncertainPotential",
    "UncertainProperties",
    "base_model_path",
    "compile_for_training",
    "compile_potential",
    "extended",
    "load_model",
    "load_property_model",
    "model_files",
    "model_path",
    "read_model_info",
    "retargeted",
    "save_model",
    "save_uncertainty",
    "with_property_uncertainty",
    "with_uncertainty",
]
