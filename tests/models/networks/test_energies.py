"""Energies as functions of tensors: their derivatives are those of finite differences, in evaluation mode too."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import set_bonds
from ik_e3nn.models import (
    Committee,
    InteratomicPotential,
    MolecularPropertyModel,
    batch_of,
    energies_of,
    hessian,
    hessian_products,
)
from ik_e3nn.targets import MECHANICS, Intensive

SMALL = {"num_channels": 2, "num_layers": 2, "l_max": 1, "l_features": 1, "correlation": 2}
SURFACE = {"group": "SO2", "inputs": ["surface", "total_charge", "spin"]}
FACE = {"group": {"plane": "pg", "cell": [[2.4, 0], [0, 3.1]]}, "inputs": ["face"]}
BONDS = {"inputs": ["bond_types"]}


def randomized(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model.double().eval().requires_grad_(False)


def potential(seed=0, **options):
    torch.manual_seed(seed)
    return randomized(InteratomicPotential(["H", "C", "O"], 3.5, **SMALL | options))


def methanol():
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=0)
    atoms.info |= {"charge": 1.0, "spin": 2, "surface_normal": [0.3, 0, 1.0], "surface_origin": [0.1, 0, -1.0]}
    set_bonds(atoms, [(0, 1, 1), *((0, i, 1) for i in (2, 3, 4) if i != 1)][:4])
    return atoms


def over_a_face():
    atoms = methanol()
    atoms.info = {"surface_cell": [[2.5, 0.1, 0.0], [0.1, 3.0, 0.2]], "surface_origin": [9.0, -5.0, -1.0]}
    return atoms


def crystal():
    cell = molecule("CH3OH")
    cell.set_cell([[3.6, 0, 0], [0.7, 4.0, 0], [-0.4, 0.9, 3.4]])
    cell.pbc = True
    cell.rattle(0.05, seed=0)
    return cell


def differentiated(model, batch, name):
    """The derivative of the energies by a tensor along a random direction, and the same by finite differences."""
    x = batch[name].requires_grad_()
    (gradient,) = torch.autograd.grad(energies_of(model, batch).sum(), x)
    batch = {key: tensor.detach() for key, tensor in batch.items()}
    direction = torch.randn_like(batch[name])
    step = 1e-4 * direction
    ahead, behind, far_ahead, far_behind = (
        energies_of(model, {**batch, name: batch[name] + k * step}).sum().item() for k in (1, -1, 2, -2)
    )
    return float((gradient * direction).sum()), (8 * (ahead - behind) - (far_ahead - far_behind)) / 12e-4


@pytest.mark.parametrize(
    ("options", "make", "names"),
    [
        ({}, crystal, ["positions", "cell"]),
        (SURFACE, methanol, ["positions", "total_charge", "spin", "surface_origin", "surface_normal"]),
        (FACE, over_a_face, ["positions", "surface_origin", "surface_cell"]),
        (BONDS, methanol, ["positions"]),
    ],
)
def test_energies_can_be_differentiated_by_all_inputs_in_evaluation_mode(options, make, names):
    model = potential(**options)
    for name in names:
        found, expected = differentiated(model, batch_of(model, make()), name)
        assert abs(expected) > 1e-4
        assert found == pytest.approx(expected, rel=1e-7)


def test_energies_are_those_of_the_model_for_all_kinds_of_models():
    torch.manual_seed(0)
    structures = [molecule("H2O"), molecule("CH4"), crystal()]
    one, two = potential(0), potential(1)
    joint = randomized(
        MolecularPropertyModel(["H", "C", "O"], [*MECHANICS, Intensive("gap", "eV")], edges="radius", potential=SMALL)
    )
    for model in (one, joint, Committee([one, two])):
        found = energies_of(model, structures)
        assert found.shape == (3,)
        for value, atoms in zip(found, structures, strict=True):
            expected = model(batch_of(model, atoms))["energy"]
            assert float(value) == pytest.approx(float(expected), rel=1e-12)
    batch = batch_of(one, structures)
    forces = one(batch)["forces"]
    positions = batch["positions"].requires_grad_()
    (gradient,) = torch.autograd.grad(energies_of(one, batch).sum(), positions)
    torch.testing.assert_close(-gradient, forces)


def test_the_mode_of_the_model_and_of_torch_do_not_matter():
    model = potential()
    batch = batch_of(model, methanol())
    expected = hessian(model, batch)
    assert torch.equal(hessian(model.train(), batch), expected)
    with torch.inference_mode():
        made_inside = batch_of(model, methanol())
        torch.testing.assert_close(hessian(model, made_inside), expected)
        assert not energies_of(model, batch).requires_grad
        stale = potential()
    torch.testing.assert_close(hessian(stale, batch), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(hessian(model, batch), expected)
    model.eval().max_edges = 5  # tiles of the model could be differentiated only once
    torch.testing.assert_close(hessian(model, batch), expected)


def test_weights_are_differentiated_if_they_require_it():
    model = potential().requires_grad_(True)
    energies_of(model, methanol()).sum().backward()
    assert sum(float(weight.grad.abs().sum()) for weight in model.parameters() if weight.grad is not None) > 0


def stencil(model, atoms, step=2e-3):
    """The Hessian by finite differences of forces, with an error of the fourth power of the step."""
    moved = []
    for index in np.ndindex(len(atoms), 3):
        for factor in (1, -1, 2, -2):
            moved.append(atoms.copy())
            moved[-1].positions[index] += factor * step
    forces = model(batch_of(model, moved))["forces"].numpy().reshape(-1, 4, 3 * len(atoms))
    return -(8 * (forces[:, 0] - forces[:, 1]) - (forces[:, 2] - forces[:, 3])) / (12 * step)


@pytest.mark.parametrize(("options", "make"), [({}, methanol), ({}, crystal), (SURFACE, methanol), (BONDS, methanol)])
def test_hessians_are_those_of_finite_differences_of_forces(options, make):
    model = potential(**options)
    found, expected = hessian(model, make()), stencil(model, make())
    assert abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(found.view(6, 3, 6, 3).sum(2)).max() < 1e-10 or "surface" in model.inputs  # a shift costs no energy


def test_parts_and_products_are_those_of_the_whole_hessian():
    model, atoms = potential(), methanol()
    whole = hessian(model, atoms)
    rows = [9, 10, 11, 0, 1, 2]
    torch.testing.assert_close(hessian(model, atoms, atoms=[3, 0]), whole[rows][:, rows])
    torch.testing.assert_close(hessian(model, atoms, atoms=np.array([3, 0]), max_edges=1), whole[rows][:, rows])
    assert hessian(model, atoms, atoms=[]).shape == (0, 0)
    vectors = torch.randn(4, 6, 3, dtype=torch.float64)
    products = hessian_products(model, atoms, vectors, max_edges=70)
    torch.testing.assert_close(products.flatten(1), vectors.flatten(1) @ whole)


def test_copies_in_one_call_are_bounded(treated_at_once):
    model, atoms = potential(), methanol()
    edges = batch_of(model, atoms)["edge_index"].shape[1]
    hessian(model, atoms, max_edges=3 * edges)
    assert {receivers for _, receivers in treated_at_once} == {3 * len(atoms)}


def test_single_atoms_have_no_curvature():
    assert torch.equal(hessian(potential(), Atoms("H")), torch.zeros(3, 3, dtype=torch.float64))


def test_the_precision_of_the_model_is_kept():
    model = potential()
    expected = hessian(model, methanol())
    found = hessian(model.float(), methanol())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_what_cannot_be_done_is_refused():
    model, water = potential(), molecule("H2O")
    with pytest.raises(DataError, match="cannot evaluate an empty list of structures"):
        energies_of(model, [])
    with pytest.raises(DataError, match=r"structures 1 and 0 do not have the same inputs \(total_charge\)"):
        energies_of(model, [water, Atoms("H", info={"charge": 1})])
    with pytest.raises(MissingInputError, match="the model needs 'total_charge'"):
        energies_of(potential(inputs=["total_charge"]), water)
    gaps = MolecularPropertyModel(["H", "O"], [Intensive("gap", "eV")])
    with pytest.raises(DataError, match="MolecularPropertyModel predicts no energies that can be differentiated here"):
        energies_of(gaps, water)
    with pytest.raises(DataError, match="a Hessian belongs to one structure, got 2"):
        hessian_products(model, [water, water], torch.zeros(1, 6, 3))
    with pytest.raises(DataError, match=r"vectors must have the shape \(K, 3, 3\), got \(3, 3\)"):
        hessian_products(model, water, torch.zeros(3, 3))
    for wrong in ([0, 0], [3], [-1]):
        with pytest.raises(DataError, match="atoms must be different numbers from 0 to 2, got"):
            hessian(model, water, atoms=wrong)
