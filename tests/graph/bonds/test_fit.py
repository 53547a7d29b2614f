"""Lists of bonds given by hand are right or refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, graphene, molecule, sort

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph, fitting_bonds, get_bonds

SMILES = (
    "CC(N)=O",
    "CCO",
    "c1ccsc1",
    "FC(F)(F)C=O",
    "C#N",
    "FC#N",
    "OS(=O)(=O)O",
    "C[Si](C)(C)Cl",
    "ClC(Cl)(Cl)Cl",
    "IC(I)(I)I",
)


def by_hand(smiles):
    """A molecule whose bonds are in the list alone, as in older files."""
    atoms = molecule_from_smiles(smiles)
    return Atoms(atoms.numbers, atoms.positions, info=dict(atoms.info))


def kinds(atoms):
    return sorted((*sorted(atoms.symbols[[i, j]]), t) for i, j, t in get_bonds(atoms).tolist())


@pytest.mark.parametrize("smiles", SMILES)
@pytest.mark.parametrize("change", [sort, lambda a: a[::-1], lambda a: a[np.random.default_rng(0).permutation(len(a))]])
def test_another_order_is_refused_unless_it_is_as_good(smiles, change):
    atoms = by_hand(smiles)
    assert len(fitting_bonds(atoms)) == len(get_bonds(atoms))
    moved = change(atoms)
    lengths = [moved.get_distance(i, j) for i, j, _ in get_bonds(moved)]
    if max(lengths) < 2.3 and kinds(moved) == kinds(atoms):
        assert len(fitting_bonds(moved)) == len(lengths)
    else:
        with pytest.raises(DataError, match="the bonds do not fit the structure"):
            fitting_bonds(moved)


def test_far_apart():
    atoms = by_hand("CC(N)=O")
    atoms.info["bonds"] = np.array([0, 8, 1])
    atoms.positions[8] += 30.0
    with pytest.raises(DataError, match=r"C-H \(atoms 0 and 8\) is listed as a bond, but the two are .* A apart"):
        build_graph(atoms, 5.0)


def test_multiple_bonds_to_hydrogen():
    with pytest.raises(DataError, match=r"H-C \(atoms 0 and 1\) is listed as a multiple bond"):
        fitting_bonds(Atoms("HCN", [[0, 0, 0], [1.07, 0, 0], [2.22, 0, 0]], info={"bonds": [0, 1, 3, 1, 2, 1]}))


@pytest.mark.parametrize("other", ["O", "CC(N)=O", "[HH]"])
def test_molecules_without_bonds_beside_one_that_has_them(other):
    first, second = by_hand("CC(N)=O"), by_hand(other)
    second.positions += 20.0
    with pytest.raises(DataError, match="atoms have neighbors at bonding distance but no bonds, although others have"):
        build_graph(first + second, 5.0)
    with pytest.raises(DataError, match="atoms have neighbors at bonding distance but no bonds, although others have"):
        fitting_bonds(molecule_from_smiles("CC(N)=O") + Atoms(second.numbers, second.positions))


def test_a_repeated_cell_is_refused():
    atoms = by_hand("O=C=O")
    atoms.cell, atoms.pbc = [5, 5, 6], True
    assert len(fitting_bonds(atoms)) == 2
    with pytest.raises(DataError, match="3 of 6 atoms have neighbors at bonding distance but no bonds"):
        fitting_bonds(atoms * (2, 1, 1))


def test_an_atom_more_is_refused():
    atoms = molecule_from_smiles("CO")[:-1]
    atoms.append("H")
    atoms.positions[-1] = molecule_from_smiles("CO").positions[-1]
    with pytest.raises(DataError, match=r"1 of 6 atoms have neighbors .* the first are 5 \(H\)"):
        fitting_bonds(atoms)


def test_wrapped_molecules_fit():
    atoms = by_hand("CC(N)=O")
    atoms.cell, atoms.pbc = [5.0, 5.2, 5.5], True
    for shift in np.linspace(0, 5, 7):
        moved = atoms.copy()
        moved.positions += shift
        moved.wrap()
        assert len(fitting_bonds(moved)) == 8


def test_solids_without_bonds_under_a_molecule_fit():
    sheet, slab = graphene(size=(4, 4, 1), vacuum=8.0), fcc111("Pt", (3, 3, 2), vacuum=8.0)
    sheet.pbc = slab.pbc = True
    for solid in (sheet, slab):
        atoms = by_hand("CC(N)=O")
        atoms.positions += solid.positions[-1] + [0, 0, 4.5] - atoms.positions.mean(0)
        atoms.cell, atoms.pbc = solid.cell, True
        assert len(fitting_bonds(atoms + solid)) == 8


def test_a_bond_that_is_broken_in_a_scan_fits():
    atoms = by_hand("CC(N)=O")
    carbon, hydrogen = next((i, j) for i, j, _ in get_bonds(atoms) if atoms.symbols[j] == "H")
    for length in np.linspace(0.8, 2.5, 18):
        atoms.set_distance(carbon, hydrogen, length, fix=0)
        assert len(fitting_bonds(atoms)) == 8


def test_what_has_no_bonds_is_not_looked_at():
    for atoms in (molecule("H2O"), fcc111("Pt", (2, 2, 2), vacuum=5.0), Atoms("He"), Atoms()):
        assert fitting_bonds(atoms).shape == (0, 3)
    water = molecule("H2O")
    water.info["bonds"] = []
    assert fitting_bonds(water).shape == (0, 3)
    bridge, outer = [[0, 0, 0.99], [0, 0, -0.99]], [[x, y, 0] for x in (1.47, -1.47) for y in (1.04, -1.04)]
    diborane = Atoms("B2H6", [[0.885, 0, 0], [-0.885, 0, 0], *bridge, *outer])
    bridges = [[b, h, 1] for b in (0, 1) for h in range(2, 8) if diborane.get_distance(b, h) < 1.4]
    diborane.info["bonds"] = np.ravel(bridges)
    assert len(fitting_bonds(diborane)) == 8


def test_info_of_another_molecule_of_the_same_size():
    ethanol, dimethyl_ether = by_hand("CCO"), by_hand("COC")
    dimethyl_ether.info = dict(ethanol.info)
    with pytest.raises(DataError, match="the bonds do not fit the structure"):
        fitting_bonds(dimethyl_ether)
    stored = molecule_from_smiles("COC")
    stored.info = dict(molecule_from_smiles("CCO").info)
    with pytest.raises(DataError, match="the bonds do not fit the structure"):
        fitting_bonds(stored)
