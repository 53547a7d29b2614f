"""The process that compiles beside a run: ``python -m ik_e3nn.models.compiled.worker``; see ``Compilation``.

It reads what to compile from a line of its standard input, and ends when that is closed, which happens when the process
that has started it ends, however that ends.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ik_e3nn.models.compiled.potential import make_package
from ik_e3nn.models.networks.potential import InteratomicPotential

_PATIENCE = 5.0  # s, for clearing up


def main() -> None:
    """Compile all packages of the task, with all temporary files in a folder that is removed at the end."""
    signal.signal(signal.SIGTERM, _exit)
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(task["threads"])  # the code is for this number
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        for package in task["packages"]:
            compile_one(**package)


def compile_one(*, path: str, config: dict[str, Any], dtype: str, device: str) -> None:
    """Write one package.

    Args:
        path: The file.
        config: The arguments of the potential.
        dtype: Its precision, such as "torch.float32".
        device: Its device.
    """
    precision: torch.dtype = getattr(torch, dtype.removeprefix("torch."))
    model = InteratomicPotential(**config).to(device=torch.device(device), dtype=precision)
    make_package(model.eval().requires_grad_(False), Path(path))


def _exit(number: int, frame: FrameType | None) -> None:
    """End with the removal of temporary files."""
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """Wait until the standard input is closed, and end this process and the compilers that it has started."""
    sys.stdin.read()
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGTERM)
        time.sleep(_PATIENCE)
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
