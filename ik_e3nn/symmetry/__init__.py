"""Closed subgroups of O(3), their invariant vectors and equivariant linear maps; plane groups of crystal faces."""

from ik_e3nn.symmetry.group import SymmetryGroup
from ik_e3nn.symmetry.intertwiners import intertwiners, trilinear_invariants
from ik_e3nn.symmetry.invariants import invariants
from ik_e3nn.symmetry.plane import PlaneGroup
from ik_e3nn.symmetry.wigner import representation_matrix

__all__ = [
    "PlaneGroup",
    "SymmetryGroup",
    "intertwiners",
    "invariants",
    "representation_matrix",
    "trilinear_invariants",
]
