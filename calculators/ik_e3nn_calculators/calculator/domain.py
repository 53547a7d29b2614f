"""Warnings about structures outside of a model's domain."""

import logging
import re

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.models.networks.domain import Domain

_log = logging.getLogger(__name__)

# In A; no step of dynamics or of a relaxation moves an atom this far.
_JUMP = 0.7


def warn_outside(domain: Domain | None, atoms: Atoms, said: set[str]) -> None:
    """Warn about what puts a structure outside of a model's domain.

    Args:
        domain: The domain of the model; None if it is not known.
        atoms: The structure.
        said: Earlier warnings without their numbers, which are not repeated; new ones are added.
    """
    reasons = {} if domain is None else {re.sub(r"\d+", "", reason): reason for reason in domain.outside(atoms)}
    new = [reason for kind, reason in reasons.items() if kind not in said]
    if new:
        said.update(reasons)
        _log.warning(
            "the model was not trained on structures like %s: %s. Its energies and forces may be far off; compare some "
            "with a reference, or fine-tune the model",
            atoms.get_chemical_formula(),
            "; ".join(new),
        )


class Watch:
    """Warns about structures of a calculator that are outside of the model's domain, once for each kind of reason.

    A new structure is checked at once. A structure that moves step by step is checked at the second, fourth, eighth,
    ... new neighbor list, because a check takes as long as several steps of a small molecule.

    Args:
        domain: The domain of the model; None if it is not known.
    """

    def __init__(self, domain: Domain | None) -> None:
        self.domain = domain
        self._said: set[str] = set()
        self._numbers = np.zeros(0, dtype=np.int64)
        self._positions: NDArray[np.float64] = np.zeros((0, 3))
        self._lists = 0

    def __call__(self, atoms: Atoms, *, rebuilt: bool) -> None:
        """Check the structure of a call, if due; ``rebuilt`` is whether its neighbor list is new."""
        if self.domain is None:
            return
        if rebuilt:
            follows = np.array_equal(self._numbers, atoms.numbers)
            follows = follows and bool(np.abs(self._positions - atoms.positions).max(initial=0.0) < _JUMP)
            self._lists = self._lists + 1 if follows else 1
            if self._lists & (self._lists - 1) == 0:
                warn_outside(self.domain, atoms, self._said)
        self._numbers, self._positions = atoms.numbers.copy(), atoms.positions.copy()
