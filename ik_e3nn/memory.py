"""How the C library treats memory that is freed."""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LIMITS = 1 << 30, 32 << 20  # bytes; older versions of glibc refuse the first


@cache
def keep_freed_memory() -> bool:
    """Let the process keep what it frees, up to 1 GiB, for the next step in place of returning it to the system.

    A step frees tensors of many MB in all, and glibc gives them back at once: on a CPU the next step then spends up to
    a third of its time on page faults. Calculators and training call this; scripts that call models directly can.

    Returns:
        Whether there was such a switch; other C libraries than glibc have none.

    Example:
        >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_TRIM_THRESHOLD, LIMITS[0])) and any(mallopt(M_MMAP_THRESHOLD, limit) for limit in LIMITS)
