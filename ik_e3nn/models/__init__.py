"""Models and their files."""

from ik_e3nn.models.compiled.layers import compile_layers
from ik_e3nn.models.compiled.potential import CompileWarning, compile_for_training, compile_potential
from ik_e3nn.models.files.checkpoint import load_model, read_model_info, save_model
from ik_e3nn.models.files.pretrained import base_model_path, model_files, model_path
from ik_e3nn.models.networks.energies import batch_of, energies_of
from ik_e3nn.models.networks.forecaster import Forecaster
from ik_e3nn.models.networks.hessian import hessian, hessian_products
from ik_e3nn.models.networks.hyperparameters import PRESETS
from ik_e3nn.models.networks.interface import EdgePotential, Potential
from ik_e3nn.models.networks.owned import predict_owned
from ik_e3nn.models.networks.point_cloud import PointCloudClassifier
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.models.transfer.beside import beside_surroundings
from ik_e3nn.models.transfer.retarget import retargeted
from ik_e3nn.models.transfer.species import extended
from ik_e3nn.models.uncertainty.ensemble import Committee, Ensemble
from ik_e3nn.models.uncertainty.file import save_uncertainty, with_uncertainty
from ik_e3nn.models.uncertainty.last_layer import LastLayerEnsemble

__all__ = [
    "PRESETS",
    "Committee",
    "CompileWarning",
    "EdgePotential",
    "Ensemble",
    "Forecaster",
    "InteratomicPotential",
    "LastLayerEnsemble",
    "MolecularPropertyModel",
    "PointCloudClassifier",
    "Potential",
    "StoredModel",
    "base_model_path",
    "batch_of",
    "beside_surroundings",
    "compile_for_training",
    "compile_layers",
    "compile_potential",
    "energies_of",
    "extended",
    "hessian",
    "hessian_products",
    "load_model",
    "model_files",
    "model_path",
    "predict_owned",
    "read_model_info",
    "retargeted",
    "save_model",
    "save_uncertainty",
    "with_uncertainty",
]
