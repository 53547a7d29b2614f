"""Standard deviations from last layers: exact Gaussian posteriors and symmetry."""

import pytest
import torch
from ase.build import molecule
from e3nn import o3

from ik_e3nn.errors import DataError
from ik_e3nn.models import Committee, LastLayerEnsemble
from ik_e3nn.models.uncertainty.last_layer import (
    LastLayerPosterior,
    directions_of,
    head_jacobians,
    last_layer_derivatives,
    last_weights,
)
from tests.models.uncertainty.helpers import (
    MODELS,
    PROPERTIES,
    batch_of,
    ensemble_of,
    joint_model,
    posterior_of,
    potential,
    property_model,
    rattled,
    scaled_prior,
)


@pytest.mark.parametrize("max_edges", [None, 5])
def test_energies_and_forces_are_linear_in_the_last_layer(max_edges) -> None:
    model = potential()
    model.max_edges = max_edges
    batch = rattled(model)
    edges = model.prepare(batch)
    assert (max_edges is None) == (model.layered(edges) is None)
    with torch.no_grad():
        features = model.last_layer(edges)
        reference = torch.tensor([-7.0, -3.0, -3.0] * 3, dtype=torch.float64)
        torch.testing.assert_close(reference + features @ model.last_weights, model.site_energies(edges))
    change = torch.randn(features.shape[1], dtype=torch.float64)
    before = model(batch)
    _, forces = last_layer_derivatives(model, batch, change[None])
    expected = next(forces)
    with torch.no_grad():
        start = 0
        for read in model.readouts:
            weight = read.mlp.weights[-1]
            weight += change[start : start + weight.numel()].view_as(weight)
            start += weight.numel()
    after = model(batch)
    torch.testing.assert_close(after["energies"] - before["energies"], features @ change, rtol=1e-9, atol=1e-9)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(after["forces"] - before["forces"], expected, rtol=1e-9, atol=1e-9)


def test_jacobians_are_changes_of_readouts_with_weights() -> None:
    model = property_model()
    graph = batch_of(model, molecule("CH3CH2OH"), molecule("H2O"))
    molecules = model.molecules(graph)
    atoms = model.atomwise(graph, molecules)
    for kind, jacobian in head_jacobians(model, graph).items():
        weight = last_weights(model)[kind]
        step = torch.randn_like(weight)
        step *= 1e-7 if kind == "dipole_norm" else 1.0
        before = model.heads[kind](atoms, molecules)
        weight += step
        change = model.heads[kind](atoms, molecules) - before
        weight -= step
        torch.testing.assert_close(jacobian @ step.flatten(), change, rtol=1e-9, atol=1e-12)
    assert head_jacobians(potential(), graph) == {}


def test_the_posterior_of_energies_is_that_of_bayesian_linear_regression() -> None:
    """Against textbook algebra: stack all rows of the design matrix, divided by their noise."""
    model = potential()
    batch, size = rattled(model, 2), model.last_weights.numel()
    posterior = LastLayerPosterior(model, {"energy": 0.02, "forces": 0.3})
    posterior.add(batch)
    features, changes = last_layer_derivatives(model, batch, torch.eye(size, dtype=torch.float64))
    f = features.view(2, 3, size).sum(1) / 3
    g = torch.stack([change.flatten() for change in changes], 1)
    rows = torch.cat([f / 0.02, g / 0.3, torch.eye(size, dtype=torch.float64)])
    covariance = torch.linalg.inv(rows.T @ rows)
    roots = posterior.roots()
    torch.testing.assert_close(roots["energy"] @ roots["energy"].T, covariance, rtol=1e-8, atol=1e-10)
    out = ensemble_of(model, roots)(batch)
    total = features.view(2, 3, size).sum(1)
    torch.testing.assert_close(out["energy_std"], (total @ covariance * total).sum(1).sqrt(), rtol=1e-8, atol=0)
    exact = (g @ covariance * g).sum(1).sqrt().view(-1, 3)
    torch.testing.assert_close(out["forces_std"], exact, rtol=1e-8, atol=1e-12)
    few = torch.stack([ensemble_of(model, roots, 8, seed)(batch)["forces_std"] for seed in range(40)])
    torch.testing.assert_close(few.square().mean(0), exact.square(), rtol=0.35, atol=0)


@pytest.mark.parametrize("make", [property_model, joint_model])
def test_the_posterior_of_properties_is_that_of_bayesian_linear_regression(make) -> None:
    """By the other form of the formula, with the matrix of all labels: s^2 = J J^T - J A^T (A A^T + n^2)^-1 A J^T."""
    model = make()
    batch = batch_of(model, molecule("CH3CH2OH"), molecule("H2O"), molecule("CH4"))
    batch["targets"][2] = torch.nan  # the third has no labels
    new = batch_of(model, molecule("CH3OH"))
    found = ensemble_of(model, posterior_of(model, batch).roots())(new)
    labeled, asked = head_jacobians(model, batch), head_jacobians(model, new)
    scales = dict(zip([target.name for target in model.properties], model.scales.scale, strict=True))
    for kind, J in asked.items():
        for column, name in enumerate(model.names[kind]):
            A = torch.cat([labeled[kind][:2, c].flatten(0, -2) for c in range(len(model.names[kind]))])
            own = [scales[n] for n in model.names[kind]]
            noise = torch.cat([(0.1 / s).expand(len(A) // len(own)) for s in own])
            j = J[0, column].reshape(-1, J.shape[-1])
            middle = torch.linalg.solve(A @ A.T + torch.diag(noise**2), A @ j.T)
            variance = (j @ j.T - (A @ j.T).T @ middle).diagonal()
            expected = scales[name] * variance.sqrt()
            torch.testing.assert_close(found[f"{name}_std"].flatten(), expected, rtol=1e-6, atol=1e-9, msg=name)
            assert expected.max() > 1e-6


def test_energies_of_a_joint_model_are_as_sure_as_those_of_the_potential_in_it() -> None:
    model = joint_model()
    batch = rattled(model)
    joint, alone = (posterior_of(one, batch).roots() for one in (model, model.potential))
    assert set(joint) == {"energy", "dipole"}
    torch.testing.assert_close(joint["energy"], alone["energy"], rtol=1e-12, atol=1e-12)
    one, other = ensemble_of(model, joint, 5)(batch), ensemble_of(model.potential, alone, 5)(batch)
    for name in ("energy_std", "forces_std"):
        assert one[name].min() > 1e-6
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-12)
    assert one["mu_std"].shape == one["mu"].shape


@pytest.mark.parametrize("kind", MODELS)
def test_labels_make_surer_and_structures_without_labels_do_not(kind) -> None:
    model, water = MODELS[kind](), molecule("H2O")
    water.rattle(0.1, seed=3)
    batch = batch_of(model, water)
    prior = ensemble_of(model, posterior_of(model).roots())(batch)
    after = ensemble_of(model, posterior_of(model, batch, 0.01).roots())(batch)
    unlabeled = batch_of(model, molecule("H2O"), water, labels=torch.nan)
    same = ensemble_of(model, posterior_of(model, unlabeled).roots())(batch)
    for target in model.targets:
        name = f"{target.name}_std"
        if target.name != "stress":
            assert after[name].norm() < 0.5 * prior[name].norm(), name
            torch.testing.assert_close(same[name], prior[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("uncertain", ["committee", "last layer"])
@pytest.mark.parametrize("kind", MODELS)
def test_stds_have_the_symmetry_of_their_targets(kind, uncertain) -> None:
    model, atoms = MODELS[kind](), molecule("H2O")
    if uncertain == "committee":
        whole = Committee([model, MODELS[kind](1), MODELS[kind](2)])
    else:
        whole = ensemble_of(model, posterior_of(model, rattled(model)).roots())
    turned, far = atoms.copy(), atoms.copy()
    turned.positions = atoms.positions @ o3.rand_matrix(dtype=torch.float64).numpy().T + 3.0
    far.positions += 50.0
    graph = batch_of(model, atoms)
    one, other, both = (whole(batch_of(model, structure)) for structure in (atoms, turned, atoms + far))
    for target in whole.uncertain:
        name = f"{target.name}_std"
        assert one[name].shape == one[target.name].shape
        assert one[name].max() > 1e-6
        rows = len(atoms) if target.per_atom else 1
        totals = [out[name].square().reshape(rows, -1).sum(1) for out in (one, other)]  # traces of covariances
        torch.testing.assert_close(*totals, rtol=1e-8, atol=1e-12)
        if target.kind in ("energy", "extensive"):
            torch.testing.assert_close(both[name], 2 * one[name], rtol=1e-9, atol=1e-12)
        elif target.kind == "intensive":
            torch.testing.assert_close(both[name], one[name], rtol=1e-9, atol=1e-12)
    assert graph["positions"].grad is None


def test_mistakes_are_clear_errors() -> None:
    model, properties, eye = potential(), property_model(), torch.eye(32)
    with pytest.raises(DataError, match=r"the last layer of energy has 32 weights, but the matrix is \(3, 3\)"):
        LastLayerEnsemble(model, {"energy": torch.eye(3)}, eye)
    with pytest.raises(DataError, match=r"the directions of forces must have the shape \(M, 32\); got \(3, 3\)"):
        LastLayerEnsemble(model, {"energy": eye}, torch.eye(3))
    with pytest.raises(DataError, match=r"the directions of forces must have the shape \(M, 32\); got None"):
        LastLayerEnsemble(model, {"energy": eye})
    with pytest.raises(DataError, match="the last layer of extensive has 16 weights, but the matrix is None"):
        LastLayerEnsemble(properties, {})
    roots = scaled_prior(properties).roots
    with pytest.raises(DataError, match="must have the shape None, because the model predicts no forces; got"):
        LastLayerEnsemble(properties, roots, eye)
    with pytest.raises(DataError, match=r"the last layer of smell has 0 weights, but the matrix is \(3, 3\)"):
        LastLayerEnsemble(properties, roots | {"smell": torch.eye(3)})
    with pytest.raises(ValueError, match="noises must be positive; got {'energy': 0.0}"):
        LastLayerPosterior(model, {"energy": 0.0, "forces": 1.0})
    with pytest.raises(ValueError, match="noises must be positive; got {'dipole_1': 0.0}"):
        LastLayerPosterior(properties, {target.name: 0.1 for target in PROPERTIES} | {"dipole_1": 0.0})
    with pytest.raises(ValueError, match="the number of members must be at least 1; got 0"):
        directions_of(torch.eye(3), 0)
