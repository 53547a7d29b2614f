"""What is exported to LAMMPS is the model's function of owned atoms, with its declared inputs."""

import numpy as np
import pytest
import torch

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, save_model
from ik_e3nn.targets import Intensive
from ik_e3nn_calculators.lammps.export import LammpsExportSettings, export_lammps, metadata
from ik_e3nn_calculators.lammps.layers import layers
from ik_e3nn_calculators.lammps.plugin import plugin_folder


def potential(**options):
    torch.manual_seed(0)
    model = InteratomicPotential(["H", "O"], 4.0, num_channels=4, num_layers=2, l_max=1, **options).double().eval()
    with torch.no_grad():
        for weight in model.parameters():  # those of surroundings are zero at first
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(
    ("options", "info"),
    [
        ({}, {}),
        ({"group": "SO3"}, {}),
        ({"inputs": ["total_charge", "spin"]}, {"charge": -1, "spin": 2}),
        ({"group": "SO2", "inputs": ["surface"]}, {"surface_normal": [1, 1, 0], "surface_origin": [0, 0.5, 0]}),
        ({"group": "Td", "inputs": ["site"]}, {"surface_origin": [1.0, 0, 0]}),
    ],
)
def test_derivatives_are_those_of_the_energies(options, info):
    functions = layers(potential(**options), info)
    for number in range(2):
        inputs = functions[f"gradients_{number}"].example()

        def total(inputs, number=number):
            energy = functions[f"gradients_{number}"](inputs)[0].sum()
            if number == 0:  # energies of the later interaction depend on the features
                energy = energy + (functions["features_0"](inputs)[0] * inputs["gradient"]).sum()
            return energy

        names = [name for name in ("features", fields.VECTORS, "positions") if name in inputs]
        _, *derivatives = functions[f"gradients_{number}"](inputs)
        assert len(derivatives) == len(names)
        for name, derivative in zip(names, derivatives, strict=True):
            assert derivative.abs().max() > 0
            step = torch.zeros_like(inputs[name])
            step.view(-1)[torch.randperm(step.numel())[:20]] = 1e-5
            ahead, behind = (total({**inputs, name: inputs[name] + sign * step}) for sign in (1, -1))
            assert float(ahead - behind) == pytest.approx(float(2 * (derivative * step).sum()), rel=1e-6)


def test_a_face_is_refused():
    model = potential(group={"plane": "p4m", "cell": [[2.5, 0], [0, 2.5]]}, inputs=["face"])
    with pytest.raises(DataError, match="the model knows a crystal face, and LAMMPS would not check"):
        layers(model, {})


def test_the_metadata_tell_what_the_pair_style_must_know():
    model = potential(group="SO2", inputs=["surface", "total_charge"])
    facts = metadata(layers(model, {"charge": 2, "surface_normal": [0, 0, 1]}))
    assert facts["ik_species"] == "H O"
    assert float(facts["ik_r_max"]) == 4.0
    assert facts["ik_places"] == "1"
    assert facts["ik_inputs"] == "total_charge=2"
    free = np.array(facts["ik_free_directions"].split(), dtype=float).reshape(3, 3)
    np.testing.assert_allclose(free, np.diag([1, 1, 0]), atol=1e-15)
    assert facts["ik_widths"].split() == [str(irreps.dim) for irreps in model.irreps_features]
    other = potential(group="SO2", inputs=["surface", "total_charge"])
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert metadata(layers(other, {"charge": 2}))["ik_weights"] != facts["ik_weights"]


def test_inputs_that_lammps_cannot_give_are_refused():
    with pytest.raises(DataError, match="the model uses bond types, which LAMMPS cannot give it"):
        layers(potential(inputs=["bond_types"]), {})
    with pytest.raises(MissingInputError, match="the model uses total_charge: give its value, .* with --charge"):
        layers(potential(inputs=["total_charge"]), {})
    with pytest.raises(DataError, match="the model does not use charge, surface_normal: leave it out"):
        layers(potential(), {"charge": 1, "surface_normal": [0, 0, 1]})


def test_nothing_is_overwritten_and_properties_are_refused(tmp_path):
    torch.manual_seed(0)
    save_model(MolecularPropertyModel(["H", "O"], [Intensive("gap", "eV")]), tmp_path / "gap.safetensors")
    with pytest.raises(DataError, match="predicts no energies, which LAMMPS needs"):
        export_lammps(LammpsExportSettings(str(tmp_path / "gap.safetensors"), str(tmp_path / "a.pt2")))
    (tmp_path / "a.pt2").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a\.pt2 exists: choose another file with -o, or give --overwrite"):
        export_lammps(LammpsExportSettings("base", str(tmp_path / "a.pt2")))
    assert (tmp_path / "a.pt2").read_bytes() == b"mine"


def test_lammps_starts_where_no_plugin_can_be(monkeypatch, tmp_path):
    monkeypatch.setenv("IK_E3NN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ik_e3nn_calculators.lammps.plugin.metadata.version", lambda name: "1.0")
    assert plugin_folder().startswith(str(tmp_path / "cache" / "lammps"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IK_E3NN_CACHE", str(tmp_path / "file"))
    assert plugin_folder() == ""
