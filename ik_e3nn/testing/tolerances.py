"""Tolerances by dtype."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

# Largest error over the root mean square of the output, of a module a few layers deep.
TOLERANCE: Final[dict[torch.dtype, float]] = {torch.float32: 1e-4, torch.float64: 1e-11}

# For a potential: eV/atom and eV/A, for forces of 1 eV/A. In float32, positions near 10 A are known to 1e-6 A.
POTENTIAL_TOLERANCE: Final[dict[torch.dtype, float]] = {torch.float32: 1e-5, torch.float64: 1e-9}


def floating_dtype(function: Callable[..., Any]) -> torch.dtype:
    """Floating type of a module's parameters, else of its buffers; float64 if it has neither.

    Example:
        >>> floating_dtype(nn.Linear(2, 2).float()), floating_dtype(torch.sin)
        (torch.float32, torch.float64)
    """
    if isinstance(function, nn.Module):
        for tensor in [*function.parameters(), *function.buffers()]:
            if tensor.is_floating_point():
                return tensor.dtype
    return torch.float64
