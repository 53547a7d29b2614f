import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from ik_e3nn_calculators.md.velocities import (
    degrees_of_freedom,
    kinetic_temperature,
    remove_drift,
    set_thermal_velocities,
)


@pytest.mark.parametrize(
    ("name", "freedom"),
    [("H2", 1), ("CO2", 4), ("H2O", 3), ("CH3CH2OH", 21)],
    ids=["diatomic", "linear", "bent", "big"],
)
def test_molecules_lose_translation_and_rotation(name, freedom):
    atoms = molecule(name)
    assert degrees_of_freedom(atoms, conserved=True) == freedom
    assert degrees_of_freedom(atoms, conserved=False) == 3 * len(atoms)
    set_thermal_velocities(atoms, 350.0, np.random.default_rng(3))
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-12
    assert np.abs(atoms.get_angular_momentum()).max() < 1e-10
    assert atoms.get_kinetic_energy() == pytest.approx(0.5 * freedom * units.kB * 350.0)


def test_crystal_keeps_rotation_but_not_drift():
    atoms = bulk("Ar", cubic=True) * 2
    set_thermal_velocities(atoms, 100.0, np.random.default_rng(0))
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-12
    assert degrees_of_freedom(atoms, conserved=True) == 3 * len(atoms) - 3
    assert kinetic_temperature(atoms, 3 * len(atoms) - 3) == pytest.approx(100.0)


def test_velocities_follow_maxwell_and_boltzmann():
    atoms = Atoms(
        "HAr" * 3000, positions=np.random.default_rng(1).uniform(size=(6000, 3)) * 60, cell=[60] * 3, pbc=True
    )
    set_thermal_velocities(atoms, 300.0, np.random.default_rng(2))
    for number in (1, 18):
        chosen = atoms[atoms.numbers == number]
        scaled = chosen.get_velocities() / np.sqrt(units.kB * 300.0 / chosen.get_masses()[:, None])
        assert scaled.var() == pytest.approx(1.0, abs=0.05)
        assert (scaled**4).mean() == pytest.approx(3.0, abs=0.2)


def test_single_atom_keeps_its_velocity():
    atoms = Atoms("Ar")
    set_thermal_velocities(atoms, 300.0, np.random.default_rng(0))
    assert kinetic_temperature(atoms, degrees_of_freedom(atoms, conserved=True)) == pytest.approx(300.0)


def test_fixed_atoms_stand_still_and_do_not_count():
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    set_thermal_velocities(atoms, 300.0, np.random.default_rng(0))
    assert not atoms.get_momenta()[:3].any()
    assert degrees_of_freedom(atoms, conserved=True) == 18
    assert kinetic_temperature(atoms, 18) == pytest.approx(300.0)
    before = atoms.get_momenta()
    remove_drift(atoms)
    np.testing.assert_array_equal(atoms.get_momenta(), before)


def test_zero_temperature():
    atoms = molecule("H2O")
    set_thermal_velocities(atoms, 0.0, np.random.default_rng(0))
    assert not atoms.get_momenta().any()
