"""The mean number of neighbors, by which sums over neighbors are divided.

Potentials multiply such sums with themselves in every layer, so that energies of an untrained potential grow like a
high power of sum / divisor. Among 10 to 60 neighbors many are far, with small radial functions; all neighbors in a
small molecule are close, with large radial functions. Divided by their number, 1 or 2, the sums are so large that an
untrained potential predicts 10^4 eV per atom or more for some seeds and elements. Potentials therefore divide by at
least 4, and then predict about 1 eV per atom, as for solids. Convolutions of properties divide by the root of the
number and have no such powers; they divide by at least 1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

LARGEST_RATIO = 4.0  # of the largest number of neighbors to the mean; it is below 2 in ordinary data
SMALLEST_NUMBER = 1.0
SMALLEST_DIVISOR = 4.0  # of potentials; untrained ones predict up to 15 eV per atom for CO2 with 3, and 30,000 with 2


def average_neighbors(receivers: Iterable[tuple[Tensor, int]]) -> float:
    """Mean number of neighbors of the atoms that have neighbors, but at least a quarter of the largest number.

    Atoms without neighbors are not counted: the isolated atoms of a dilute gas would reduce the mean, and the sums of
    the other atoms would be too large. Energies are products of many such sums, so that an untrained potential would
    predict extreme energies for an atom with many more neighbors than the mean; hence the lower bound.

    Args:
        receivers: For every structure, the receiver of every edge, (E,), and the number of atoms.

    Returns:
        The number, at least 1.0.

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
    """A mean number of neighbors as divisor: at least 1, because every sum over neighbors has one term or more.

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
    """The divisor of sums in potentials: the mean number of neighbors, but at least 4, because sums are multiplied.

    Raises:
        ValueError: The number is not positive and finite.

    Example:
        >>> divisor_of_products(1.0), divisor_of_products(12.0)
        (4.0, 12.0)
    """
    return max(checked_number(number), SMALLEST_DIVISOR)
