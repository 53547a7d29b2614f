"""A warning if atoms come nearer to a surface without atoms than in any structure of the training data."""

import logging

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from ik_e3nn.data.structures.ranges import GEOMETRY, GeometryRanges
from ik_e3nn.graph.build import heights_over_surface
from ik_e3nn.models import read_model_info

_log = logging.getLogger(__name__)

FAR = 0.3  # A below the least height in the training data; thermal motion takes atoms a little lower


def ranges_of(model: str) -> GeometryRanges | None:
    """Ranges of heights, bonds and contacts in the training data of a model; None if its file lacks them.

    Args:
        model: A model file, or "base".
    """
    return GeometryRanges.from_json(read_model_info(model).get("training", {}).get(GEOMETRY))


class HeightWatch:
    """Checks heights over a surface during a run, and warns once if they are far below the training data.

    Args:
        least: The least height of each element in the training data, in A; empty to watch nothing.
    """

    def __init__(self, least: dict[str, float]) -> None:
        self._least = {atomic_numbers[symbol]: height for symbol, height in least.items()}

    @classmethod
    def of(cls, calculator: Calculator, model: str) -> "HeightWatch":
        """The watch for a calculator that was made from a model file.

        Args:
            calculator: The calculator.
            model: Its model file, or "base".

        Returns:
            The watch; it does nothing if the model knows no surface or its file has no heights.
        """
        ranges = ranges_of(model) if getattr(calculator, "feels_surroundings", False) else None
        return cls({} if ranges is None else {symbol: low for symbol, (low, _) in ranges.heights.items()})

    def look(self, atoms: Atoms, step: int) -> None:
        """Warn, the first time, if an atom is far below the heights in the training data.

        Args:
            atoms: The structure.
            step: The number of the step, for the message.
        """
        if not self._least:
            return
        above = heights_over_surface(atoms)
        least = np.array([self._least.get(z, -np.inf) for z in atoms.numbers.tolist()])
        lowest = int((above - least).argmin()) if len(atoms) else 0
        if len(atoms) and above[lowest] < least[lowest] - FAR:
            _log.warning(
                "step %d: atom %d (%s) is %.2f A over the surface, far below %.2f A, the least height in the training "
                "data; the model has not learned the surface there, and its energies are meaningless",
                step,
                lowest,
                atoms.symbols[lowest],
                above[lowest],
                least[lowest],
            )
            self._least = {}
