"""Keeping freed memory for the next step, and recognizing a lack of memory."""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LIMITS = 1 << 30, 32 << 20  # bytes; older versions of glibc refuse the first


# messages of c10/core/impl/alloc_cpu.cpp, and of cuBLAS when it cannot allocate its workspace
_MARKS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "ALLOC_FAILED")


@cache
def keep_freed_memory() -> bool:
    """Let the process keep freed memory, up to 1 GiB, for the next step instead of returning it to the system.

    A step frees tensors of many MB, and glibc returns them at once: on a CPU the next step then spends up to a third of
    its time on page faults. Calculators and training call this function; scripts that call models directly may do so.

    Returns:
        Whether the C library has this setting; only glibc has it.

    Example:
        >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_TRIM_THRESHOLD, LIMITS[0])) and any(mallopt(M_MMAP_THRESHOLD, limit) for limit in LIMITS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a CPU or GPU has run out of memory.

    Torch has a class of errors for GPUs; on a CPU, and inside libraries of the GPU, it raises a ``RuntimeError`` that
    only its message identifies.

    Args:
        error: An error of torch, NumPy or Python.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(KeyError())
        (True, False)
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or any(mark in str(error) for mark in _MARKS)
