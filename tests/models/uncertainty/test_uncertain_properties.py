"""Standard deviations of properties: exact Gaussian posteriors, symmetry, files."""

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from e3nn import o3

from ik_e3nn.errors import DataError, ModelFileError
from ik_e3nn.graph import build_molecular_graph
from ik_e3nn.models import (
    LastLayerProperties,
    MolecularPropertyModel,
    PropertyCommittee,
    load_model,
    save_model,
    save_uncertainty,
    with_property_uncertainty,
)
from ik_e3nn.models.uncertainty.properties import LastLayersPosterior, head_jacobians, last_weights
from ik_e3nn.targets import Extensive, make_target
from ik_e3nn.training.sets.loader import collate
from tests.models.uncertainty.test_uncertainty import forged

KINDS = ("extensive", "intensive", "dipole", "dipole_norm", "polarizability", "spatial_extent")
TARGETS = [*(make_target(f"{kind}_1", kind, "u") for kind in KINDS), Extensive("extensive_2", "u")]
NOISE = {target.name: 0.1 for target in TARGETS}


def property_model(seed: int = 0, targets=TARGETS, **options) -> MolecularPropertyModel:
    torch.manual_seed(seed)
    settings = {"edges": "radius", "potential": {"num_channels": 4}, "hidden": 8} | options
    model = MolecularPropertyModel(["H", "C", "O"], targets, **settings).double().eval()
    model.scales.scale[:] = torch.linspace(0.5, 2.0, len(targets))
    for _, weight in last_weights(model).values():
        torch.nn.init.normal_(weight)
    return model.requires_grad_(False)


def batch_of(*structures: Atoms):
    graphs = [build_molecular_graph(atoms, "radius", 5.0, dtype=torch.float64) for atoms in structures]
    for number, graph in enumerate(graphs):
        width = sum(target.width for target in TARGETS)
        graph["targets"] = torch.full((1, width), float("nan") if number == 2 else 0.0, dtype=torch.float64)
    return collate([graph if isinstance(graph, dict) else graph.to_dict() for graph in graphs])


def posterior_of(model: MolecularPropertyModel, batch) -> LastLayersPosterior:
    posterior = LastLayersPosterior(model, NOISE)
    posterior.add(batch)
    return posterior


def test_jacobians_are_changes_of_readouts_with_weights() -> None:
    model, graph = property_model(), batch_of(molecule("CH3CH2OH"), molecule("H2O"))
    molecules = model.molecules(graph)
    atoms = model.atomwise(graph, molecules)
    for kind, jacobian in head_jacobians(model, graph).items():
        weight = last_weights(model)[kind][1]
        step = torch.randn_like(weight)
        step *= 1e-7 if kind == "dipole_norm" else 1.0
        before = model.heads[kind](atoms, molecules)
        weight += step
        change = model.heads[kind](atoms, molecules) - before
        weight -= step
        torch.testing.assert_close(jacobian @ step.flatten(), change, rtol=1e-9, atol=1e-12)


def test_the_posterior_is_that_of_bayesian_linear_regression() -> None:
    """By the other form of the formula, with the matrix of all labels: s^2 = J J^T - J A^T (A A^T + n^2)^-1 A J^T."""
    model = property_model()
    batch = batch_of(molecule("CH3CH2OH"), molecule("H2O"), molecule("CH4"))  # the third has no labels
    new = batch_of(molecule("CH3OH"))
    ensemble = LastLayerProperties(model, posterior_of(model, batch).roots())
    found = ensemble(new)
    labeled, asked = head_jacobians(model, batch), head_jacobians(model, new)
    for kind, J in asked.items():
        for column, name in enumerate(model.names[kind]):
            scale = model.scales.scale[[t.name for t in TARGETS].index(name)]
            A = torch.cat([labeled[kind][:2, c].flatten(0, -2) for c in range(len(model.names[kind]))])
            scales = [model.scales.scale[[t.name for t in TARGETS].index(n)] for n in model.names[kind]]
            noise = torch.cat([(0.1 / s).expand(len(A) // len(scales)) for s in scales])
            j = J[0, column].reshape(-1, J.shape[-1])
            middle = torch.linalg.solve(A @ A.T + torch.diag(noise**2), A @ j.T)
            variance = (j @ j.T - (A @ j.T).T @ middle).diagonal()
            torch.testing.assert_close(
                found[f"{name}_std"].flatten(), scale * variance.sqrt(), rtol=1e-6, atol=1e-9, msg=name
            )


def test_labels_make_surer_and_molecules_without_labels_do_not() -> None:
    model, ethanol = property_model(), molecule("CH3CH2OH")
    prior = LastLayerProperties(model, LastLayersPosterior(model, NOISE).roots())(batch_of(ethanol))
    after = LastLayerProperties(model, posterior_of(model, batch_of(ethanol)).roots())(batch_of(ethanol))
    unlabeled = batch_of(molecule("H2O"), molecule("H2O"), ethanol)
    unlabeled["targets"][:] = float("nan")
    same = LastLayerProperties(model, posterior_of(model, unlabeled).roots())(batch_of(ethanol))
    for target in TARGETS:
        name = f"{target.name}_std"
        assert after[name].norm() < 0.5 * prior[name].norm(), name
        torch.testing.assert_close(same[name], prior[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [PropertyCommittee, LastLayerProperties])
def test_stds_have_the_symmetry_of_their_properties(kind) -> None:
    model = property_model()
    if kind is PropertyCommittee:
        uncertain = PropertyCommittee([model, property_model(1), property_model(2)])
    else:
        uncertain = LastLayerProperties(model, posterior_of(model, batch_of(molecule("H2O"))).roots())
    ethanol = molecule("CH3CH2OH")
    turned = ethanol.copy()
    turned.positions = ethanol.positions @ o3.rand_matrix(dtype=torch.float64).numpy().T + 3.0
    one, other = uncertain(batch_of(ethanol)), uncertain(batch_of(turned))
    for target in TARGETS:
        name = f"{target.name}_std"
        assert one[name].shape == one[target.name].shape
        totals = [out[name].square().sum() for out in (one, other)]  # traces of covariances
        torch.testing.assert_close(*totals, rtol=1e-9, atol=1e-12)
    far = ethanol.copy()
    far.positions += 50.0
    both = uncertain(batch_of(ethanol + far))
    torch.testing.assert_close(both["extensive_1_std"], 2 * one["extensive_1_std"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(both["intensive_1_std"], one["intensive_1_std"], rtol=1e-9, atol=1e-12)


def test_a_committee_is_the_mean_and_sample_deviation_of_its_members() -> None:
    models, batch = [property_model(seed) for seed in range(4)], batch_of(molecule("H2O"), molecule("CH3OH"))
    committee = PropertyCommittee(models)
    committee.calibrate({"intensive_1": 3.0})
    values = torch.stack([model(batch)["intensive_1"] for model in models])
    torch.testing.assert_close(committee(batch)["intensive_1"], values.mean(0))
    torch.testing.assert_close(committee(batch)["intensive_1_std"], 3.0 * values.std(0, correction=1))


def test_files_belong_to_their_models(tmp_path) -> None:
    models, batch = [property_model(seed) for seed in range(2)], batch_of(molecule("CH3OH"))
    for number, model in enumerate(models):
        save_model(model, tmp_path / f"{number}.safetensors")
    loaded = [load_model(tmp_path / f"{number}.safetensors") for number in range(2)]
    committee = PropertyCommittee(models)
    single = LastLayerProperties(models[0], posterior_of(models[0], batch_of(molecule("H2O"))).roots())
    for name, uncertain, members in (("c", committee, loaded[::-1]), ("l", single, loaded[:1])):
        uncertain.calibrate({"dipole_1": 2.5})
        save_uncertainty(uncertain, tmp_path / name)
        again = with_property_uncertainty(members, tmp_path / name)
        torch.testing.assert_close(
            again(batch)["dipole_1_std"], uncertain(batch)["dipole_1_std"], rtol=1e-9, atol=1e-12
        )
    assert again.float().factors.dtype == torch.float64
    with pytest.raises(ModelFileError, match=r"made for 1 model\(s\) with other weights than the 1 given"):
        with_property_uncertainty(loaded[1:], tmp_path / "l")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": torch.ones(1)}, r"factors must be \d numbers, of extensive_1, .*; got 1"),
        ({"extensive": None}, "the head of extensive targets has 16 last weights, but the matrix is None"),
        ({"extensive": torch.eye(3)}, r"the head of extensive targets has 16 last weights, but the matrix is \(3, 3\)"),
        ({"smell": torch.eye(3)}, "smell is no kind of target that the model has"),
        ({"extensive": torch.zeros(16, 16)}, "extensive has rows that are zero"),
        ({"extensive": torch.ones(16, 16, dtype=torch.int32)}, "extensive must be a matrix of floating-point numbers"),
    ],
)
def test_files_with_a_right_checksum_and_impossible_content_are_refused(tmp_path, changes, message) -> None:
    model, path = property_model(), tmp_path / "l.safetensors"
    roots = {kind: torch.eye(weight.numel()) for kind, (_, weight) in last_weights(model).items()}
    save_uncertainty(LastLayerProperties(model, roots), path)
    forged(path, changes)
    with pytest.raises(ModelFileError, match=rf"l.safetensors is damaged \({message}.*calibrate again"):
        with_property_uncertainty([model], path)


def test_mistakes_are_clear_errors() -> None:
    model = property_model()
    with pytest.raises(DataError, match="a committee needs at least two models, got 1"):
        PropertyCommittee([model])
    with pytest.raises(DataError, match="must have the same r_max, got 5.0 and 4.0"):
        PropertyCommittee([model, property_model(r_max=4.0)])
    with pytest.raises(DataError, match="must have the same targets, got"):
        PropertyCommittee([model, property_model(targets=TARGETS[:1])])
    with pytest.raises(DataError, match="the head of extensive targets has 16 last weights, but the matrix is None"):
        LastLayerProperties(model, {})
    with pytest.raises(
        ValueError, match="the factor of the standard deviation of dipole_1 must be between 1e-09 and 1e.09; got 0"
    ):
        PropertyCommittee([model, model]).calibrate({"dipole_1": 0})
    with pytest.raises(ValueError, match="noises must be positive; got"):
        LastLayersPosterior(model, NOISE | {"dipole_1": 0.0})
