"""TorchSim: potentials as models that treat many structures in one call, with batches that it chooses itself."""

from typing import TYPE_CHECKING

from ik_e3nn.lazy import lazy

if TYPE_CHECKING:
    from ik_e3nn_calculators.torchsim.model import IKModel
else:
    __getattr__, __dir__ = lazy(__name__, {"ik_e3nn_calculators.torchsim.model": ["IKModel"]})

__all__ = ["IKModel"]
