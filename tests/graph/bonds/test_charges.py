"""Charge and spin are those of the atoms that are there, or refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from ik_e3nn.data import LabeledSet, StructureDataset, joined, molecule_from_smiles, with_bonds
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields, get_bonds, set_bonds, set_charge, settle_bonds, stated_number
from ik_e3nn.graph.bonds.charges import unlikely_charge

AMMONIUM, ACETATE, WATER, RADICAL, GLYCINE = "[NH4+]", "CC(=O)[O-]", "O", "C[CH2]", "[NH3+]CC(=O)[O-]"


def placed(smiles, shift=0.0):
    atoms = molecule_from_smiles(smiles)
    atoms.positions += shift
    return atoms


def numbers(atoms):
    return stated_number(atoms, "charge"), stated_number(atoms, "spin")


@pytest.mark.parametrize(
    ("smiles", "expected"), [(AMMONIUM, (1, 1)), (ACETATE, (-1, 1)), (GLYCINE, (0, 1)), (RADICAL, (0, 2))]
)
def test_as_made_and_in_any_order(smiles, expected):
    atoms = placed(smiles)
    assert numbers(atoms) == expected
    assert numbers(atoms[::-1]) == expected
    atoms.info["charge"] = 3  # by hand
    assert numbers(atoms[::-1])[0] == 3


@pytest.mark.parametrize(
    ("parts", "expected"), [((WATER, AMMONIUM), 1), ((AMMONIUM, AMMONIUM), 2), ((AMMONIUM, ACETATE), 0)]
)
def test_charges_of_joined_molecules(parts, expected):
    first, second = (placed(smiles, 9.0 * n) for n, smiles in enumerate(parts))
    both = first + second
    with pytest.raises(DataError, match=rf"formal charges of its atoms sum to {expected}\. Set it again"):
        stated_number(both, "charge")
    set_charge(both, expected)
    assert stated_number(both, "charge") == expected
    assert len(get_bonds(both)) == len(get_bonds(first)) + len(get_bonds(second))
    right = joined(first, second)
    assert (right.info["charge"], stated_number(right, "charge")) == (expected, expected)


def test_what_sums_up_is_right():
    assert numbers(placed(WATER) + placed(WATER, 9.0)) == (0, 1)
    assert stated_number(placed(AMMONIUM) + placed(WATER, 9.0), "charge") == 1
    assert stated_number(placed(GLYCINE) + placed(WATER, 9.0), "charge") == 0


def test_repeated():
    atoms = placed(AMMONIUM)
    atoms.cell, atoms.pbc = [6, 6, 6], True
    with pytest.raises(DataError, match=r'info\["charge"\] is 1, .*sum to 4'):
        stated_number(atoms * (2, 2, 1), "charge")
    atoms = placed(WATER)
    atoms.cell, atoms.pbc = [6, 6, 6], True
    assert numbers(atoms * (2, 2, 1)) == (0, 1)
    atoms.info["charge"] = 1  # by hand: it is not known what of it is in a copy
    with pytest.raises(DataError, match="cut, joined or repeated since"):
        stated_number(atoms * (2, 1, 1), "charge")


def test_cut():
    glycine = placed(GLYCINE)
    nitrogen = int(np.flatnonzero(glycine.symbols == "N")[0])
    without = glycine[[i for i in range(len(glycine)) if i != nitrogen]]
    with pytest.raises(DataError, match=r'info\["charge"\] is 0, .*sum to -1'):
        stated_number(without, "charge")
    hydroxyl = placed(WATER)[:2]
    assert stated_number(hydroxyl, "charge") == 0
    with pytest.raises(
        DataError, match=r'info\["spin"\] is 1, .*unpaired electrons of its atoms make no possible value'
    ):
        stated_number(hydroxyl, "spin")
    set_charge(hydroxyl, 0, 2)
    assert numbers(hydroxyl) == (0, 2)


def test_radicals_joined():
    pair = placed(RADICAL) + placed(RADICAL, 9.0)
    with pytest.raises(DataError, match="unpaired electrons of its atoms make 3"):
        stated_number(pair, "spin")


def test_charges_said_by_hand_of_plain_structures_stay():
    for atoms in (molecule("H2O"), bulk("NaCl", "rocksalt", a=5.6), Atoms("Na")):
        atoms.info.update(charge=1, spin=2)
        assert numbers(atoms) == (1, 2)
        assert numbers(atoms + atoms) == (1, 2)  # nothing in the structure tells that it was joined
    slab = bulk("Cu", cubic=True)
    slab.info["charge"] = -1
    assert stated_number(slab + placed(WATER, 20.0), "charge") == -1
    with pytest.raises(DataError, match=r'info\["charge"\] is -1, .*the total is not known'):
        stated_number(slab + placed(AMMONIUM, 20.0), "charge")
    assert stated_number(Atoms("H"), "charge") is None


def test_a_charge_that_equal_parts_cannot_share_is_doubted():
    salt = Atoms("NaCl", [[0.1, 0, 0], [2.8, 0.2, 0]], cell=[[5.6, 0, 0], [1.0, 5.0, 0], [0, 0.5, 6.0]], pbc=True)
    salt.info["charge"] = 1
    for repeat, copies in (((2, 1, 1), 2), ((1, 3, 2), 6), ((2, 2, 2), 8)):
        assert f'["charge"] is 1, and the structure consists of {copies} equal parts' in unlikely_charge(salt * repeat)
    assert "the total charge, -6," in unlikely_charge(charged(salt * (3, 1, 1), -2))
    others = [salt, charged(salt * (2, 1, 1), 2), charged(salt * (2, 1, 1), 0), bulk("Cu", cubic=True) * (2, 1, 1)]
    rattled, two = salt * (2, 1, 1), molecule("H2O") + molecule("H2O")
    rattled.positions[0, 0] += 1e-3
    two.positions[3:] += 4.0
    others += [rattled, charged(two, 1), charged(bulk("Cu") * (3, 1, 1), 1)]
    assert [unlikely_charge(atoms) for atoms in others] == [""] * len(others)


def charged(atoms, charge):
    atoms.info["charge"] = charge
    return atoms


def test_ions_joined_with_atoms_of_which_no_charge_is_stored():
    sodium = Atoms("Na", [[9.0, 0, 0]], info={"charge": 1, "spin": 1})
    for both in (placed(ACETATE) + sodium, sodium + placed(ACETATE)):
        for key in ("charge", "spin"):
            with pytest.raises(DataError, match=r"the total is not known .* Set it again with .*set_charge"):
                stated_number(both, key)
        set_charge(both, 0)
        assert numbers(both) == (0, 1)
    assert numbers(joined(placed(ACETATE), sodium)) == (0, 1)


def test_settled_structures_know_their_order_but_a_wrong_charge_is_not_made_right():
    good, bad = placed(ACETATE)[::-1], placed(AMMONIUM) + placed(AMMONIUM, 9.0)
    before = bad.info["bonds"].tolist()
    for atoms in (good, bad):
        settle_bonds(atoms)
    assert np.reshape(good.info["bonds"], (-1, 3)).tolist() == get_bonds(good).tolist()
    assert bad.info["bonds"].tolist() == before
    with pytest.raises(DataError, match="sum to 2"):
        stated_number(bad, "charge")
    hand = molecule("H2O")
    hand.info["bonds"] = [1, 2, 1]  # H-H
    settle_bonds(hand)
    assert "bond_partners" not in hand.arrays


def test_set_bonds_alone_does_not_touch_charges():
    atoms = placed(ACETATE)
    set_bonds(atoms, get_bonds(atoms))
    assert numbers(atoms) == (-1, 1)


def test_property_models_read_charges_that_are_those_of_the_molecule():
    inputs = [fields.TOTAL_CHARGE]
    whole = placed(AMMONIUM)
    for good in (whole, whole[::-1], Atoms("Na", info={"charge": 1})):
        StructureDataset([good], edges="radius", inputs=inputs)
    pair = whole + placed(AMMONIUM, 9.0)  # 2 e; what was said of the first is 1 e
    two = LabeledSet([whole, pair], (), {}, ["one", "two"])
    with pytest.raises(DataError, match='molecule two: .*"charge".* is 1, which was set for other atoms than these 10'):
        StructureDataset(two, edges="radius", inputs=inputs)
    assert len(StructureDataset(two, edges="radius")) == 2  # a model that reads no charge is not disturbed
    with pytest.raises(DataError, match="was set for other atoms than these 10"):
        with_bonds(two.select([1]), "perceived")
