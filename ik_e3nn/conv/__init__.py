"""Steerable convolutions of point clouds, grids and signals on the sphere."""

from ik_e3nn.conv.grid import GridConv
from ik_e3nn.conv.grid_pool import GridPool
from ik_e3nn.conv.point import PointConv
from ik_e3nn.conv.receivers import ReceiverBlocks, gather, segment_sum
from ik_e3nn.conv.sphere import ImplicitSphereConv, SphereConv, zonal_convolution
from ik_e3nn.conv.stencil import Stencil

__all__ = [
    "GridConv",
    "GridPool",
    "ImplicitSphereConv",
    "PointConv",
    "ReceiverBlocks",
    "SphereConv",
    "Stencil",
    "gather",
    "segment_sum",
    "zonal_convolution",
]
