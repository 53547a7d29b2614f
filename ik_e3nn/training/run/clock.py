"""Time of a run across restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch


def cpu_seconds() -> float:
    """Processor time of this process divided by its number of threads; other processes do not affect it."""
    return time.process_time() / torch.get_num_threads()


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.monotonic, "cpu": cpu_seconds}


class RunClock:
    """Counts the seconds of training, including those before a restart.

    Args:
        limit: Seconds that training may take in total; None for no limit.
        kind: "wall" time or "cpu" time.
    """

    def __init__(self, limit: float | None = None, kind: str = "wall") -> None:
        self.limit = limit
        self._now = CLOCKS[kind]
        self._earlier = 0.0
        self._start = self._now()

    def start(self, earlier: float = 0.0) -> None:
        """Start counting, from the seconds before a restart on."""
        self._earlier = earlier
        self._start = self._now()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._earlier + self._now() - self._start


def agree(values: Sequence[float]) -> list[float]:
    """Averages over all processes, so that they make the same decisions; with one process, the values themselves.

    >>> agree([1.0, 2.0])
    [1.0, 2.0]
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    if torch.distributed.get_backend() == "nccl":
        total = total.cuda()
    torch.distributed.all_reduce(total)
    return [float(value) for value in total / torch.distributed.get_world_size()]
