"""Files of uncertainties belong to their models, and nothing in them is believed unseen."""

import json
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from safetensors import safe_open
from safetensors.torch import save_file

from ik_e3nn.errors import ModelFileError
from ik_e3nn.models import Committee, load_model, save_model, save_uncertainty, with_uncertainty
from ik_e3nn.models.files.container import contents_digest
from ik_e3nn.models.uncertainty.upgrade import FORMAT_VERSION, STEPS, upgraded
from tests.models.uncertainty.helpers import MODELS, batch_of, potential, property_model, rattled, scaled_prior

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("kind", MODELS)
def test_files_belong_to_their_models(tmp_path, kind) -> None:
    models = [MODELS[kind](seed) for seed in range(3)]
    for number, model in enumerate(models):
        save_model(model, tmp_path / f"{number}.safetensors")
    loaded = [load_model(tmp_path / f"{number}.safetensors") for number in range(3)]
    batch = rattled(models[0])
    name = {"properties": "dipole_1"}.get(kind, "forces")
    ensembles = {"c": (Committee(models), loaded[::-1]), "l": (scaled_prior(models[0]), loaded[:1])}
    for file, (ensemble, members) in ensembles.items():
        ensemble.calibrate({name: 2.5})
        save_uncertainty(ensemble, tmp_path / file, summary={"note": 1})
        again = with_uncertainty(members, tmp_path / file)
        assert again.kind == ensemble.kind
        found, expected = (one(batch)[f"{name}_std"] for one in (again, ensemble))
        assert expected.max() > 1e-6
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert again.float().factors.dtype == torch.float64
    with pytest.raises(ModelFileError, match=r"made for 3 model\(s\) with other weights than the 2 given"):
        with_uncertainty(loaded[:2], tmp_path / "c")
    with pytest.raises(ModelFileError, match=r"made for 1 model\(s\) with other weights than the 1 given"):
        with_uncertainty([loaded[1]], tmp_path / "l")
    with pytest.raises(ModelFileError, match="is not an uncertainty file, or is damaged"):
        with_uncertainty(loaded, tmp_path / "0.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no uncertainty file"):
        with_uncertainty(loaded, tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        save_uncertainty(ensemble, tmp_path / "l")


def test_there_is_a_file_and_a_step_for_every_older_format() -> None:
    found = {int(path.name.split("_")[1]) for path in DATA.glob("uncertainty_*.safetensors")}
    assert found == set(STEPS) == set(range(1, FORMAT_VERSION))


@pytest.mark.parametrize("version", STEPS)
def test_files_of_older_formats_give_what_they_gave(version) -> None:
    """Of models in files of format 3, whose tensors had British names, which the checksums in old files cover."""
    models = [load_model(DATA / f"format_3_{kind}.safetensors") for kind in ("potential", "properties")]
    out = with_uncertainty(models[:1], DATA / f"uncertainty_{version}_potential.safetensors")(
        batch_of(models[0], molecule("H2O"))
    )
    assert out["energy_std"].item() == pytest.approx(0.10002323465605337, rel=1e-9)
    assert out["forces_std"][0, 2].item() == pytest.approx(0.048668408141584824, rel=1e-9)
    out = with_uncertainty(models[1:], DATA / f"uncertainty_{version}_properties.safetensors")(
        batch_of(models[1], molecule("H2O"))
    )
    assert out["E_std"].item() == pytest.approx(0.13732671605226596, rel=1e-9)
    diagonal = [0.3156582540365514, 0.3156583444127295, 0.315656268917949]
    assert out["alpha_std"][0].diagonal().tolist() == pytest.approx(diagonal, rel=1e-9)
    for model, kind in zip(models, ("potential", "properties"), strict=True):
        path = DATA / f"uncertainty_{version}_committee_of_{kind}.safetensors"
        assert with_uncertainty([model, model], path).factors.tolist() == [2.0, 3.0]
        with pytest.raises(ModelFileError, match=r"made for 2 model\(s\) with other weights than the 1 given"):
            with_uncertainty([model], path)


def test_an_upgrade_leaves_what_it_is_given_alone() -> None:
    info = {"format_version": 1, "kind": "LastLayerProperties"}
    tensors = {"factors": torch.ones(1), "polarisability": torch.eye(2), "dipole": torch.eye(3)}
    new, renamed = upgraded(info, tensors)
    assert new == {"format_version": 3, "kind": "last_layer"}
    assert {name: len(one) for name, one in renamed.items()} == {
        "factors": 1,
        "root.polarizability": 2,
        "root.dipole": 3,
    }
    assert info["kind"] == "LastLayerProperties"
    assert list(tensors) == ["factors", "polarisability", "dipole"]


def test_a_newer_file_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(save_uncertainty.__globals__, "FORMAT_VERSION", 9)  # whatever module a doctest has put there
    models = [potential(0), potential(1)]
    save_uncertainty(Committee(models), tmp_path / "c")
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="has format 9, this version reads up to 3: upgrade ik-e3nn"):
        with_uncertainty(models, tmp_path / "c")


@pytest.mark.parametrize("version", [2, 1, 0, -5])
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
OF_POTENTIAL = [
    ({"factors": None}, {}, "factors is missing"),
    ({"root.energy": None}, {}, "the last layer of energy has 32 weights, but the matrix is None"),
    ({"directions": None}, {}, r"the directions of forces must have the shape \(M, 32\); got None"),
    ({"more": torch.ones(1)}, {}, "more is not a tensor of this kind of uncertainty"),
    ({"factors": torch.ones(3)}, {}, "factors must be 2 numbers, for energy, forces; got 3"),
    ({"factors": torch.tensor(1.0)}, {}, r"factors must be a list of floating-point numbers, got torch.float32 \(\)"),
    ({"factors": torch.ones(2, 2)}, {}, "factors must be a list of floating-point numbers"),
    ({"factors": torch.ones(2, dtype=torch.int32)}, {}, "factors must be a list of floating.* numbers, got torch.int"),
    ({"factors": torch.tensor([1e30, 1.0])}, {}, r"of factors must be between 1e-09 and 1e\+09; got 1e\+30"),
    ({"factors": torch.tensor([1.0, -1.0])}, {}, "factors must be between"),
    ({"factors": torch.tensor([1.0, torch.nan])}, {}, "factors contains NaN or infinity"),
    ({"root.energy": torch.ones(32)}, {}, "root.energy must be a matrix of floating-point numbers"),
    ({"root.energy": EYE[:3]}, {}, r"the last layer of energy has 32 weights, but the matrix is \(3, 32\)"),
    ({"root.energy": 1e20 * EYE}, {}, "root.energy has rows of length zero, or longer than the prior allows"),
    ({"directions": torch.zeros(5, 32)}, {}, "directions has rows of length zero"),
    ({"directions": EYE[:, :3].clone()}, {}, "directions has rows of length zero"),
    ({"directions": 0.1 * EYE[:3, :3]}, {}, r"the directions of forces must have the shape \(M, 32\); got \(3, 3\)"),
    ({"directions": torch.ones(0, 32)}, {}, "directions must be a matrix"),
    ({}, {"kind": "oracle"}, "kind must be one of committee, last_layer; got 'oracle'"),
    ({}, {"kind": 5}, "kind must be of type str, got 5"),
    ({}, {"kind": "committee"}, "(root.energy|directions) is not a tensor of this kind of uncertainty"),
    ({"root.energy": None, "directions": None}, {"kind": "committee"}, "a committee needs at least two models, got 1"),
    ({}, {"models_sha256": "a"}, "models_sha256 must be of type list"),
    ({}, {"models_sha256": []}, r"models_sha256 must be a list of one or more checksums, got \[\]"),
    ({}, {"models_sha256": [5]}, r"models_sha256 must be a list of one or more checksums, got \[5\]"),
    ({}, {"format_version": "2"}, 'format_version must be of type int, got "2"'),
    ({}, {"format_version": 0}, "format_version must be from 1 to 3, got 0"),
]
OF_PROPERTIES = [
    ({"factors": torch.ones(1)}, {}, r"factors must be 7 numbers, for extensive_1, .*; got 1"),
    ({"root.extensive": None}, {}, "the last layer of extensive has 16 weights, but the matrix is None"),
    ({"root.extensive": torch.eye(3)}, {}, r"the last layer of extensive has 16 weights, but the matrix is \(3, 3\)"),
    ({"root.smell": torch.eye(3)}, {}, r"the last layer of smell has 0 weights, but the matrix is \(3, 3\)"),
    ({"directions": torch.eye(16)}, {}, "because the model predicts no forces; got"),
    ({"root.extensive": torch.zeros(16, 16)}, {}, "root.extensive has rows of length zero"),
    ({"root.extensive": torch.ones(16, 16, dtype=torch.int32)}, {}, "root.extensive must be a matrix of floating-poi"),
]


@pytest.mark.parametrize(
    ("make", "changes", "info", "message"),
    [(potential, *case) for case in OF_POTENTIAL] + [(property_model, *case) for case in OF_PROPERTIES],
)
def test_files_with_a_right_checksum_and_impossible_content_are_refused(tmp_path, make, changes, info, message) -> None:
    model, path = make(), tmp_path / "l.safetensors"
    save_uncertainty(scaled_prior(model), path)
    forged(path, changes, info)
    with pytest.raises(ModelFileError, match=rf"l.safetensors is damaged \(.*{message}.*calibrate again"):
        with_uncertainty([model], path)


def test_a_last_layer_is_that_of_one_model(tmp_path) -> None:
    model, path = potential(), tmp_path / "l.safetensors"
    save_uncertainty(scaled_prior(model), path)
    with safe_open(path, framework="pt") as file:
        (digest,) = json.loads(file.metadata()["ik_e3nn_uncertainty"])["models_sha256"]
    forged(path, {}, {"models_sha256": [digest, digest]})
    with pytest.raises(ModelFileError, match=r"is damaged \(a last-layer uncertainty belongs to one model, got 2\)"):
        with_uncertainty([model, model], path)
