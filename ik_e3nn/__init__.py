"""Implicit steerable kernels for interatomic potentials, for every closed subgroup of O(3).

The names below are imported when they are first used, so ``import ik_e3nn`` takes no time. The sub-packages have more:

- :mod:`ik_e3nn.symmetry`, :mod:`ik_e3nn.basis`: groups and their invariants; radial bases and harmonics.
- :mod:`ik_e3nn.nn`, :mod:`ik_e3nn.kernels`, :mod:`ik_e3nn.conv`: equivariant modules, implicit kernels, convolutions.
- :mod:`ik_e3nn.graph`, :mod:`ik_e3nn.blocks`, :mod:`ik_e3nn.models`: structures as graphs, potentials, model files.
- :mod:`ik_e3nn.data`, :mod:`ik_e3nn.training`, :mod:`ik_e3nn.cli`: structures and labels, training, the command line.
- :mod:`ik_e3nn.testing`: the property tests that every model of this library passes, usable for your own models.

Calculators for molecular dynamics are in the sister package :mod:`ik_e3nn_calculators`.

Example:
    >>> import ik_e3nn
    >>> ik_e3nn.SymmetryGroup("C4v").name
    'C4v'
"""

from typing import TYPE_CHECKING

from ik_e3nn.lazy import lazy

if TYPE_CHECKING:
    from ik_e3nn.conv import GridConv, PointConv, SphereConv
    from ik_e3nn.kernels import AnalyticKernel, ImplicitKernel, RadialKernel
    from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, load_model
    from ik_e3nn.symmetry import SymmetryGroup
    from ik_e3nn.training import evaluate, finetune, predict, train
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "ik_e3nn.symmetry": ["SymmetryGroup"],
            "ik_e3nn.kernels": ["AnalyticKernel", "ImplicitKernel", "RadialKernel"],
            "ik_e3nn.conv": ["GridConv", "PointConv", "SphereConv"],
            "ik_e3nn.models": ["InteratomicPotential", "MolecularPropertyModel", "load_model"],
            "ik_e3nn.training": ["evaluate", "finetune", "predict", "train"],
        },
    )

__version__ = "0.1.0"

__all__ = [
    "AnalyticKernel",
    "GridConv",
    "ImplicitKernel",
    "InteratomicPotential",
    "MolecularPropertyModel",
    "PointConv",
    "RadialKernel",
    "SphereConv",
    "SymmetryGroup",
    "__version__",
    "evaluate",
    "finetune",
    "load_model",
    "predict",
    "train",
]
