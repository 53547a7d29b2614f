"""Files of every older format, written by the versions of their time, predict what they predicted then."""

from pathlib import Path

import pytest
import torch
from ase.build import molecule

from ik_e3nn.errors import ModelFileError
from ik_e3nn.graph import build_graph, build_molecular_graph
from ik_e3nn.models import load_model, read_model_info, save_model
from ik_e3nn.models.files.upgrade import FORMAT_VERSION, STEPS, upgraded

DATA = Path(__file__).parents[1] / "data"


def test_there_is_a_file_and_a_step_for_every_older_format() -> None:
    found = {int(path.name.split("_")[1]) for path in DATA.glob("format_*.safetensors")}
    assert found == set(STEPS) == set(range(min(STEPS), FORMAT_VERSION))


@pytest.mark.parametrize("path", sorted(DATA.glob("format_*.safetensors")), ids=lambda path: path.stem)
def test_what_is_read_is_of_todays_format_and_can_be_written_again(path, tmp_path) -> None:
    model = load_model(path)
    assert read_model_info(path)["format_version"] == FORMAT_VERSION
    save_model(model, tmp_path / "new.safetensors")
    again = load_model(tmp_path / "new.safetensors").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_a_potential_of_format_3() -> None:
    out = load_model(DATA / "format_3_potential.safetensors")(build_graph(molecule("H2O"), 3.0, dtype=torch.float64))
    assert out["energy"].item() == pytest.approx(0.007389198919172238, rel=1e-12)
    assert out["forces"][0, 2].item() == pytest.approx(0.007277154719469485, rel=1e-12)


def test_properties_of_format_3() -> None:
    model = load_model(DATA / "format_3_properties.safetensors")
    assert [target.kind for target in model.targets] == ["extensive", "polarizability"]
    with torch.no_grad():
        out = model(build_molecular_graph(molecule("H2O"), model.edges, model.r_max, dtype=torch.float64))
    assert out["E"].item() == pytest.approx(0.036618540175204564, rel=1e-12)
    assert out["alpha"][0].diagonal().tolist() == pytest.approx(
        [0.02709427723699978, 0.02594011680023073, 0.026507822533882223], rel=1e-12
    )


def test_properties_of_format_4() -> None:
    """Dipoles and polarizabilities were read from positions relative to the center of nuclear charge."""
    model = load_model(DATA / "format_4_properties.safetensors")
    assert [target.kind for target in model.targets] == ["dipole", "polarizability"]
    assert model.config["places"] == "center"
    graph = build_molecular_graph(molecule("H2O"), model.edges, model.r_max, dtype=torch.float64)
    with torch.no_grad():
        out = model(graph)
    assert out["mu"][0].tolist() == pytest.approx([0.0, 0.0, -0.0725685397134102], rel=1e-12, abs=1e-15)
    assert out["alpha"][0].diagonal().tolist() == pytest.approx(
        [9.895321964677583, 9.865230668845436, 9.878215375125082], rel=1e-12
    )
    model.places = "local"  # the form of newer models gives other numbers
    with torch.no_grad():
        assert abs(model(graph)["mu"][0, 2] - out["mu"][0, 2]) > 1e-3


def test_potentials_of_format_5() -> None:
    """Beside a surface with "Cinfv" the layers are the same; those of smaller groups were others."""
    atoms = molecule("H2O")
    atoms.positions += [0.1, 0.2, 1.5]
    with torch.no_grad():
        out = load_model(DATA / "format_5_surface.safetensors")(build_graph(atoms, 3.0, dtype=torch.float64))
    assert out["energy"].item() == pytest.approx(0.6565946228218709, rel=1e-12)
    assert out["forces"][0, 2].item() == pytest.approx(-0.19920762572344541, rel=1e-12)
    info = {"format_version": 5, "config": {"group": {"name": "SO2"}, "inputs": ["surface"]}}
    with pytest.raises(ModelFileError, match="layers of the group SO2, which earlier versions had.*train it again"):
        upgraded(info, {})


def test_properties_of_format_6() -> None:
    """The default grid of the sphere activation was coarser; the file has a dipole that does not turn with it."""
    model = load_model(DATA / "format_6_properties.safetensors")
    assert (model.config["steerable"]["grid_degree"], model.config["steerable"]["windows"]) == (7, 0)
    atoms = molecule("H2O")
    atoms.rotate(50, (1, 1, 0.3))
    graph = build_molecular_graph(atoms, model.edges, model.r_max, dtype=torch.float64)
    with torch.no_grad():
        out = model(graph)
    expected = [-0.005086990130575711, 0.0052911830361578914, -0.00538440385688358]
    assert out["mu"][0].tolist() == pytest.approx(expected, rel=1e-12)


def test_a_potential_of_format_7() -> None:
    """Kernels saw the current features of atoms; since format 8 they see the initial ones by default."""
    model = load_model(DATA / "format_7_potential.safetensors")
    assert model.config["kernel_features"] == "current"
    out = model(build_graph(molecule("H2O"), 3.0, dtype=torch.float64))
    assert out["energy"].item() == pytest.approx(0.4741515288039906, rel=1e-12)
    assert out["forces"][0, 2].item() == pytest.approx(-0.14855476617906432, rel=1e-12)


def test_properties_of_format_7() -> None:
    model = load_model(DATA / "format_7_properties.safetensors")
    assert model.config["potential"]["kernel_features"] == "current"
    graph = build_molecular_graph(molecule("H2O"), model.edges, model.r_max, dtype=torch.float64)
    with torch.no_grad():
        assert model(graph)["mu"][0, 2].item() == pytest.approx(-0.008147239765283549, rel=1e-12)


def test_an_upgrade_leaves_what_it_is_given_alone() -> None:
    info = {"format_version": 2, "weights_sha256": "0", "config": {"steerable": {"channels": 4}}}
    tensors = {"conv.normalisation": torch.ones(1)}
    new, weights = upgraded(info, tensors)
    assert new["format_version"] == FORMAT_VERSION
    assert new["config"]["steerable"] == {
        "channels": 4, "activation": "sphere", "grid_degree": 7, "l_filter": None, "windows": 0, "shell": 2.0,
        "norm": "none",
    }  # fmt: skip
    assert "weights_sha256" not in new
    assert list(weights) == ["conv.normalization"]
    assert (info["format_version"], list(tensors)) == (2, ["conv.normalisation"])
