"""Kernels: steerable filter fields of an edge, from a G-equivariant MLP or a fixed basis."""

from ik_e3nn.kernels.analytic import AnalyticKernel
from ik_e3nn.kernels.base import Filter, Kernel, SeparableFilter, TiledFilter
from ik_e3nn.kernels.implicit import ImplicitKernel
from ik_e3nn.kernels.radial import RadialKernel
from ik_e3nn.kernels.residual import ResidualKernel

__all__ = [
    "AnalyticKernel",
    "Filter",
    "ImplicitKernel",
    "Kernel",
    "RadialKernel",
    "ResidualKernel",
    "SeparableFilter",
    "TiledFilter",
]
