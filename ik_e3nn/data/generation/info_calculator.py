"""ASE calculators whose results depend on ``info``: on charge and spin, or on the place of a surface."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes


def info_changes(last: Atoms | None, atoms: Atoms) -> list[str]:
    """["info"] if charge, spin or the place of a surface differ from the last structure, otherwise [].

    >>> info_changes(Atoms("H", info={"charge": 0}), Atoms("H", info={"charge": 1}))
    ['info']
    """
    if last is None:
        return []
    with np.printoptions(floatmode="unique", threshold=sys.maxsize):  # all digits of all numbers
        return ["info"] if str(last.info) != str(atoms.info) else []


class InfoCalculator(Calculator, ABC):
    """A calculator that computes all its results at once, and again if ``info`` changes.

    Args:
        **kwargs: Passed on to ASE's ``Calculator``.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Store the results of ``evaluate``; see ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        self.results: dict[str, Any] = self.evaluate(self.atoms)

    @abstractmethod
    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """The results by name: the energy in eV, forces in eV/A.

        Args:
            atoms: The structure; it is only read.
        """

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation."""
        changes: list[str] = super().check_state(atoms, tol)
        return changes + info_changes(self.atoms, atoms)
