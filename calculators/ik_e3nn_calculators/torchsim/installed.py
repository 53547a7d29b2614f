"""TorchSim's interface of models, if a release of TorchSim that has it is installed."""

from importlib import metadata

from ik_e3nn.errors import MissingDependencyError
from ik_e3nn.optional import needed

OLDEST = (0, 6)


def check_release() -> None:
    """Refuse a TorchSim that is missing or too old.

    For Python 3.11 pip installs TorchSim 0.3 without a word, whose models have another interface.

    Raises:
        MissingDependencyError: TorchSim 0.6 or newer is not installed.
    """
    try:
        found = metadata.version("torch-sim-atomistic")
    except metadata.PackageNotFoundError:
        found = ""
    if found and tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise MissingDependencyError(
            f"TorchSim {found} is installed, but IKModel needs 0.6 or newer, which needs Python 3.12; for older "
            "Pythons pip chooses an old TorchSim. In an environment with Python 3.12 or newer: "
            'pip install "ik-e3nn[torchsim]"'
        )
    needed("torch_sim")


check_release()

from torch_sim.models.interface import ModelInterface  # noqa: E402  (older releases have other modules)
from torch_sim.neighbors import torchsim_nl  # noqa: E402

__all__ = ["ModelInterface", "check_release", "torchsim_nl"]
