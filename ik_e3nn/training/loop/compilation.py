"""Whether compiling the training step saves more time than it takes."""

import time
from collections.abc import Callable

COMPILING = 120.0  # s, measured for `medium` on two busy cores; ten if it was done before
SAVED = 0.25  # share of an eager step that compiled code saves; measured for `medium`: 0.24 to 0.44


def pays(step: Callable[[], object], steps: int, *, seconds: float | None = None) -> bool:
    """Whether a run saves more time with a compiled step than compiling takes.

    Args:
        step: Makes an eager step; it is called once or twice, and the first call may take longer than others.
        steps: Number of steps that the run has left.
        seconds: Time that the run has left; None without a limit.

    Example:
        >>> pays(lambda: time.sleep(0.001), 100), pays(lambda: time.sleep(0.001), 10**6)
        (False, True)
        >>> pays(lambda: time.sleep(0.001), 10**6, seconds=60.0)
        False
    """
    for _ in range(2):
        start = time.perf_counter()
        step()
        left = steps * (time.perf_counter() - start)
        if SAVED * (left if seconds is None else min(left, seconds)) <= COMPILING:
            return False
    return True
