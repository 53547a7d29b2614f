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
from ik_e3nn.models import InteratomicPotential, load_model, read_model_info, save_model
from ik_e3nn.models.checkpoint import FORMAT_VERSION


def small(**options: object) -> InteratomicPotential:
    torch.manual_seed(3)
    model = InteratomicPotential(["H", "C", "O"], num_channels=4, l_max=1, **options).eval()
    model.set_energy_reference({1: -13.6, 6: -1030.1, 8: -2042.6}, provenance="made up")
    model.set_scale(1.7)
    model.set_average_neighbours(8.5)
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
    with pytest.raises(ModelFileError, match="may be truncated"):
        load_model(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file at"):
        load_model(tmp_path / "nothing.safetensors")


def test_foreign_safetensors_file(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="not a model of ik_e3nn"):
        load_model(tmp_path / "other.safetensors")


def rewrite(path, change):
    """Change the description in a model file, leaving the weights alone."""
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["ik_e3nn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(info)
    save_file(tensors, path, metadata={"ik_e3nn": json.dumps(info)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(format_version=FORMAT_VERSION + 1), "upgrade ik-e3nn"),
        (lambda info: info.update(format_version=FORMAT_VERSION - 1), "train the model again"),
        (lambda info: info.pop("config"), "description of the model is incomplete"),
        (lambda info: info.update(format_version="new"), "description of the model is broken"),
        (lambda info: info["config"].update(num_channels=5), "weights do not fit the configuration"),
        (lambda info: info["config"].update(surprise=1), "weights do not fit the configuration"),
        (lambda info: info.update(dtype="load"), "unknown dtype 'load'"),
        (lambda info: info.update(model="Other"), "holds an Other, not an InteratomicPotential"),
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
