"""Optional packages: they are imported when they are used, and one error names the missing package."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ik_e3nn.errors import MissingDependencyError

_EXTRA = 'pip install "ik-e3nn[{}]"'
# What each package is needed for, and how to install it.
_PACKAGES = {
    "h5py": ("reading hdf5 files needs h5py", _EXTRA.format("hdf5")),
    "ipi": ("the driver of i-PI needs i-PI", _EXTRA.format("ipi")),
    "lightning": ("training needs Lightning", _EXTRA.format("train")),
    "openmm": ("simulations with OpenMM need openmm and openmmml", _EXTRA.format("openmm")),
    "phonopy": ("phonons need phonopy", _EXTRA.format("phonopy")),
    "rdkit": ("SMILES strings, SDF files, bonds of molecules and isotopes need RDKit", _EXTRA.format("chem")),
    "spglib": ("the symmetry of a slab needs spglib", _EXTRA.format("slab")),
    "tblite": ("labels of GFN2-xTB need tblite", _EXTRA.format("xtb")),
    "tensorboard": ("training needs TensorBoard", _EXTRA.format("train")),
    "torch_sim": ("IKModel needs Python 3.12 and TorchSim", _EXTRA.format("torchsim")),
    "torch_cluster": (
        "graphs of point clouds need torch-cluster, compiled against the installed torch",
        'make cluster, or pip install --no-build-isolation "ik-e3nn[cluster]"',
    ),
}


def needed(module: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its name, such as "rdkit.Chem".

    Raises:
        MissingDependencyError: The package is not installed, or cannot be imported.

    Example:
        >>> needed("rdkit.Chem").MolFromSmiles("CO").GetNumAtoms()
        2
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: compiled against another torch
        what, how = _PACKAGES[module.partition(".")[0]]
        raise MissingDependencyError(f"{what}, which cannot be imported here ({error}): {how}") from error


class OptionalModule:
    """Stands for a module of an optional package, and imports it when one of its names is used.

    Args:
        module: Its name, such as "rdkit.Chem".

    Example:
        >>> OptionalModule("rdkit.Chem").MolFromSmiles("CO").GetNumAtoms()
        2
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # requested by tools that inspect every object
            raise AttributeError(name)
        return getattr(needed(self._module), name)
