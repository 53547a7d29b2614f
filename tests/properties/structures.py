"""Small structures of every kind that a potential must handle."""

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ik_e3nn.graph import set_bonds

SPECIES = ("H", "C", "O", "Al", "Cu")


def methanol(charge=None, spin=None, bonds=False):
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=0)
    if charge is not None:
        atoms.info["charge"] = charge
    if spin is not None:
        atoms.info["spin"] = spin
    if bonds:
        carbon, oxygen = atoms.symbols.indices()["C"][0], atoms.symbols.indices()["O"][0]
        rows = [[carbon, oxygen, 2]]
        for h in atoms.symbols.indices()["H"]:
            partner = min((carbon, oxygen), key=lambda a: atoms.get_distance(a, h))
            rows.append([partner, h, 1])
        set_bonds(atoms, rows)
    return atoms


def triclinic():
    """A crystal in a skewed cell, with atoms outside of it."""
    crystal = bulk("Cu", cubic=True)
    shear = np.array([[0.02, 0.07, -0.03], [0.0, -0.04, 0.05], [0.06, 0.0, 0.03]])
    crystal.set_cell(crystal.cell @ (np.eye(3) + shear), scale_atoms=True)
    crystal.rattle(0.05, seed=1)
    crystal.positions[0] -= crystal.cell[0] + 2 * crystal.cell[2]
    return crystal


def left_handed():
    crystal = bulk("Al", cubic=False)
    crystal.rattle(0.05, seed=3)
    crystal.set_cell(crystal.cell[[1, 0, 2]])
    return crystal


def slab():
    """Periodic in two directions, with no third cell vector at all."""
    surface = fcc111("Al", (1, 1, 2), vacuum=0.0, a=4.05)
    surface.rattle(0.05, seed=2)
    surface.cell[2] = 0
    surface.pbc = (True, True, False)
    return surface


def slab_in_a_box():
    """The same with an open third direction that has a length, askew."""
    surface = slab()
    surface.cell[2] = [1.0, 0.5, 15.0]
    return surface


def wire():
    return Atoms("CO", [[0, 0, 0], [0.1, 0.2, 1.3]], cell=[[0, 0, 0], [0, 0, 0], [0.1, 0, 2.9]], pbc=[0, 0, 1])


def single_atom():
    return Atoms("H", [[3.0, -2.0, 1.0]])


def far_apart():
    """Two atoms, no edges."""
    return Atoms("HO", [[0, 0, 0], [0, 0, 60.0]])


ALL = {f.__name__: f for f in (methanol, triclinic, left_handed, slab, slab_in_a_box, wire, single_atom, far_apart)}
