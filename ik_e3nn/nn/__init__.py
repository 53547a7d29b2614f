"""Modules that are equivariant under a closed subgroup of O(3), on flat features in e3nn's layout."""

from ik_e3nn.nn.gate import Gate
from ik_e3nn.nn.linear import EquivariantLinear
from ik_e3nn.nn.lora import LowRankUpdate, add_lora, lora_layers, lora_parameters, merge_lora
from ik_e3nn.nn.mlp import EquivariantMLP
from ik_e3nn.nn.norm import EquivariantBatchNorm, EquivariantLayerNorm
from ik_e3nn.nn.on_grid import OnGrid
from ik_e3nn.nn.scalar import ScalarMLP, normalized_sigmoid, normalized_silu
from ik_e3nn.nn.sphere.activation import SphereActivation
from ik_e3nn.nn.sphere.error import SphereError, sphere_degree, sphere_errors
from ik_e3nn.nn.sphere.invariants import Bispectrum, SphereNorms
from ik_e3nn.nn.sphere.product import SphereProduct
from ik_e3nn.nn.sphere.signal import SpectralPool, from_fields, to_fields
from ik_e3nn.nn.tensor_product import DampedSquare, SelfTensorProduct, TensorPowers, TensorProduct

__all__ = [
    "Bispectrum",
    "DampedSquare",
    "EquivariantBatchNorm",
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "EquivariantMLP",
    "Gate",
    "LowRankUpdate",
    "OnGrid",
    "ScalarMLP",
    "SelfTensorProduct",
    "SpectralPool",
    "SphereActivation",
    "SphereError",
    "SphereNorms",
    "SphereProduct",
    "TensorPowers",
    "TensorProduct",
    "add_lora",
    "from_fields",
    "lora_layers",
    "lora_parameters",
    "merge_lora",
    "normalized_sigmoid",
    "normalized_silu",
    "sphere_degree",
    "sphere_errors",
    "to_fields",
]
