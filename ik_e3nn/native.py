"""Functions in C++ that are compiled on this machine at their first use, and kept in the user's cache."""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
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
        _log.info("compiling %s, once for each machine; this takes some seconds", source.name)
        _compile(source, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        _log.warning("%s is not compiled, and slower code is used: %s", source.name, error)
        return None


def processor() -> str:
    """The instruction sets of this processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()} {flags or platform.node()}"  # the name of the machine, if nothing else is known


def _key(source: Path) -> str:
    """Digest of everything that determines the machine code."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(" ".join((os.environ.get("CXX", ""), *FLAGS, *OPTIONAL_FLAGS, processor())).encode())
    return digest.hexdigest()[:32]


def _compile(source: Path, path: Path) -> None:
    """Compile a file, with all flags that the compiler has; write the result completely or not at all.

    Raises:
        RuntimeError: There is no compiler, or it fails.
    """
    choices = [named] if (named := shlex.split(os.environ.get("CXX", ""))) else [[name] for name in COMPILERS]
    compiler = next((words for words in choices if shutil.which(words[0])), None)
    if compiler is None:
        raise RuntimeError(f"there is no C++ compiler ({', '.join(words[0] for words in choices)})")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        for optional in (OPTIONAL_FLAGS, OPTIONAL_FLAGS[:1], ()):
            command = [*compiler, *FLAGS, *optional, str(source), "-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if result.returncode == 0:
                left_out = [flag for flag in OPTIONAL_FLAGS if flag not in optional]
                if left_out:
                    _log.info("%s is compiled without %s", source.name, " and ".join(left_out))
                break
        else:
            errors = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
            raise RuntimeError(f"{compiler[0]} fails: {errors[0] if errors else f'exit status {result.returncode}'}")
        with written_at_once(path, mode=0o700) as file:
            file.write(made.read_bytes())
