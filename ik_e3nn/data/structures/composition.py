"""Numbers of atoms of each element in structures."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray


def composition(structures: Sequence[Atoms], species: Sequence[int] | None = None) -> FloatArray:
    """Numbers of atoms of each element, (M, S).

    Args:
        structures: The structures.
        species: Atomic numbers of the columns; by default, the atomic numbers that occur, in ascending order.

    Returns:
        The numbers; atoms of other elements are not counted.

    Example:
        >>> composition([Atoms("H2O"), Atoms("OH")], [1, 8]).tolist()
        [[2.0, 1.0], [1.0, 1.0]]
    """
    if species is None:
        species = sorted({int(number) for atoms in structures for number in atoms.numbers})
    counts = [np.count_nonzero(atoms.numbers[:, None] == np.asarray(species), axis=0) for atoms in structures]
    return np.array(counts, dtype=np.float64).reshape(len(structures), len(species))
