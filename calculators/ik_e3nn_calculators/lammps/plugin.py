"""The folder of the compiled plug-in, which LAMMPS asks for when it starts; this module imports nothing heavy."""

import hashlib
from importlib import metadata
from pathlib import Path

from ik_e3nn.private_folder import cache_folder, private_folder

HERE = Path(__file__).parent
LIBRARIES = {  # LAMMPS loads the files of a folder whose names end with plugin.so
    "pair_ik_e3nn.so": HERE / "pair_ik_e3nn.cpp",
    "ik_e3nnplugin.so": HERE / "plugin.cpp",
}
OPTIONS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-DLAMMPS_SMALLBIG")  # of the compiler


def plugin_folder() -> str:
    """The folder in which ``ik-e3nn lammps build`` puts the plug-in for the installed torch and LAMMPS.

    It is the entry point of the group ``lammps.plugins``: the command ``lmp`` loads the plug-in if it was built. It
    never fails, because it is called by every start of LAMMPS.
    """
    try:
        return str(private_folder(cache_folder() / "lammps" / _key()))
    except (OSError, metadata.PackageNotFoundError):
        return ""


def _key() -> str:
    """Digest of what the machine code depends on: the sources, options, torch, LAMMPS and MPI."""
    digest = hashlib.sha256()
    for source in LIBRARIES.values():
        digest.update(source.read_bytes())
    digest.update(" ".join(OPTIONS).encode())
    for package in ("torch", "lammps", "mpich"):
        digest.update(f"{package} {metadata.version(package)} ".encode())
    return digest.hexdigest()[:16]
