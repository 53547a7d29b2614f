"""The host that a molecule is docked on: a surface, face or site without atoms, a slab, a cluster or a protein."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ik_e3nn.data import read_structure
from ik_e3nn.data.files.proteins.elements import AMINO_ACIDS, NUCLEOTIDES, WATER
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fitting_bonds, has_bonds, neighbor_list, set_bonds, structure_number
from ik_e3nn.graph.bonds.hydrogens import atoms_without_hydrogens
from ik_e3nn.symmetry import PlaneGroup

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

SURFACE, FACE, SITE = "surface", "face", "site"
VACUUM = 5.0  # A; a slab that is nearer to its next image is a crystal or the wall of a pore
SAME_PLACE = 0.5  # A; shorter than any bond
BIOPOLYMERS = (*AMINO_ACIDS, *NUCLEOTIDES, "MSE")


@dataclass(frozen=True)
class Host:
    """A fixed host.

    Attributes:
        atoms: Its atoms; none for a surface, a face or a site without atoms.
        name: Its name in messages.
        lacking: Indices of atoms that lack hydrogens, (k,).
        left_out: Positions of atoms of the file that are out of reach, (m, 3), in A.
        plane: Plane group and lattice of a face without atoms, with its first vector along x at the origin.
        places: Where atoms of each element were in the training data of a model of a site, (n, 3), in A, by symbol.
    """

    atoms: Atoms
    name: str
    lacking: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    left_out: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    plane: PlaneGroup | None = None
    places: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def is_surface(self) -> bool:
        """Whether there is a plane to measure heights from: a surface without atoms, or a slab."""
        if len(self.atoms) == 0:
            return self.name != SITE
        return bool(self.atoms.pbc[:2].all() and self.vacuum > VACUUM)

    @property
    def lattice(self) -> FloatArray | None:
        """The two vectors, (2, 3), in A, along which a surface is periodic; None if it is not."""
        if self.plane is not None:
            return np.pad(self.plane.cell.numpy(), ((0, 0), (0, 1)))
        return self.atoms.cell.array[:2] if self.atoms.pbc[:2].all() else None

    @property
    def info(self) -> dict[str, FloatArray]:
        """What structures over the host need in ``info``."""
        return {"surface_cell": np.asarray(self.lattice)} if self.plane is not None else {}

    def from_places(self, positions: FloatArray, symbols: Sequence[str]) -> FloatArray:
        """Distances of atoms (N, 3) from the nearest known place of their element, (N,), in A; infinite without any."""
        distances = np.full(len(positions), np.inf)
        for symbol, places in self.places.items():
            mine = np.array(symbols) == symbol
            if mine.any() and len(places):
                distances[mine] = cdist(positions[mine], places).min(axis=1)
        return distances

    @property
    def vacuum(self) -> float:
        """Distance along z in A from the highest atom to the next image of the lowest; infinite if z is open."""
        if not self.atoms.pbc[2]:
            return float("inf")
        return float(abs(self.atoms.cell.array[2, 2]) - np.ptp(self.atoms.positions[:, 2]))

    @property
    def top(self) -> float:
        """Height of the surface along z in A: the height of the highest atom, or 0 without atoms."""
        return float(self.atoms.positions[:, 2].max()) if len(self.atoms) else 0.0


def read_host(source: str) -> Host:
    """Read a host.

    Args:
        source: "surface", "face", "site" or a structure file. Water and cell of the crystal of a protein are left out;
            of alternate locations, one conformer is used, as in ``ik_e3nn.data.read_structures``.

    Returns:
        The host.

    Raises:
        DataError: The file cannot be read, holds no atoms, or has two atoms at the same place.

    Example:
        >>> read_host("surface").is_surface
        True
    """
    if source in (SURFACE, FACE, SITE):
        return Host(Atoms(), source)
    atoms = read_structure(source, -1)
    if "residuenames" in atoms.arrays:
        atoms = _without_crystal(atoms, source)
    if len(atoms) == 0:
        raise DataError(
            f"{source} holds no atoms except water" if "residuenames" in atoms.arrays else f"{source} is empty"
        )
    _check_places(atoms, source)
    return Host(atoms, source, atoms_without_hydrogens(atoms))


def _without_crystal(atoms: Atoms, source: str) -> Atoms:
    """Remove cell and water of a crystal or simulation from a protein or nucleic acid; keep anything else as it is."""
    residues = np.array([str(name).strip().upper() for name in atoms.arrays["residuenames"]])
    if not np.isin(residues, BIOPOLYMERS).any():
        return atoms
    atoms = atoms.copy()
    atoms.cell, atoms.pbc = None, False
    water = np.isin(residues, WATER)
    if water.any():
        _log.info("%d atoms of water in %s are left out", int(water.sum()), source)
    return _part(atoms, ~water)


def _check_places(atoms: Atoms, source: str) -> None:
    """Refuse a host in which two atoms are at the same place."""
    (first, second), _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, SAME_PLACE)
    if len(first):
        one, other = sorted((int(first[0]), int(second[0])))
        raise DataError(
            f"atoms {one} and {other} of {source} are closer than {SAME_PLACE} A: it holds alternate locations of an "
            "atom without marking them (in a PDB file, by a letter in column 17), or two structures at the same place; "
            "remove one of them"
        )


def pocket_of(host: Host, distances: FloatArray, reach: float) -> Host:
    """The part of a host within reach of a region, in whole residues; a periodic host is kept whole.

    Args:
        host: The host.
        distances: Distances of its atoms from the region, (n,), in A.
        reach: Largest distance in A.

    Returns:
        The part.

    Raises:
        DataError: No atom of the host is near, or only some atoms of a host with charge or unpaired electrons are.
    """
    if len(host.atoms) == 0 or host.atoms.pbc.any():
        return host
    near = distances < reach
    if not near.any():
        raise DataError(
            f"no atom of {host.name} is within {reach:.1f} A of the region; the nearest is at {distances.min():.1f} A. "
            "Is the region in the host's coordinates?"
        )
    keys = [key for key in ("residuenumbers", "residuenames", "chainids") if key in host.atoms.arrays]
    if keys:  # numbers repeat in other chains, so a residue is a run of equal entries
        begins = np.zeros(len(near), dtype=bool)
        for key in keys:
            begins[1:] |= host.atoms.arrays[key][1:] != host.atoms.arrays[key][:-1]
        residues = np.cumsum(begins)
        near = np.isin(residues, residues[near])
    charge, spin = (structure_number(host.atoms, key) for key in ("charge", "spin"))
    if not near.all() and (charge or (spin is not None and spin != 1)):
        raise DataError(
            f"{host.name} has charge {charge or 0:g} and multiplicity {spin or 1:g}, but only {near.sum()} of its "
            f"{len(near)} atoms are near the region, whose charge is not known: raise pocket to keep the whole host, "
            "or give that part as a file with its own charge"
        )
    lacking = np.flatnonzero(np.isin(np.flatnonzero(near), host.lacking))
    return Host(_part(host.atoms, near), host.name, lacking, host.atoms.positions[~near])


def _part(atoms: Atoms, kept: NDArray[np.bool_]) -> Atoms:
    """Some atoms, with the bonds between them."""
    part = atoms[kept]
    if has_bonds(atoms):
        bonds = fitting_bonds(atoms)
        among = kept[bonds[:, 0]] & kept[bonds[:, 1]]
        set_bonds(part, np.column_stack([(np.cumsum(kept) - 1)[bonds[among, :2]], bonds[among, 2]]))
    return part
