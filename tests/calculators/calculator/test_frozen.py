"""Leaving out atoms that cannot matter changes nothing that is asked for."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import add_adsorbate, fcc111
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet

from ik_e3nn.errors import DataError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators import IKCalculator


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    potential = InteratomicPotential(["O", "Cu"], 3.0, num_channels=4, num_layers=2, l_max=1, correlation=2).double()
    potential.set_energy_reference({8: -2041.0, 29: -45000.0}, "test")
    return potential.eval()


def slab(size=9):
    """One atom over a wide slab that is held."""
    atoms = fcc111("Cu", (size, size, 2), vacuum=8.0)
    atoms.pbc = (True, True, False)
    add_adsorbate(atoms, "O", 1.3, "fcc", offset=size // 2)
    atoms.rattle(0.03, seed=0)
    atoms.set_constraint(FixAtoms(range(len(atoms) - 1)))
    return atoms


def calculators(model, **options):
    return IKCalculator(model, device="cpu"), IKCalculator(model, device="cpu", skip_fixed=True, **options)


def test_energies_and_forces_are_those_of_the_whole(model, treated_at_once):
    plain, skipping = calculators(model)
    atoms = slab()
    for step in range(4):
        atoms.positions[-1] += [0.05, 0.02, -0.03]
        found = []
        for calculator in (plain, skipping):
            atoms.calc = calculator
            treated_at_once.clear()
            found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_potential_energies()))
            treated = max(receivers for _, receivers in treated_at_once)
            assert treated == len(atoms) if calculator is plain or step == 0 else treated < 0.7 * len(atoms)
        assert found[0][0] == pytest.approx(found[1][0], abs=1e-8)
        np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-10)
        np.testing.assert_allclose(found[1][2], found[0][2], atol=1e-9)
        assert np.abs(found[0][1]).max() > 1e-3, step
    part = skipping.evaluator
    assert len(part._needed) < 0.7 * len(atoms)
    assert part._changing.sum() < len(part._needed)


def test_dynamics_follow_the_same_path_across_rebuilds(model):
    paths = []
    for calculator in calculators(model):
        atoms = slab()
        atoms.set_velocities(np.zeros((len(atoms), 3)))
        velocities = np.zeros((len(atoms), 3))
        velocities[-1] = np.array([0.02, 0.01, 0.0]) / units.fs
        atoms.set_velocities(velocities)
        atoms.calc = calculator
        VelocityVerlet(atoms, 1.0 * units.fs).run(60)
        paths.append(atoms.positions.copy())
    assert np.abs(paths[0] - slab().positions).max() > 0.5
    np.testing.assert_allclose(paths[1], paths[0], atol=1e-7)


def test_moved_or_released_atoms_are_noticed(model):
    plain, skipping = calculators(model)
    atoms = slab()
    for change in ("nothing", "held atom moved", "atom released", "cell"):
        if change == "held atom moved":
            atoms.positions[40] += [0.0, 0.1, 0.05]
        if change == "atom released":
            atoms.set_constraint(FixAtoms(range(len(atoms) - 5)))
            atoms.positions[-2] += [0.01, 0, 0]
        if change == "cell":
            atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
        energies = []
        for calculator in (plain, skipping):
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy())
        assert energies[0] == pytest.approx(energies[1], abs=1e-8), change
        forces = atoms.get_forces()
        atoms.calc = plain
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-9, err_msg=change)


def test_without_held_atoms_nothing_is_left_out(model):
    plain, skipping = calculators(model)
    atoms = slab(3)
    atoms.set_constraint()
    for calculator in (plain, skipping):
        atoms.calc = calculator
        atoms.get_forces()
    np.testing.assert_array_equal(plain.results["forces"], skipping.results["forces"])


def test_releasing_an_atom_is_a_change(model):
    _, skipping = calculators(model)
    atoms = slab(4)
    atoms.calc = skipping
    before = atoms.get_forces(apply_constraint=False)
    atoms.set_constraint()
    after = atoms.get_forces(apply_constraint=False)
    assert np.abs(before[0]).max() == 0
    assert np.abs(after[0]).max() > 1e-4


def test_stress_is_that_of_the_whole(model):
    plain, skipping = calculators(model)
    atoms = slab(4)
    stresses = []
    for calculator in (plain, skipping):
        atoms.calc = calculator
        stresses.append(atoms.get_stress())
    np.testing.assert_allclose(stresses[1], stresses[0], atol=1e-12)


def test_models_that_see_bonds_are_refused():
    bonded = InteratomicPotential(["O", "Cu"], 3.0, num_channels=2, num_layers=1, inputs=["bond_types"])
    with pytest.raises(DataError, match="cannot leave out fixed atoms"):
        IKCalculator(bonded, skip_fixed=True)
