"""Models and their files."""

from ik_e3nn.models.checkpoint import load_model, read_model_info, save_model
from ik_e3nn.models.potential import InteratomicPotential

__all__ = ["InteratomicPotential", "load_model", "read_model_info", "save_model"]
