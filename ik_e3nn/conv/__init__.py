"""Steerable convolutions."""

from ik_e3nn.conv.point import PointConv
from ik_e3nn.conv.receivers import ReceiverBlocks, gather, segment_sum
from ik_e3nn.conv.sphere import ImplicitSphereConv, SphereConv, zonal_convolution

__all__ = [
    "ImplicitSphereConv",
    "PointConv",
    "ReceiverBlocks",
    "SphereConv",
    "gather",
    "segment_sum",
    "zonal_convolution",
]
