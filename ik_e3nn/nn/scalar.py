"""Activations scaled to unit second moment, and an MLP of scalars that uses them."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


def normalization(function: Callable[[Tensor], Tensor]) -> float:
    r"""The constant c with :math:`E[(c f(z))^2] = 1` for a standard normal z, by Gauss-Hermite quadrature.

    Example:
        >>> round(normalization(lambda z: 2 * z), 12)
        0.5
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(128)
    values = function(torch.from_numpy(nodes)).square().numpy()
    return float((weights @ values / weights.sum()) ** -0.5)


SILU_SCALE = normalization(torch.nn.functional.silu)
SIGMOID_SCALE = normalization(torch.sigmoid)


def normalized_silu(x: Tensor) -> Tensor:
    """SiLU scaled to unit second moment for standard normal input."""
    return torch.nn.functional.silu(x) * SILU_SCALE


def normalized_sigmoid(x: Tensor) -> Tensor:
    """Sigmoid scaled to unit second moment for standard normal input."""
    return torch.sigmoid(x) * SIGMOID_SCALE


class ScalarMLP(nn.Module):
    r"""Linear layers without bias, with SiLU between them, initialized to unit variance.

    .. math:: x \mapsto W_n \sigma(\dots \sigma(W_1 x)), \qquad W \sim N(0, 1)/\sqrt{\text{fan in}}

    Args:
        sizes: Numbers of features of the input, the hidden layers and the output.

    Example:
        >>> ScalarMLP([8, 64, 32])(torch.randn(5, 8)).shape
        torch.Size([5, 32])
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs at least an input and an output size; got {list(sizes)}")
        self.sizes = list(sizes)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(n, m)) for n, m in pairwise(sizes))

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Map (..., sizes[0]) to (..., sizes[-1]).

        Args:
            x: Input (..., sizes[0]).
            hidden: Added to the output of the first layer, (..., sizes[1]): other inputs after their own linear maps.
        """
        for index, weight in enumerate(self.weights):
            if index:
                x = normalized_silu(x)
            x = x @ (weight * weight.shape[0] ** -0.5)
            if index == 0 and hidden is not None:
                x = (x + hidden) * 0.5**0.5
        return x
