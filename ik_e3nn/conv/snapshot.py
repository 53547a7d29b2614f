"""Detect changes of a module."""

from typing import Any

from torch import Tensor, nn


class Snapshot:
    """A snapshot of a module, which detects whether a weight, buffer or submodule was changed or replaced since.

    It detects the changes that torch counts: in-place operations of optimizers, ``load_state_dict`` and others, but not
    changes through ``.data``. It holds references to the values, so that no other object can get their addresses.

    Example:
        >>> import torch
        >>> linear = nn.Linear(2, 2)
        >>> snapshot = Snapshot(linear)
        >>> before = snapshot.holds()
        >>> with torch.no_grad():
        ...     _ = linear.weight.add_(1.0)
        >>> before, snapshot.holds()
        (True, False)
    """

    def __init__(self, module: nn.Module) -> None:
        stores: list[dict[str, Any]] = [s for m in module.modules() for s in (m._parameters, m._buffers, m._modules)]
        values = [(s, name, value) for s in stores for name, value in s.items()]
        tensors = [value for _, _, value in values if isinstance(value, Tensor)]
        self.counted = not any(t.is_inference() for t in tensors)  # tensors of inference mode have no version count
        self.entries: list[tuple[dict[str, Any], str, Any, int]] = [
            (*entry, self._version(entry[2])) for entry in values
        ]

    def holds(self) -> bool:
        """Whether nothing has changed."""
        if not self.counted:
            return False
        for store, name, value, version in self.entries:  # a plain loop: this runs at every call of a small module
            if store.get(name) is not value or self._version(value) != version:
                return False
        return True

    def _version(self, value: object) -> int:
        return value._version if self.counted and isinstance(value, Tensor) else -1
