"""What a molecule is put over or into: a surface without atoms, a slab, a cluster or a protein."""

import logging
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data import read_structures
from ik_e3nn.errors import DataError

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

SURFACE = "surface"
WATER = ("HOH", "WAT", "H2O", "DOD")


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
        return len(self.atoms) == 0 or self.atoms.pbc.sum() >= 2

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
    names = atoms.arrays.get("residuenames")
    if names is not None:
        water = np.isin([str(name).strip() for name in names], WATER)
        if water.any():
            _log.info("%d atoms of crystal water are left out", int(water.sum()))
            atoms = atoms[~water]
    if len(atoms) == 0:
        raise DataError(f"{source} holds no atoms")
    return Host(atoms, source)


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
    residues = host.atoms.arrays.get("residuenumbers")
    if residues is not None:
        near = np.isin(residues, residues[near])
    return Host(host.atoms[near], host.name)
