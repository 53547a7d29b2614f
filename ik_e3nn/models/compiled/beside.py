"""Compile potentials in another process, beside a run, which goes on eagerly meanwhile."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch

from ik_e3nn.models.compiled.package import package_of
from ik_e3nn.models.networks.potential import InteratomicPotential

_NICE = 5  # a third of the time of a run on the same core; with 10, compiling takes too long on a busy machine
_PATIENCE = 5.0  # s, for a process to clear up


class Compilation:
    """A process of low priority that writes the packages of potentials into the cache.

    It ends with this process, even if that is killed, and leaves no unfinished files.

    Args:
        models: The potentials, whose packages are not in the cache.
        cache: See ``compile_potential``.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self, models: Sequence[InteratomicPotential], *, cache: str | Path | None = None) -> None:
        orders = {str(package_of(model, cache=cache)): model for model in models}
        task = {
            "threads": torch.get_num_threads(),
            "packages": [
                {"path": path, "config": model.config, "dtype": str(model.dtype), "device": str(model.device)}
                for path, model in orders.items()
            ],
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        self._process = _started(self._errors)
        self._end = weakref.finalize(self, _stop, self._process, self._errors)
        with contextlib.suppress(OSError):  # it may have failed already
            lifeline = self._process.stdin  # stays open: where it is closed, the process ends
            if lifeline is not None:
                lifeline.write(f"{json.dumps(task)}\n".encode())
                lifeline.flush()

    @property
    def is_running(self) -> bool:
        """Whether the process still compiles."""
        return self._process.poll() is None

    @property
    def failure(self) -> str:
        """Why the process has failed: the last line of its messages; empty if it has not failed or was stopped."""
        status = self._process.poll()
        if not status or self._errors.closed:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        end = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return lines[-1] if lines and status > 0 else f"the compiling process {end}"

    def stop(self) -> None:
        """End the process, if it still runs, and all that it has started."""
        self._end()


def missing_compiler() -> str:
    """The name of the C++ compiler that torch would call, if this machine does not have it; otherwise empty.

    Example:
        >>> missing_compiler() in ("", os.environ.get("CXX", "g++"), "clang++")
        True
    """
    default = "clang++" if sys.platform == "darwin" else "g++"
    name, *_ = shlex.split(os.environ.get("CXX", "")) or [default]
    return "" if shutil.which(name) else name


def _started(errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    """The process, in a group of its own, so that Ctrl-C does not reach it and its children end with it."""
    options: dict[str, Any] = {"process_group": 0} if hasattr(os, "killpg") else {}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    command = [sys.executable, "-P", "-m", "ik_e3nn.models.compiled.worker"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment, **options
    )
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
    return process


def _stop(process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
    """End a process and its group: first with a request, so that it removes its files, then by force."""
    for name in ("SIGTERM", "SIGKILL"):
        if process.poll() is None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, getattr(signal, name))
            else:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
    for file in (process.stdin, errors):
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
