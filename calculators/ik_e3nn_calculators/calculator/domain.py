"""A word on structures that a model was not trained on."""

import logging
import re

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.models.networks.domain import Domain

_log = logging.getLogger(__name__)

# In A: no step of dynamics or of a relaxation moves an atom so far.
_JUMP = 0.7


def warn_outside(domain: Domain | None, atoms: Atoms, said: set[str]) -> None:
    """Warn of what in a structure the model was not trained on.

    Args:
        domain: What it was trained on; None where that is not known.
        atoms: The structure.
        said: What was said before, numbers aside, not to be said again; what is new is added.
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
    """Warns of what the structures of a calculator have that the model was not trained on, once of each kind.

    A structure that is new is judged at once. One that moves step by step is judged ever more seldom (at the second,
    fourth, eighth, ... new neighbor list), because the judgment takes as long as some steps of a small molecule.

    Args:
        domain: What the model was trained on; None where that is not known.
    """

    def __init__(self, domain: Domain | None) -> None:
        self.domain = domain
        self._said: set[str] = set()
        self._numbers = np.zeros(0, dtype=np.int64)
        self._positions: NDArray[np.float64] = np.zeros((0, 3))
        self._lists = 0

    def __call__(self, atoms: Atoms, *, rebuilt: bool) -> None:
        """Look at the structure of a call, and whether its neighbor list is a new one."""
        if self.domain is None:
            return
        if rebuilt:
            follows = np.array_equal(self._numbers, atoms.numbers)
            follows = follows and bool(np.abs(self._positions - atoms.positions).max(initial=0.0) < _JUMP)
            self._lists = self._lists + 1 if follows else 1
            if self._lists & (self._lists - 1) == 0:
                warn_outside(self.domain, atoms, self._said)
        self._numbers, self._positions = atoms.numbers.copy(), atoms.positions.copy()
