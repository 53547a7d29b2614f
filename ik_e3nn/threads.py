"""The number of CPU threads for small systems."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_outside: list[int] = []  # the number of threads outside of each running block, in all Python threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a block on one OpenMP thread, unless the user has set OMP_NUM_THREADS.

    A molecule of ten atoms gains nothing from a second thread, and on a busy machine threads that wait for each other
    made it a hundred times as slow. torch and tblite share one OpenMP library, so torch's setting applies to both.

    Yields:
        Nothing.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads() == 1 or "OMP_NUM_THREADS" in os.environ
        True
    """
    with _lock:
        _outside.append(_outside[0] if _outside else torch.get_num_threads())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            torch.set_num_threads(_outside.pop())  # the same number for all overlapping blocks
