"""Tensors of a module that stay exact, or in float64, whatever dtype the module is brought to."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class ExactModule(nn.Module):
    """A module whose constants (3j symbols, quadrature weights) are kept in float64 beside the buffers in use.

    ``module.float().double()`` would leave buffers with float32's rounding; here they are recomputed from the float64
    values whenever the module changes its dtype or device. The constants are not part of the state dict.

    Example:
        >>> module = ExactModule()
        >>> module.register_exact("third", torch.tensor(1 / 3, dtype=torch.float64))
        >>> module.float().double().third.item() == 1 / 3
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def register_exact(self, name: str, value: Tensor) -> None:
        """Keep a float64 tensor as buffer ``name``, now in the ambient default dtype."""
        self._exact[name] = value.double()
        self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name, value in self._exact.items():
            buffer = getattr(self, name)
            setattr(self, name, value.to(dtype=buffer.dtype, device=buffer.device))
        return self


class Float64Module(nn.Module):
    """A module whose own buffers follow it to another device, but stay in float64.

    Example:
        >>> module = Float64Module()
        >>> module.register_buffer("shift", torch.zeros(1, dtype=torch.float64))
        >>> module.float().shift.dtype
        torch.float64
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self
