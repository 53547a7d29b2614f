"""Equivalent descriptions of a structure: rotated, renumbered, moved, repeated."""

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.graph import get_bonds, set_bonds


def transformed(atoms: Atoms, matrix: FloatArray) -> Atoms:
    """Transform positions and cell vectors: r -> matrix r."""
    new = atoms.copy()
    new.positions = atoms.positions @ matrix.T
    new.cell = atoms.cell.array @ matrix.T
    return new


def permuted(atoms: Atoms, order: IntArray) -> Atoms:
    """The atoms in another order: the new atom a is the old atom order[a]."""
    new = atoms[order]
    bonds = get_bonds(atoms)
    if len(bonds):
        bonds[:, :2] = np.argsort(order)[bonds[:, :2]]
        set_bonds(new, bonds)
    return new


def moved_to_images(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """Every atom moved by random lattice vectors along the periodic directions."""
    new = atoms.copy()
    new.positions = atoms.positions + (random.integers(-2, 3, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
    return new


def shifted(atoms: Atoms, vector: FloatArray) -> Atoms:
    """All atoms moved by one vector, the cell left where it is."""
    new = atoms.copy()
    new.positions = atoms.positions + vector
    return new


def joined(first: Atoms, second: Atoms, distance: float) -> Atoms:
    """Join two structures without periodicity at a given distance; everything else is as in the first."""
    new = first.copy()
    gap = first.positions[:, 0].max() - second.positions[:, 0].min() + distance
    new.extend(shifted(second, np.array([gap, 0.0, 0.0])))
    renumbered = get_bonds(second) + np.array([len(first), len(first), 0])
    bonds = np.concatenate([get_bonds(first), renumbered])
    if len(bonds):
        set_bonds(new, bonds)
    return new


def repeated(atoms: Atoms) -> Atoms | None:
    """Repeat the cell twice along its first periodic direction; None if there is none, or if there are bonds."""
    if not atoms.pbc.any() or len(get_bonds(atoms)):
        return None
    new: Atoms = atoms.repeat([2 if axis == int(np.argmax(atoms.pbc)) else 1 for axis in range(3)])
    return new
