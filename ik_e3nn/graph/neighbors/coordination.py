"""How many neighbors atoms have, which sums over neighbors are divided by.

Potentials multiply such sums with themselves in every layer, so a new potential's energies grow like a high power of
sum / divisor. A mean over 10 to 60 neighbors holds many far ones, whose radial functions are small; the neighbors of a
small molecule are all close, where radial functions are largest. Divided by their number, 1 or 2, the sums are so large
that a new potential begins with 10^4 eV per atom or more for some seeds and elements. Potentials therefore divide by 4
at least. They begin with about 1 eV per atom then, as for solids. Convolutions of properties divide by the
root of the number and have no such powers; they divide by 1 at least.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

LARGEST_RATIO = 4.0  # of the most crowded atom's number of neighbors to the mean; ordinary data are below 2
SMALLEST_NUMBER = 1.0
SMALLEST_DIVISOR = 4.0  # of potentials; with 3, some CO2 still begins with 15 eV per atom, with 2 with 30,000


def average_neighbors(receivers: Iterable[tuple[Tensor, int]]) -> float:
    """Mean number of neighbors of the atoms that have any, made large enough for the most crowded atom.

    An atom without neighbors sums over nothing, so it says nothing about the size of sums: counted with the others, the
    atoms of a dilute gas would make the sums of all others too large. The product of many such sums makes an energy, so
    an atom with many more neighbors than the mean would begin with an absurd one; the number is therefore at least a
    quarter of the largest.

    Args:
        receivers: Of every structure, the receiver of every edge, (E,), and the number of atoms.

    Returns:
        The number; 1.0 if there are no edges, and never less.

    Example:
        >>> dimer, atom = (torch.tensor([0, 1]), 2), (torch.tensor([], dtype=torch.long), 1)
        >>> average_neighbors([dimer, atom])
        1.0
    """
    edges, atoms, largest = 0, 0, 0
    for receiver, count in receivers:
        degrees = torch.bincount(receiver, minlength=count)
        edges += len(receiver)
        atoms += int((degrees > 0).sum())
        largest = max(largest, int(degrees.max()) if count else 0)
    return max(edges / max(atoms, 1), largest / LARGEST_RATIO, SMALLEST_NUMBER)


def checked_number(number: float) -> float:
    """A mean number of neighbors to divide by: at least one, because no sum over neighbors has fewer terms.

    Raises:
        ValueError: The number is not positive and finite.

    Example:
        >>> checked_number(0.2), checked_number(12.0)
        (1.0, 12.0)
    """
    if not 0 < number < float("inf"):
        raise ValueError(f"the average number of neighbors must be positive and finite; got {number}")
    return max(float(number), SMALLEST_NUMBER)


def divisor_of_products(number: float) -> float:
    """What potentials divide sums by: a mean number of neighbors, but at least 4, because they multiply sums.

    Raises:
        ValueError: The number is not positive and finite.

    Example:
        >>> divisor_of_products(1.0), divisor_of_products(12.0)
        (4.0, 12.0)
    """
    return max(checked_number(number), SMALLEST_DIVISOR)
