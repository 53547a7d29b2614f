"""How messages count and name some structures of a set."""

from collections.abc import Sequence

import numpy as np

from ik_e3nn.arrays import BoolArray


class Counted:
    """Part of a message: the number of structures with some property, and the first of them.

    Args:
        places: What messages call each structure that was examined.
        total: Number of all structures.

    Example:
        >>> Counted(["structure 0 of a.xyz", "structure 1 of a.xyz"], 2)(np.array([False, True]))
        '1 of 2 structures (the first is structure 1 of a.xyz)'
    """

    def __init__(self, places: Sequence[str], total: int) -> None:
        self.places, self.total = places, total

    def __call__(self, members: BoolArray) -> str:
        """The part of a message for the structures that are True in ``members``, (n,)."""
        looked = f"{len(members)} structures" if len(members) == self.total else f"{len(members)} structures looked at"
        return f"{int(members.sum())} of {looked} (the first is {self.places[int(np.argmax(members))]})"
