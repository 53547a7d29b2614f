"""Steerable convolutions."""

from ik_e3nn.conv.point import PointConv
from ik_e3nn.conv.receivers import ReceiverBlocks, gather, segment_sum

__all__ = ["PointConv", "ReceiverBlocks", "gather", "segment_sum"]
