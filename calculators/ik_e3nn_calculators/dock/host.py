"""What a molecule is put over or into: a surface without atoms, a slab, a cluster or a protein."""

import logging
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data import read_structures
from ik_e3nn.errors import DataError
from ik_e3nn.graph import neighbour_list

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

SURFACE = "surface"
WATER = ("HOH", "WAT", "H2O", "DOD")
SAME_PLACE = 0.6  # A; shorter than any bond: alternate places of one atom


@dataclass(frozen=True)
class Host:
    """A fixed environment.

    Attributes:
        atoms: Its atoms; none for a surface that the model knows without atoms.
        name: What it is called in messages.
    """

    atoms: Atoms
    name: str

    @property
    def is_surface(self) -> bool:
        """Whether there is a plane to measure heights from: a surface without atoms, or a slab."""
        return len(self.atoms) == 0 or bool(self.atoms.pbc[:2].all())

    @property
    def top(self) -> float:
        """Height of the surface along z in A: that of the highest atom, or 0 where there are none."""
        return float(self.atoms.positions[:, 2].max()) if len(self.atoms) else 0.0


def read_host(source: str) -> Host:
    """Read a host.

    Args:
        source: "surface" or a structure file; of a PDB file crystal water is left out.

    Returns:
        The host.

    Raises:
        DataError: The file cannot be read.

    Example:
        >>> read_host("surface").is_surface
        True
    """
    if source == SURFACE:
        return Host(Atoms(), SURFACE)
    atoms = read_structures(source)[-1]
    if "residuenames" in atoms.arrays:
        atoms = _protein(atoms)
    if len(atoms) == 0:
        raise DataError(f"{source} holds no atoms")
    return Host(atoms, source)


def _protein(atoms: Atoms) -> Atoms:
    """A protein alone: without the crystal's cell, crystal water, and second places of the same atom."""
    atoms = atoms.copy()
    atoms.cell, atoms.pbc = None, False
    water = np.isin([str(name).strip() for name in atoms.arrays["residuenames"]], WATER)
    first, second = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, SAME_PLACE)[0]
    left_out = water.copy()
    left_out[np.maximum(first, second)] = True
    if left_out.any():
        _log.info("%d atoms of crystal water and of alternate places are left out", int(left_out.sum()))
    return atoms[~left_out]


def pocket_of(host: Host, centres: FloatArray, reach: float) -> Host:
    """The part of a host within reach of some points, in whole residues; all of a periodic one.

    Args:
        host: The host.
        centres: Points, (n, 3), in A.
        reach: Distance in A.

    Returns:
        The part.

    Raises:
        DataError: Nothing of the host is near.
    """
    if len(host.atoms) == 0 or host.atoms.pbc.any():
        return host
    distances = np.linalg.norm(host.atoms.positions[:, None] - centres[None], axis=2).min(axis=1)
    near = distances < reach
    if not near.any():
        raise DataError(
            f"no atom of {host.name} is within {reach:.1f} A of the region; the nearest is at {distances.min():.1f} A. "
            "Is the region in the host's coordinates?"
        )
    numbers = host.atoms.arrays.get("residuenumbers")
    if numbers is not None:  # another chain has the same numbers again: a residue is a run of equal ones
        residues = np.cumsum(np.diff(numbers, prepend=numbers[0]) != 0)
        near = np.isin(residues, residues[near])
    return Host(host.atoms[near], host.name)
