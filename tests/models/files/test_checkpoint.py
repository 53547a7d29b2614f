"""Model files: the same bits after a round trip, and one clear error for everything that is not a model file."""

import json
import os

import pytest
import torch
from ase.build import molecule
from safetensors import safe_open
from safetensors.torch import save_file

from ik_e3nn.errors import ModelFileError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, base_model_path, load_model, read_model_info, save_model
from ik_e3nn.models.files.checkpoint import FORMAT_VERSION, weights_digest
from ik_e3nn.models.files.container import contents_digest


def small(**options: object) -> InteratomicPotential:
    torch.manual_seed(3)
    model = InteratomicPotential(["H", "C", "O"], num_channels=4, l_max=1, **options).eval()
    model.set_energy_reference({1: -13.6, 6: -1030.1, 8: -2042.6}, provenance="made up")
    model.set_scale(1.7)
    model.set_average_neighbors(8.5)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"group": "C4v", "correlation": 2}, {"inputs": ["bond_types"]}])
def test_reloaded_model_predicts_the_same_bits(tmp_path, dtype, options):
    model = small(**options).to(dtype)
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    graph = build_graph(molecule("CH3CH2OH"), model.r_max, dtype=dtype)
    one, two = model(graph), again(graph)
    assert float(one["forces"].abs().max()) > 1e-4
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert again.config == model.config
    assert again.dtype == dtype
    assert not again.training


def test_a_custom_group_survives(tmp_path):
    from ik_e3nn.symmetry import SymmetryGroup

    group = SymmetryGroup.from_generators([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]], name="mine")
    save_model(small(group=group), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").group == group


def test_the_header_tells_everything(tmp_path):
    save_model(small(), tmp_path / "m.safetensors", summary={"epochs": 3})
    info = read_model_info(tmp_path / "m.safetensors")
    assert info["config"]["species"] == [1, 6, 8]
    assert info["energy_reference"] == {
        "values": {"H": -13.6, "C": -1030.1, "O": -2042.6},
        "provenance": "made up",
    }
    assert info["units"]["stress"] == "eV/A^3"
    assert info["training"] == {"epochs": 3}
    assert info["format_version"] == FORMAT_VERSION
    assert set(info["versions"]) == {"ik-e3nn", "torch", "e3nn"}


def test_conversion_of_dtype_on_loading_keeps_energies_in_double(tmp_path):
    save_model(small(), tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors", dtype=torch.float64)
    assert model.dtype == torch.float64
    assert model.atomic_energy.reference.tolist() == [-13.6, -1030.1, -2042.6]


def test_never_overwrites_unasked(tmp_path):
    save_model(small(), tmp_path / "m.safetensors")
    with pytest.raises(FileExistsError, match="choose another name"):
        save_model(small(), tmp_path / "m.safetensors")
    save_model(small(), tmp_path / "m.safetensors", overwrite=True)
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_nothing_is_left_of_a_failed_write(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    save_model(small(), tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(small(), tmp_path / "m.safetensors", overwrite=True)
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert (tmp_path / "m.safetensors").read_bytes() == before


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_file(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="copy this one again if it is truncated"):
        load_model(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model(tmp_path / "nothing.safetensors")


def test_foreign_safetensors_file(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="not a model of ik_e3nn"):
        load_model(tmp_path / "other.safetensors")


def rewrite(path, change, *, stamped=True):
    """Change the description in a model file, leaving the weights alone; its checksum is made anew, or left."""
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["ik_e3nn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(info)
    if stamped:
        info["sha256"] = contents_digest(info, tensors)
    save_file(tensors, path, metadata={"ik_e3nn": json.dumps(info)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(format_version=FORMAT_VERSION + 1), "upgrade ik-e3nn"),
        (lambda info: info.update(format_version=1), "train the model again"),
        (lambda info: info.pop("config"), "description of the model is incomplete"),
        (lambda info: info.update(format_version="new"), 'format_version must be a whole number, got "new"'),
        (lambda info: info.update(format_version=None), "format_version must be a whole number, got null"),
        (lambda info: info.update(format_version=3.0), r"format_version must be a whole number, got 3\.0"),
        (lambda info: info.update(versions=[1]), r"versions must be a mapping, got \[1\]"),
        (lambda info: info["config"].update(num_channels=5), "weights do not fit the configuration"),
        (lambda info: info["config"].update(surprise=1), "weights do not fit the configuration"),
        (
            lambda info: info.update(
                model="MolecularPropertyModel",
                config={"species": [1], "targets": [{"name": "q", "kind": "q"}]},
                references={},
            ),
            "the configuration in the file makes no model: target 'q' is of kind 'q', .*import the module",
        ),
        (lambda info: info.update(dtype="load"), "unknown dtype 'load'"),
        (
            lambda info: info.update(model="Other"),
            "holds an Other, which this version does not know",
        ),
        (lambda info: info["energy_reference"].pop("provenance"), "weights do not fit the configuration"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="checksum is wrong"):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info["config"].update(r_max=4.0),
        lambda info: info["energy_reference"]["values"].update(H=0.0),
        lambda info: info["training"].update(epochs=7),
        lambda info: info.update(sha256="0"),
    ],
)
def test_the_checksum_covers_the_description(tmp_path, change):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    rewrite(path, change, stamped=False)
    with pytest.raises(ModelFileError, match="its checksum is wrong"):
        load_model(path)


@pytest.mark.parametrize("version", [2, 3])
def test_the_checksum_covers_types_and_shapes(tmp_path, version):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    if version == 2:
        as_version_2(path)
    data = path.read_bytes()
    assert data.count(b'"F32"') > 10
    path.write_bytes(data.replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(ModelFileError, match=r"its checksum is wrong|int32 in the file, expected torch.float32"):
        load_model(path)


def as_version_2(path):
    """The file as ik-e3nn wrote it before the checksum covered everything."""
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["ik_e3nn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    del info["sha256"]
    info |= {"format_version": 2, "weights_sha256": weights_digest(small())}
    save_file(tensors, path, metadata={"ik_e3nn": json.dumps(info)})


def test_files_of_the_version_before_are_read(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    as_version_2(path)
    graph = build_graph(molecule("CH3CH2OH"), 5.0)
    assert torch.equal(load_model(path)(graph)["forces"], small()(graph)["forces"])
    rewrite(path, lambda info: info.update(weights_sha256="0"), stamped=False)
    with pytest.raises(ModelFileError, match="its checksum is wrong"):
        load_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path, value):
    model, path = small(), tmp_path / "m.safetensors"
    with torch.no_grad():
        next(model.parameters())[0, 0] = value
    with pytest.raises(
        ModelFileError, match=r"was not written, because the weights '.*' are NaN or infinite; the training has"
    ):
        save_model(model, path)
    save_model(small(), path)
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["ik_e3nn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    tensors["node_embedding.species"][0, 0] = value
    info["sha256"] = contents_digest(info, tensors)
    save_file(tensors, path, metadata={"ik_e3nn": json.dumps(info)})
    with pytest.raises(
        ModelFileError, match="the weights 'node_embedding.species' are NaN or infinite: train the model again"
    ):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        *(lambda info, n=n: info["config"].update({n: 10**6}) for n in ("num_channels", "num_layers", "l_max")),
        lambda info: info["config"].update(correlation=10**6),
        lambda info: info["config"].update(species="HCO", r_max=[1]),
        lambda info: info["config"].update(group=[1, 2]),
        lambda info: info["config"].update(r_max=float("1e400")),
        lambda info: info.update(config=[1]),
        lambda info: info.update(lora=[1]),
        lambda info: info.update(lora={"readouts.0": 10**6}),
        lambda info: info.update(model=7),
        lambda info: info.update(dtype=["float32"]),
        lambda info: info.update(energy_reference="x"),
        lambda info: info.update(versions=3),
        lambda info: info.update(format_version=[3]),
    ],
)
def test_hostile_descriptions_are_refused_at_once(tmp_path, change):
    path = tmp_path / "m.safetensors"
    save_model(small(), path)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=r"description of the model is broken|weights do not fit"):
        load_model(path)


def test_the_models_that_come_with_the_package_have_the_checksum_of_the_whole_file():
    for path in (base_model_path(), base_model_path().with_name("properties.safetensors")):
        with safe_open(path, framework="pt") as file:
            assert json.loads(file.metadata()["ik_e3nn"])["format_version"] >= 3
