"""Whether a module is still what it was."""

from torch import Tensor, nn


class Snapshot:
    """Tells whether a weight, buffer or part of a module has been changed or replaced since the snapshot was made.

    Changes are those that torch counts: operations in place, as of optimisers and ``load_state_dict``, but no edits
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
        stores = [s for m in module.modules() for s in (m._parameters, m._buffers, m._modules)]
        self.entries = [(s, name, value, _version(value)) for s in stores for name, value in s.items()]

    def holds(self) -> bool:
        """Whether nothing has changed."""
        for store, name, value, version in self.entries:  # a plain loop: this runs at every call of a small module
            if store.get(name) is not value or (version >= 0 and value._version != version):
                return False
        return True


def _version(value: object) -> int:
    return value._version if isinstance(value, Tensor) else -1
