import json

import numpy as np
import pytest
import torch
from ase.build import molecule
from safetensors import safe_open
from safetensors.torch import save_file

from ik_e3nn.errors import DataError, ModelFileError
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.models import (
    Committee,
    InteratomicPotential,
    LastLayerEnsemble,
    load_model,
    save_model,
    save_uncertainty,
    with_uncertainty,
)
from ik_e3nn.models.files.checkpoint import contents_digest
from ik_e3nn.models.uncertainty.last_layer import LastLayerPosterior, last_layer_derivatives, members_of

SIZES = {"num_channels": 4, "num_layers": 2, "l_max": 1, "correlation": 2, "r_max": 4.0}


def potential(seed=0, **options):
    torch.manual_seed(seed)
    model = InteratomicPotential(["H", "O"], **(SIZES | options)).double().eval()
    model.set_energy_reference({1: -3.0, 8: -7.0}, "test")
    model.set_scale(0.7)
    return model


def rattled(count=3, model=None):
    rng = np.random.default_rng(1)
    graphs = []
    for _ in range(count):
        atoms = molecule("H2O")
        atoms.positions += 0.1 * rng.normal(size=(3, 3))
        graphs.append(build_graph(atoms, SIZES["r_max"], dtype=torch.float64))
    return batch_graphs(graphs)


def test_a_committee_is_mean_and_sample_deviation_of_its_members() -> None:
    models, batch = [potential(seed) for seed in range(4)], rattled()
    committee = Committee(models)
    committee.calibrate(2.0, 3.0)
    out = committee(batch)
    parts = [model(batch) for model in models]
    energies = np.stack([part["energy"].numpy() for part in parts])
    forces = np.stack([part["forces"].numpy() for part in parts])
    np.testing.assert_allclose(out["energy"], energies.mean(0), rtol=1e-12)
    np.testing.assert_allclose(out["energy_std"], 2.0 * energies.std(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(out["forces_std"], 3.0 * forces.std(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(out["energies"].sum(), out["energy"].sum(), rtol=1e-12)
    assert out["forces_std"].min() > 1e-4
    assert "energy_std" not in committee(batch, std=False)


def test_energies_and_forces_are_linear_in_the_last_layer() -> None:
    model, batch = potential(), rattled()
    edges = model.prepare(batch)
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


def test_the_posterior_is_that_of_bayesian_linear_regression() -> None:
    """Against sklearn-free textbook algebra: stack all rows of the design matrix, divided by their noise."""
    model, batch = potential(), rattled(2)
    size = model.last_weights.numel()
    posterior = LastLayerPosterior(model, energy_noise=0.02, forces_noise=0.3)
    posterior.add(batch)
    features, changes = last_layer_derivatives(model, batch, torch.eye(size, dtype=torch.float64))
    f = features.view(2, 3, size).sum(1) / 3
    g = torch.stack([change.flatten() for change in changes], 1)
    rows = torch.cat([f / 0.02, g / 0.3, torch.eye(size, dtype=torch.float64)])
    covariance = torch.linalg.inv(rows.T @ rows)
    root = posterior.root()
    torch.testing.assert_close(root @ root.T, covariance, rtol=1e-8, atol=1e-10)
    ensemble = LastLayerEnsemble(model, *members_of(root, size)).eval()
    out = ensemble(batch)
    total = features.view(2, 3, size).sum(1)
    torch.testing.assert_close(out["energy_std"], (total @ covariance * total).sum(1).sqrt(), rtol=1e-8, atol=0)
    exact = (g @ covariance * g).sum(1).sqrt().view(-1, 3)
    torch.testing.assert_close(out["forces_std"], exact, rtol=1e-8, atol=1e-12)
    few = torch.stack([LastLayerEnsemble(model, *members_of(root, 8, seed=s))(batch)["forces_std"] for s in range(40)])
    torch.testing.assert_close(few.square().mean(0), exact.square(), rtol=0.35, atol=0)


def test_stds_are_invariant_and_extensive_in_independent_parts() -> None:
    model, batch = potential(), rattled(1)
    ensemble = LastLayerEnsemble(model, *members_of(0.1 * torch.eye(32, dtype=torch.float64), 32))
    atoms = molecule("H2O")
    one = ensemble(build_graph(atoms, 4.0, dtype=torch.float64))
    turned = atoms.copy()
    turned.rotate(33, "x")
    other = ensemble(build_graph(turned, 4.0, dtype=torch.float64))
    torch.testing.assert_close(one["energy_std"], other["energy_std"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        one["forces_std"].square().sum(1), other["forces_std"].square().sum(1), rtol=1e-8, atol=1e-12
    )
    assert batch["positions"].grad is None
    far = atoms.copy()
    far.positions += 50.0
    both = ensemble(build_graph(atoms + far, 4.0, dtype=torch.float64))
    torch.testing.assert_close(both["energy_std"], 2 * one["energy_std"], rtol=1e-9, atol=1e-12)


def test_files_belong_to_their_models(tmp_path) -> None:
    models = [potential(seed) for seed in range(3)]
    for number, model in enumerate(models):
        save_model(model, tmp_path / f"{number}.safetensors")
    loaded = [load_model(tmp_path / f"{number}.safetensors") for number in range(3)]
    committee = Committee(models)
    committee.calibrate(1.5, 2.5)
    save_uncertainty(committee, tmp_path / "c.safetensors", summary={"note": 1})
    again = with_uncertainty(loaded[::-1], tmp_path / "c.safetensors")
    batch = rattled()
    torch.testing.assert_close(again(batch)["forces_std"], committee(batch)["forces_std"], rtol=1e-12, atol=1e-14)
    single = LastLayerEnsemble(models[0], *members_of(0.2 * torch.eye(32, dtype=torch.float64), 5))
    save_uncertainty(single, tmp_path / "l.safetensors")
    read = with_uncertainty([loaded[0]], tmp_path / "l.safetensors")
    torch.testing.assert_close(read(batch)["forces_std"], single(batch)["forces_std"], rtol=1e-12, atol=1e-14)
    assert read.float().energy_factor.dtype == torch.float64
    with pytest.raises(ModelFileError, match=r"made for 3 model\(s\) with other weights than the 2 given"):
        with_uncertainty(loaded[:2], tmp_path / "c.safetensors")
    with pytest.raises(ModelFileError, match=r"made for 1 model\(s\) with other weights than the 1 given"):
        with_uncertainty([loaded[1]], tmp_path / "l.safetensors")
    with pytest.raises(ModelFileError, match="is no file of an uncertainty, or is damaged"):
        with_uncertainty(loaded, tmp_path / "0.safetensors")
    with pytest.raises(FileNotFoundError, match="no file of an uncertainty at"):
        with_uncertainty(loaded, tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        save_uncertainty(single, tmp_path / "l.safetensors")


def test_a_newer_file_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ik_e3nn.models.uncertainty.file.FORMAT_VERSION", 9)
    models = [potential(0), potential(1)]
    save_uncertainty(Committee(models), tmp_path / "c")
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="has format 9, this version reads up to 2: upgrade ik-e3nn"):
        with_uncertainty(models, tmp_path / "c")


@pytest.mark.parametrize("version", [1, 0, -5])
def test_a_file_that_is_called_older_by_hand_is_refused(tmp_path, version) -> None:
    models, path = [potential(0), potential(1)], tmp_path / "c"
    save_uncertainty(Committee(models), path)
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["ik_e3nn_uncertainty"])
        tensors = {name: 1e6 * file.get_tensor(name) for name in file.keys()}  # not a dict
    save_file(tensors, path, metadata={"ik_e3nn_uncertainty": json.dumps(info | {"format_version": version})})
    with pytest.raises(ModelFileError, match="is damaged"):
        with_uncertainty(models, path)


def forged(path, changes, info=None):
    """Change tensors (None: leave out) and the description of a file, and give it a right checksum."""
    with safe_open(path, framework="pt") as file:
        known = json.loads(file.metadata()["ik_e3nn_uncertainty"])
        tensors = {name: file.get_tensor(name) for name in file.keys()} | changes  # not a dict
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    known |= info or {}
    known["sha256"] = contents_digest(known, tensors)
    save_file(tensors, path, metadata={"ik_e3nn_uncertainty": json.dumps(known)})


EYE = torch.eye(32, dtype=torch.float64)


@pytest.mark.parametrize(
    ("changes", "info", "message"),
    [
        ({"factors": None}, {}, "factors is missing"),
        ({"root": None}, {}, "root is missing"),
        ({"directions": None}, {}, "directions is missing"),
        ({"more": torch.ones(1)}, {}, "more does not belong there"),
        ({"factors": torch.ones(3)}, {}, "factors must be 2 numbers, of energy, forces; got 3"),
        (
            {"factors": torch.tensor(1.0)},
            {},
            r"factors must be a list of floating-point numbers, got torch.float32 \(\)",
        ),
        ({"factors": torch.ones(2, 2)}, {}, "factors must be a list of floating-point numbers"),
        (
            {"factors": torch.ones(2, dtype=torch.int32)},
            {},
            "factors must be a list of floating-point numbers, got torch.int",
        ),
        (
            {"factors": torch.tensor([1e30, 1.0])},
            {},
            r"deviation of factors must be between 1e-09 and 1e\+09; got 1e\+30",
        ),
        ({"factors": torch.tensor([1.0, -1.0])}, {}, "factors must be between"),
        ({"factors": torch.tensor([1.0, torch.nan])}, {}, "factors has NaN or infinity in it"),
        ({"root": torch.ones(32)}, {}, "root must be a matrix of floating-point numbers"),
        ({"root": EYE[:3]}, {}, "the model has 32 weights in its last layer"),
        ({"root": 1e20 * EYE}, {}, "root has rows that are zero, or longer than a posterior's can be"),
        ({"directions": torch.zeros(5, 32)}, {}, "directions has rows that are zero"),
        ({"directions": EYE[:, :3].clone()}, {}, "directions has rows that are zero|the model has 32 weights"),
        ({"directions": torch.ones(0, 32)}, {}, "directions must be a matrix"),
        ({}, {"kind": "Oracle"}, "kind must be one of Committee, LastLayerEnsemble, .*; got 'Oracle'"),
        ({}, {"kind": 5}, "kind must be of type str, got 5"),
        ({}, {"kind": "Committee"}, "models_sha256 must be a list of at least two checksums .*, got 1 entries"),
        ({"root": None, "directions": None}, {"kind": "LastLayerProperties"}, "kind must be Committee or LastLayerEns"),
        ({}, {"models_sha256": "a"}, "models_sha256 must be of type list"),
        ({}, {"models_sha256": []}, "models_sha256 must be a list of one checksum"),
        ({}, {"format_version": "2"}, 'format_version must be of type int, got "2"'),
    ],
)
def test_files_with_a_right_checksum_and_impossible_content_are_refused(tmp_path, changes, info, message) -> None:
    model, path = potential(0), tmp_path / "l.safetensors"
    save_uncertainty(LastLayerEnsemble(model, *members_of(0.2 * EYE, 5)), path)
    forged(path, changes, info)
    with pytest.raises(ModelFileError, match=rf"l.safetensors is damaged \(.*{message}.*calibrate again"):
        with_uncertainty([model], path)


def test_mistakes_are_clear_errors() -> None:
    model = potential()
    with pytest.raises(DataError, match="a committee needs at least two models, got 1"):
        Committee([model])
    with pytest.raises(DataError, match="an uncertain potential needs at least one model, got none"):
        Committee([])
    with pytest.raises(DataError, match=r"must have the same inputs, got \[\] and \['spin'\]"):
        Committee([model, potential(inputs=["spin"])])
    with pytest.raises(DataError, match=r"the model has 32 weights in its last layer, but the matrices are \(3, 3\)"):
        LastLayerEnsemble(model, torch.eye(3), torch.eye(3))
    with pytest.raises(
        ValueError, match=r"the factor of the standard deviation of forces must be between 1e-09 and 1e\+09; got 0"
    ):
        Committee([model, model]).calibrate(1.0, 0.0)
    with pytest.raises(ValueError, match="noises must be positive; got 0.0 for energies"):
        LastLayerPosterior(model, energy_noise=0.0, forces_noise=1.0)
    with pytest.raises(ValueError, match="the number of members must be at least 1; got 0"):
        members_of(torch.eye(3), 0)
