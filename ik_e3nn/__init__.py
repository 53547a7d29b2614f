"""Implicit steerable kernels for interatomic potentials, for every closed subgroup of O(3).

Import what you need from the sub-packages; this one imports nothing, so ``import ik_e3nn`` is free:

- :mod:`ik_e3nn.symmetry`, :mod:`ik_e3nn.basis`: groups and their invariants; radial bases and harmonics.
- :mod:`ik_e3nn.nn`, :mod:`ik_e3nn.kernels`, :mod:`ik_e3nn.conv`: equivariant modules, implicit kernels, convolutions.
- :mod:`ik_e3nn.graph`, :mod:`ik_e3nn.blocks`, :mod:`ik_e3nn.models`: structures as graphs, potentials, model files.
- :mod:`ik_e3nn.data`, :mod:`ik_e3nn.training`, :mod:`ik_e3nn.cli`: structures and labels, training, the command line.
- :mod:`ik_e3nn.testing`: the property tests that every model of this library passes, usable on your own.

Calculators for molecular dynamics are in the sister package :mod:`ik_e3nn_calculators`.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
