"""Starting several training processes on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from ik_e3nn import errors
from ik_e3nn.errors import IKError, TrainingError


def is_worker() -> bool:
    """Whether this process is one of several, started by ``run_in_parallel`` or by torchrun."""
    return "LOCAL_RANK" in os.environ


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def run_in_parallel(function: Callable[..., object], processes: int, *args: Any) -> None:
    """Run ``function(*args)`` in several new processes that Lightning recognizes as one data-parallel group.

    Args:
        function: A function of a module (it is pickled by name). As always with new processes, a script that calls this
            needs an ``if __name__ == "__main__":`` guard.
        processes: Number of processes.
        args: Arguments of the function.

    Raises:
        IKError: The error of this package that one of the processes raised.
        TrainingError: A process died for another reason.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    console = bool(logging.getLogger("ik_e3nn").handlers)
    reports = get_context("spawn").SimpleQueue()
    context = start_processes(
        _worker, (function, processes, port, reports, console, args), nprocs=processes, join=False, start_method="spawn"
    )
    try:
        while not context.join():
            pass
    except (ProcessRaisedException, ProcessExitedException) as error:
        if not reports.empty():
            name, message = reports.get()
            raise getattr(errors, name, TrainingError)(message) from None
        raise TrainingError(f"A training process died: {error}") from error


def _worker(
    rank: int, function: Callable[..., object], processes: int, port: int, reports: Any, console: bool, args: Any
) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if rank == 0 and console:
        logger = logging.getLogger("ik_e3nn")
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)
    try:
        function(*args)
    except IKError as error:
        reports.put((type(error).__name__, str(error)))
        raise
