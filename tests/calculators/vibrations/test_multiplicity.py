"""Multiplicities fit the number of electrons, and guesses are named."""

import pytest
from ase import Atoms
from ase.build import molecule

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.vibrations.multiplicity import multiplicity


def test_a_multiplicity_that_is_given_is_used():
    assert multiplicity(Atoms("O2", info={"spin": 3})) == (3, "")
    assert multiplicity(Atoms("OH", info={"spin": 2})) == (2, "")
    assert multiplicity(Atoms("OH", info={"spin": 1, "charge": -1})) == (1, "")


@pytest.mark.parametrize("name", ["H2O", "O2", "CO2", "C6H6"])
def test_molecules_without_it_are_singlets(name):
    """The triplet of oxygen cannot be known from its atoms."""
    assert multiplicity(molecule(name)) == (1, "")


@pytest.mark.parametrize(("symbol", "expected"), [("H", 2), ("C", 3), ("N", 4), ("O", 3), ("Ar", 1), ("Cr", 7)])
def test_single_atoms_follow_the_rule_of_hund(symbol, expected):
    value, warning = multiplicity(Atoms(symbol))
    assert value == expected
    assert (warning == "") == (expected == 1)


@pytest.mark.parametrize(("name", "expected"), [("CH3", 2), ("OH", 2), ("NO", 2), ("CH2_s1A1d", 1)])
def test_guesses_for_radicals_are_named(name, expected):
    value, warning = multiplicity(molecule(name))
    assert value == expected
    assert warning.startswith('the structure has no atoms.info["spin"], and ')
    assert warning.endswith(f"; the entropy has the multiplicity {expected}")


def test_ions_have_other_electrons():
    assert multiplicity(Atoms("OH", info={"charge": -1})) == (1, "")
    assert multiplicity(Atoms("O", info={"charge": -1}))[0] == 2


@pytest.mark.parametrize(
    ("spin", "message"),
    [
        (1, "is 1, but 9 electrons have an even multiplicity, 2S"),
        (3, "is 3, but 9 electrons have an even multiplicity"),
        (0, "is 0, but 9 electrons"),
        (2.5, "is 2.5, but 9 electrons"),
    ],
)
def test_impossible_multiplicities_are_refused(spin, message):
    with pytest.raises(DataError, match=message):
        multiplicity(Atoms("OH", info={"spin": spin}))
    with pytest.raises(DataError, match="is 2, but 10 electrons have an odd multiplicity"):
        multiplicity(Atoms("OH2", info={"spin": 2}))
