"""Functions in C++ that are compiled on this machine at their first use, and kept in the user's cache."""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from ik_e3nn.atomic import written_at_once
from ik_e3nn.private_folder import cache_folder, is_trusted, private_folder

_log = logging.getLogger(__name__)

COMPILERS = ("g++", "c++", "clang++")  # unless the environment variable CXX names one
FLAGS = ("-O2", "-std=c++17", "-shared", "-fPIC")
# not every compiler has them; the library for threads is the one that torch has loaded, if its name is the same
OPTIONAL_FLAGS = ("-march=native", "-fopenmp")


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C++ file that are declared ``extern "C"``, in machine code for this processor.

    The first call on a machine compiles the file, which takes some seconds. The code is kept in ``cache_folder``, in a
    file that only this user can write to.

    Args:
        source: The file; it may include headers of the standard library only.

    Returns:
        The library; or None, with a message in the log, if there is no compiler or it fails.
    """
    try:
        path = private_folder(cache_folder()) / f"{source.stem}_{_key(source)}.so"
        if is_trusted(path):
            with contextlib.suppress(OSError):  # a damaged file is replaced
                return ctypes.CDLL(str(path))
        _compile(source, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        _log.warning("%s is not compiled, and slower code is used: %s", source.name, error)
        return None


def processor() -> str:
    """The instruction sets of this processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()} {flags}"


def _key(source: Path) -> str:
    """Digest of everything that determines the machine code."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(" ".join((*FLAGS, *OPTIONAL_FLAGS, processor())).encode())
    return digest.hexdigest()[:32]


def _compile(source: Path, path: Path) -> None:
    """Compile a file, with all flags that the compiler has; write the result completely or not at all.

    Raises:
        RuntimeError: There is no compiler, or it fails.
    """
    named = os.environ.get("CXX")
    compiler = next(filter(None, map(shutil.which, [named] if named else COMPILERS)), None)
    if compiler is None:
        raise RuntimeError(f"there is no C++ compiler ({named or ', '.join(COMPILERS)})")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        for optional in (OPTIONAL_FLAGS, OPTIONAL_FLAGS[:1], ()):
            command = [compiler, *FLAGS, *optional, str(source), "-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                break
        else:
            errors = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
            raise RuntimeError(f"{compiler} fails: {errors[0] if errors else f'exit status {result.returncode}'}")
        with written_at_once(path, mode=0o700) as file:
            file.write(made.read_bytes())
