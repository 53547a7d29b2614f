"""Targets: a class for every kind of predicted quantity, and the heads that compute it from the features of atoms."""

from ik_e3nn.targets.dipole import Dipole, DipoleNorm
from ik_e3nn.targets.labels import LabelLayout
from ik_e3nn.targets.mechanics import MECHANICS, Energy, Forces, Stress, mechanics_of
from ik_e3nn.targets.numbers import Extensive, Intensive, SpatialExtent
from ik_e3nn.targets.polarizability import Polarizability
from ik_e3nn.targets.target import KINDS, Target, make_target, parse_target, target_from_config

__all__ = [
    "KINDS",
    "MECHANICS",
    "Dipole",
    "DipoleNorm",
    "Energy",
    "Extensive",
    "Forces",
    "Intensive",
    "LabelLayout",
    "Polarizability",
    "SpatialExtent",
    "Stress",
    "Target",
    "make_target",
    "mechanics_of",
    "parse_target",
    "target_from_config",
]
