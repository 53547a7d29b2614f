"""How sentences speak of some of the structures of a set."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Counted:
    """Names how many of the structures something is true of, and the first of them.

    Args:
        places: What messages call each structure that is looked at.
        total: How many there are in all.

    Example:
        >>> Counted(["structure 0 of a.xyz", "structure 1 of a.xyz"], 2)(np.array([False, True]))
        '1 of 2 structures (the first is structure 1 of a.xyz)'
    """

    def __init__(self, places: Sequence[str], total: int) -> None:
        self.places, self.total = places, total

    def __call__(self, members: NDArray[np.bool_]) -> str:
        """Part of a sentence about the structures that are marked, (n,)."""
        looked = f"{len(members)} structures" if len(members) == self.total else f"{len(members)} structures looked at"
        return f"{int(members.sum())} of {looked} (the first is {self.places[int(np.argmax(members))]})"
