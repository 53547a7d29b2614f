"""What a potential was trained on, and what of a structure is outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ik_e3nn.graph import get_bonds, neighbour_list
from ik_e3nn.graph.charges import SHARES

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

JOINED = 1.4  # sums of covalent radii; hydrogen bonds begin at 1.6
MOST = 1000  # structures of a training set that are looked at


@dataclass(frozen=True)
class Domain:
    """What a potential was trained on.

    Args:
        max_atoms: Atoms of the largest structure.
        periodic: Whether any structure was periodic.
        several: Whether any structure was of several molecules.
        charged_groups: Whether any structure had groups like ammonium or carboxylate, whatever its total charge.

    Raises:
        TypeError: Not a whole number and truth values.

    Example:
        >>> from ase.build import bulk
        >>> small = Domain(max_atoms=20)
        >>> small.outside(bulk("Cu"))
        ['it is periodic']
    """

    max_atoms: int
    periodic: bool = False
    several: bool = False
    charged_groups: bool = False

    def __post_init__(self) -> None:
        flags = (self.periodic, self.several, self.charged_groups)
        if not isinstance(self.max_atoms, int) or not all(isinstance(flag, bool) for flag in flags):
            raise TypeError(f"trained_on must be a number of atoms and true or false, got {self}")

    def outside(self, atoms: Atoms) -> list[str]:
        """What of a structure is beyond the training data, in words; nothing where all is inside.

        Args:
            atoms: The structure.
        """
        found = []
        if atoms.pbc.any() and not self.periodic:
            found.append("it is periodic")
        first, second = contacts(atoms)
        count, labels = _parts(first, second, len(atoms))
        if count > 1 and not self.several and not self.periodic:
            found.append(f"it is {count} separate molecules or atoms")
        size = int(np.bincount(labels).max(initial=0))
        if size > self.max_atoms and not self.periodic:
            found.append(f"it has {size} atoms in one piece, more than {self.max_atoms}")
        if not self.charged_groups and not self.periodic and charged_groups(atoms, first, second):
            found.append("it has charged groups (it is a zwitterion, a salt or an ion)")
        return found

    def joined(self, other: Domain) -> Domain:
        """The domain of both training sets.

        Example:
            >>> Domain(3).joined(Domain(2, periodic=True))
            Domain(max_atoms=3, periodic=True, several=False, charged_groups=False)
        """
        return Domain(
            max(self.max_atoms, other.max_atoms),
            self.periodic or other.periodic,
            self.several or other.several,
            self.charged_groups or other.charged_groups,
        )


def domain_of(structures: Sequence[Atoms]) -> Domain:
    """The domain of a training set; of a large one, so far as a part of it shows.

    Args:
        structures: The structures.

    Example:
        >>> from ase.build import molecule
        >>> domain_of([molecule("H2O"), molecule("CH4")])
        Domain(max_atoms=5, periodic=False, several=False, charged_groups=False)
    """
    size, periodic = max((len(a) for a in structures), default=0), any(a.pbc.any() for a in structures)
    several = charged = False
    for atoms in structures[:: max(1, len(structures) // MOST)]:
        first, second = contacts(atoms)
        several = several or _parts(first, second, len(atoms))[0] > 1
        charged = charged or charged_groups(atoms, first, second)
    return Domain(size, bool(periodic), several, charged)


def contacts(atoms: Atoms) -> tuple[IntArray, IntArray]:
    """Pairs of atoms that hold together, in both directions: by distance, and the bonds that are stored."""
    radii = covalent_radii[atoms.numbers]
    reach = 2 * JOINED * float(radii.max(initial=0.1))
    (first, second), shifts = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    vectors = atoms.positions[second] - atoms.positions[first] + shifts @ atoms.cell.array
    near = np.linalg.norm(vectors, axis=1) < JOINED * (radii[first] + radii[second])
    return first[near], second[near]


def charged_groups(atoms: Atoms, first: IntArray, second: IntArray) -> bool:
    """Whether a molecule has charges that no neighbor makes up for, as ammonium or carboxylate.

    Formal charges count where they are known; nitro groups and the like, whose charges are side by side, do not. Where
    none are known, nitrogen with four neighbors and carbon with two bare oxygens besides one neighbor are looked for.

    Args:
        atoms: The structure.
        first: One atom of each contact.
        second: The other one.
    """
    number = len(atoms)
    shares = atoms.arrays.get(SHARES)
    if shares is not None:
        bonds = get_bonds(atoms)[:, :2]
        total = shares[:, 0].astype(float)
        np.add.at(total, bonds.ravel(), shares[bonds[:, ::-1].ravel(), 0])
        return bool((total[shares[:, 0] != 0] != 0).any())
    count = np.bincount(first, minlength=number)
    bare = (atoms.numbers == 8) & (count == 1)
    oxygens = np.bincount(first[bare[second]], minlength=number)
    ammonium = (atoms.numbers == 7) & (count == 4) & (oxygens == 0)
    carboxylate = (atoms.numbers == 6) & (count == 3) & (oxygens == 2)
    return bool(ammonium.any() or carboxylate.any())


def _parts(first: IntArray, second: IntArray, number: int) -> tuple[int, IntArray]:
    """How many parts hold together by themselves, and which each atom is in."""
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(number, number))
    count, labels = connected_components(graph, directed=False) if number else (0, np.zeros(0))
    return int(count), labels.astype(np.int64)
