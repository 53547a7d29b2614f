"""Hessians of the calculator: those of the model, with the inputs of the structure."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.errors import DataError
from ik_e3nn.models import Committee, InteratomicPotential
from ik_e3nn_calculators import IKCalculator
from tests.calculators.pair_potential import PairPotential


def potential(seed=0, **options):
    torch.manual_seed(seed)
    return (
        InteratomicPotential(["H", "O"], 4.0, num_channels=2, num_layers=2, l_max=1, correlation=2, **options)
        .double()
        .eval()
    )


def numeric(atoms, step=1e-3):
    """The Hessian by finite differences of the forces of the calculator."""
    rows = []
    for index in np.ndindex(len(atoms), 3):
        forces = []
        for factor in (1, -1, 2, -2):
            atoms.positions[index] += factor * step
            forces.append(atoms.get_forces().ravel())
            atoms.positions[index] -= factor * step
        rows.append(-(8 * (forces[0] - forces[1]) - (forces[2] - forces[3])) / (12 * step))
    return np.array(rows)


def test_the_hessian_is_that_of_finite_differences():
    atoms = molecule("H2O", info={"charge": -1})
    atoms.calc = IKCalculator(potential(inputs=["total_charge"]), device="cpu", max_edges=7)
    found = atoms.calc.get_hessian(atoms)
    assert abs(found).max() > 0.1
    atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.calc.get_hessian(indices=[2]), found[6:, 6:], atol=1e-12)
    np.testing.assert_allclose(found, numeric(atoms), atol=1e-6)


def test_committees_have_the_mean_hessian():
    atoms = molecule("H2O")
    found = [IKCalculator(potential(seed), device="cpu").get_hessian(atoms) for seed in (0, 1)]
    both = IKCalculator(Committee([potential(0), potential(1)]), device="cpu").get_hessian(atoms)
    np.testing.assert_allclose(both, np.mean(found, 0), atol=1e-12)


def test_what_is_no_hessian_is_refused():
    with pytest.raises(DataError, match=r"there is no structure for the Hessian; give one, get_hessian\(atoms\)"):
        IKCalculator(potential(), device="cpu").get_hessian()
    with pytest.raises(DataError, match="PairPotential predicts no energies that can be differentiated here"):
        IKCalculator(PairPotential(), device="cpu").get_hessian(Atoms("Ar"))
