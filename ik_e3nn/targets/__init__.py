"""What is predicted: a class for every kind of quantity, and the heads that read it from the features of atoms."""

from ik_e3nn.targets.dipole import Dipole, DipoleNorm
from ik_e3nn.targets.numbers import Extensive, Intensive, SpatialExtent
from ik_e3nn.targets.polarizability import Polarizability
from ik_e3nn.targets.target import KINDS, Target, make_target, parse_target, target_from_config

__all__ = [
    "KINDS",
    "Dipole",
    "DipoleNorm",
    "Extensive",
    "Intensive",
    "Polarizability",
    "SpatialExtent",
    "Target",
    "make_target",
    "parse_target",
    "target_from_config",
]
