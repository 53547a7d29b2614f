"""Whether a module is still what it was."""

from typing import Any

from torch import Tensor, nn


class Snapshot:
    """Tells whether a weight, buffer or part of a module has been changed or replaced since the snapshot was made.

    Changes are those that torch counts: operations in place, as of optimizers and ``load_state_dict``, but no edits
    through ``.data``. The values themselves are kept, so that others cannot take their addresses.

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
        self.counted = not any(t.is_inference() for t in tensors)  # those made in inference mode have no count
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
