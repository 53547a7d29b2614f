import numpy as np
import pytest
import torch
from ase.build import molecule

from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, extended, load_model, save_model
from ik_e3nn.models.transfer.species import most_similar, new_element_masks
from ik_e3nn.nn import add_lora, merge_lora

SIZES = {"num_channels": 4, "l_max": 2, "correlation": 2, "r_max": 4.0}


def predict(model, atoms):
    return model(build_graph(atoms, model.r_max, dtype=model.dtype))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group": "C4v"},
        {"group": "Cinfv", "inputs": ["surface"]},
        {"group": {"plane": "p4m", "cell": [[2.5, 0], [0, 2.5]]}, "inputs": ["face"]},
        {"inputs": ["total_charge", "bond_types"]},
    ],
)
def test_old_elements_keep_energies_and_forces(options) -> None:
    model = InteratomicPotential(["H", "O"], **SIZES, **options).double().eval()
    model.set_energy_reference({1: -3.0, 8: -7.0}, "test")
    new = extended(model, ["C", "S"])
    assert new.species == (1, 6, 8, 16)
    atoms = molecule("H2O")
    atoms.info |= {"charge": 1, "bonds": [[0, 1, 1], [0, 2, 1]], "surface_cell": [[2.5, 0, 0], [0, 2.5, 0]]}
    before, after = predict(model, atoms), predict(new, atoms)
    assert before["forces"].abs().max() > 1e-3
    for name in ("energies", "forces"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-11, atol=1e-11)


def test_new_elements_start_as_the_most_similar_old_ones() -> None:
    model = InteratomicPotential(["H", "O"], **SIZES).double().eval()
    new = extended(model, ["S"])
    water = molecule("H2O")
    sulfide = water.copy()
    sulfide.numbers[water.numbers == 8] = 16
    torch.testing.assert_close(predict(new, sulfide)["forces"], predict(new, water)["forces"], rtol=1e-11, atol=1e-11)
    assert new.atomic_energy.reference.tolist() == [0.0, 0.0, 0.0]
    assert [most_similar(z, (1, 6, 7, 8, 9)) for z in (14, 15, 16, 17, 35, 11)] == [6, 7, 8, 9, 9, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_cover_the_weights_of_new_elements_alone(dtype) -> None:
    model = InteratomicPotential(["H", "O"], **SIZES)
    new = extended(model, ["C"]).to(dtype)  # that of a run need not be the base's
    masks = new_element_masks(model, new)
    weights = dict(new.named_parameters())
    assert masks["node_embedding.species"][:, 0].tolist() == [False, True, False]
    assert set(masks) == {
        "node_embedding.species",
        *(f"interactions.{i}.{part}" for i in range(2) for part in
          ("species_scale", "sender_species.linear.weight", "receiver_species.linear.weight")),
    }  # fmt: skip
    water = predict(new.double().eval(), molecule("H2O"))["energy"].item()
    with torch.no_grad():
        for name, mask in masks.items():
            assert 2 * int((~mask).sum()) == 4 * int(mask.sum()) == 4 * weights[name].numel() // 3
            weights[name][mask] += 1.0
    assert predict(new, molecule("H2O"))["energy"].item() == water
    assert np.isfinite(predict(new, molecule("CH4"))["energy"].item())


def test_a_file_with_updates_is_read_with_them_and_merged_ones_are_ordinary(tmp_path) -> None:
    model = InteratomicPotential(["H", "O"], **SIZES).double().eval()
    add_lora(model.interactions, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    expected = predict(model, molecule("H2O"))["forces"]
    save_model(model, tmp_path / "apart.safetensors")
    apart = load_model(tmp_path / "apart.safetensors")
    torch.testing.assert_close(predict(apart, molecule("H2O"))["forces"], expected, rtol=0, atol=0)
    merge_lora(apart)
    save_model(apart, tmp_path / "merged.safetensors")
    merged = load_model(tmp_path / "merged.safetensors")
    assert merged.state_dict().keys() == InteratomicPotential(["H", "O"], **SIZES).state_dict().keys()
    torch.testing.assert_close(predict(merged, molecule("H2O"))["forces"], expected, rtol=1e-11, atol=1e-11)
