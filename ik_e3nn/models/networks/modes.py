"""Keep the precision and the gradients of models independent of the torch modes in which they are called."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ik_e3nn.graph import fields

F = TypeVar("F", bound=Callable[..., Any])

AUTOCAST = ("cpu", "cuda")


def in_own_precision(forward: F) -> F:
    """Decorate a method of a model so that ``torch.autocast`` around a call does not reduce its precision.

    With bfloat16 products, energies would silently be wrong by meV and forces by tens of meV/A. Gradients of weights
    are exact if ``backward()`` is called after the autocast block, as torch recommends; inside the block ``backward()``
    itself runs in autocast, with errors of about 0.3 %.

    Args:
        forward: The method.

    Example:
        >>> class Square(nn.Module):
        ...     @in_own_precision
        ...     def forward(self, x):
        ...         return x @ x
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     Square()(torch.ones(1, 1)).dtype
        torch.float32
    """

    @wraps(forward)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not _autocast():
            return forward(*args, **kwargs)
        with without_autocast():
            return forward(*args, **kwargs)

    return cast(F, guarded)


def with_gradients(forward: F) -> F:
    """Decorate a method (self, graph, ...) likewise, and so that it has gradients in ``torch.inference_mode``.

    Tensors that were made in this mode can never be differentiated: tensors of the graph are copied, and tensors of the
    model are replaced by copies.

    Args:
        forward: The method.
    """

    @wraps(forward)
    def guarded(self: nn.Module, graph: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return forward(self, graph, *args, **kwargs)
        weights = next(self.parameters(), None)
        stale = weights is not None and weights.is_inference()
        if not (stale or torch.is_inference_mode_enabled() or _made_inside(graph)):
            return forward(self, graph, *args, **kwargs)
        with outside_inference_mode():
            if stale:
                renew(self)
            copies = {key: graph[key].clone() for key in fields.FIELDS if key in graph}
            return forward(self, copies, *args, **kwargs)

    return in_own_precision(cast(F, guarded))


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Context in which gradients can be enabled even inside ``torch.inference_mode``; they are off at first there."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        yield


def renew(model: nn.Module) -> None:
    """Replace weights and constants that were made in ``torch.inference_mode`` by copies that can be differentiated."""
    for module in model.modules():
        stores: list[dict[str, Any]] = [module._parameters, module._buffers, getattr(module, "_exact", {})]
        for store in stores:
            for name, tensor in store.items():
                if tensor is not None and tensor.is_inference():
                    copy = tensor.clone()
                    parameter = isinstance(tensor, nn.Parameter)
                    store[name] = nn.Parameter(copy, tensor.requires_grad) if parameter else copy


def _made_inside(graph: Mapping[str, Tensor]) -> bool:
    return fields.POSITIONS in graph and graph[fields.POSITIONS].is_inference()


def _autocast() -> bool:
    return any(torch.is_autocast_enabled(device) for device in AUTOCAST)


@contextmanager
def without_autocast() -> Iterator[None]:
    """Context in which every product is computed in the precision of its factors."""
    with ExitStack() as stack:
        for device in AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
