"""Pictures of kernels."""

from ik_e3nn.show.blocks import draw_block
from ik_e3nn.show.figures import cases_figure, rotation_figure, slices_figure, sphere_figure
from ik_e3nn.show.plane import Plane
from ik_e3nn.show.potential import potential_kernel
from ik_e3nn.show.subject import ShownKernel, convolution_kernel, random_kernel
from ik_e3nn.show.turning import inside, most_moved, outside, rotation_error, turned

__all__ = [
    "Plane",
    "ShownKernel",
    "cases_figure",
    "convolution_kernel",
    "draw_block",
    "inside",
    "most_moved",
    "outside",
    "potential_kernel",
    "random_kernel",
    "rotation_error",
    "rotation_figure",
    "slices_figure",
    "sphere_figure",
    "turned",
]
