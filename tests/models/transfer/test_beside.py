import pytest
import torch
from ase.build import bulk, molecule

from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, beside_surroundings, extended, load_model, save_model
from ik_e3nn.models.transfer.beside import surroundings_masks

SIZES = {"num_channels": 4, "l_max": 2, "correlation": 2, "r_max": 4.0}
CELL = [[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]]
PLACES = [
    ("surface", "Cinfv"), ("surface", "SO2"), ("surface", "C1"), ("surface", "C4v"), ("surface", "D3"),
    ("surface", "Dinfh"), ("wire", "Dinfh"), ("wire", "C2v"), ("site", "C1"), ("site", "Td"), ("site", "O3"),
    ("site", {"name": "Cinfv", "axis": [1.0, 2.0, 2.0]}), ("face", {"plane": "p4g", "cell": CELL}),
]  # fmt: skip


def base(**options):
    torch.manual_seed(0)
    model = InteratomicPotential(["H", "C", "O"], **SIZES | options).double().eval()
    model.set_energy_reference({1: -3.0, 6: -20.0, 8: -7.0}, "test")
    model.set_average_neighbors(7.0)
    model.set_scale(0.4)
    return model


def predicted(model, atoms, **options):
    return model(build_graph(atoms, model.r_max, dtype=torch.float64), **options)


def methanol(height=2.5):
    atoms = molecule("CH3OH")
    atoms.rotate(40, (1, 2, 3))
    atoms.positions += [0.3, -0.2, height]
    atoms.info["surface_cell"] = CELL
    atoms.info |= {"charge": 1, "spin": 2, "bonds": [[0, 1, 1], *([0, k, 1] for k in (2, 4, 5)), [1, 3, 1]]}
    return atoms


def assert_same(one, other, atoms):
    before, after = predicted(one, atoms), predicted(other, atoms)
    assert before["forces"].abs().max() > 1e-3
    for name in ("energies", "energy", "forces"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-12, atol=1e-13)


def moved_weights(model, chosen):
    """A copy with random changes of the entries that masks choose."""
    new = load_copy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in new.named_parameters():
            if name in chosen:
                noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                weight.add_(0.3 * chosen[name] * noise)
    return new


def load_copy(model):
    new = type(model)(**model.config).to(model.dtype).eval()
    new.load_state_dict(model.state_dict())
    return new


@pytest.mark.parametrize(
    "options",
    [
        {"l_features": 0}, {"l_features": 2}, {"num_layers": 3}, {"num_layers": 1}, {"l_max": 0}, {"l_max": 3},
        {"correlation": 3}, {"inputs": ["total_charge", "spin", "bond_types"]}, {"num_channels": 1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("group", ["SO2", "C4v"])
def test_every_architecture_starts_as_its_base(options, group) -> None:
    one = base(**options)
    assert_same(one, beside_surroundings(one, "surface", group), methanol())


def test_stress_charges_and_periodic_structures_carry_over() -> None:
    one = base(inputs=["total_charge"])
    new = beside_surroundings(one, "surface", "Cinfv")
    slab = bulk("C", cubic=True) * (1, 1, 1)
    slab.pbc = (True, True, False)
    slab.info["charge"] = 0
    slab.rattle(0.1, seed=1)
    assert_same(one, new, slab)
    charged = methanol()
    neutral = methanol()
    neutral.info["charge"] = 0
    change = [predicted(m, charged)["energy"] - predicted(m, neutral)["energy"] for m in (one, new)]
    assert change[0].abs() > 1e-3
    torch.testing.assert_close(change[1], change[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "group"), PLACES, ids=lambda x: x if isinstance(x, str) else "tilted")
def test_new_parts_change_nothing_at_first_and_later_only_what_is_near(kind, group) -> None:
    one = base()
    new = beside_surroundings(one, kind, group)
    assert new.inputs == {kind}
    assert new.energy_reference_provenance == "test"
    assert_same(one, new, methanol())
    changed = moved_weights(new, surroundings_masks(new))
    far = methanol()
    far.positions += 60.0
    assert_same(one, changed, far)
    near = predicted(changed, methanol())["forces"] - predicted(one, methanol())["forces"]
    assert near.abs().max() > 1e-2


@pytest.mark.parametrize(("kind", "group"), [("surface", "SO2")])
def test_all_other_weights_are_those_of_the_base(kind, group) -> None:
    """The masks leave nothing out: whatever else is changed changes the potential far away."""
    new = beside_surroundings(base(), kind, group)
    masks = surroundings_masks(new)
    weights = dict(new.named_parameters())
    shared = sum(weight.numel() for weight in weights.values()) - sum(int(mask.sum()) for mask in masks.values())
    assert shared == sum(weight.numel() for weight in base().parameters())
    others = {name: ~masks.get(name, torch.zeros_like(weight, dtype=torch.bool)) for name, weight in weights.items()}
    far = methanol(60.0)
    before = predicted(new, far)["energy"]
    for name, mask in others.items():
        if mask.any():
            assert (predicted(moved_weights(new, {name: mask}), far)["energy"] - before).abs() > 1e-9, name


def test_new_features_learn_at_once() -> None:
    """The zero from which new parts start has gradients: they are not stuck."""
    model = beside_surroundings(base(), "surface", "C4v").train()
    predicted(model, methanol())["energy"].sum().backward()
    for name in ("field.linear.weight", "place_embedding.linear.weight", "factors.places.linear.weight"):
        assert model.get_parameter(name).grad.abs().max() > 1e-8, name


@pytest.mark.parametrize(("kind", "group", "degree"), [("site", "C1", 7), ("site", "Td", 6), ("wire", "C2v", 5)])
def test_a_finer_field_has_the_same_start_and_symmetry(kind, group, degree, tmp_path) -> None:
    one, coarse = base(), beside_surroundings(base(), kind, group)
    new = beside_surroundings(one, kind, group, field_degree=degree)
    assert len(new.field.linear.weight) > len(coarse.field.linear.weight)
    assert len(new.place_embedding.linear.weight) == len(coarse.place_embedding.linear.weight)
    assert new.field.basis.irreps_out.lmax == degree
    assert_same(one, new, methanol())
    changed = moved_weights(new, {"field.linear.weight": torch.ones_like(new.field.linear.weight)})
    far = methanol(60.0)
    far.positions += 60.0
    assert_same(one, changed, far)
    assert (predicted(changed, methanol())["energy"] - predicted(one, methanol())["energy"]).abs() > 1e-3
    for turn in new.group.components.numpy():
        turned = methanol()
        turned.positions = turned.positions @ turn.T
        torch.testing.assert_close(
            predicted(changed, turned)["energy"], predicted(changed, methanol())["energy"], rtol=1e-10, atol=1e-10
        )
    save_model(changed, tmp_path / "fine.safetensors")
    assert load_model(tmp_path / "fine.safetensors").config == new.config


@pytest.mark.parametrize(
    ("kind", "degree", "message"),
    [
        ("surface", 4, "only a site or a wire has functions of directions"),
        ("site", 13, "whole number from 1 to 12; got 13"), ("site", 0, "got 0"), ("site", True, "got True"),
    ],
)  # fmt: skip
def test_degrees_of_fields_that_have_no_meaning_are_refused(kind, degree, message) -> None:
    with pytest.raises(ValueError, match=message):
        beside_surroundings(base(), kind, "C1", field_degree=degree)


def test_elements_files_and_devices_follow(tmp_path) -> None:
    one = base().float()
    torch.manual_seed(0)
    new = beside_surroundings(one, "surface", "SO2")
    assert new.dtype == torch.float32
    save_model(new, tmp_path / "new.safetensors")
    stored = load_model(tmp_path / "new.safetensors", device="cpu").double()
    more = extended(new.double(), ["S"])
    assert more.species == (1, 6, 8, 16)
    for other in (stored, more):
        torch.testing.assert_close(
            predicted(other, methanol())["energy"], predicted(one.double(), methanol())["energy"], rtol=1e-7, atol=1e-6
        )


@pytest.mark.parametrize(
    ("options", "kind", "group", "message"),
    [
        ({"group": "Cinfv"}, "surface", "Cinfv", "group of the model is Cinfv; surroundings can be added to O3 alone"),
        ({"group": "SO3"}, "site", "C1", "group of the model is SO3"),
        ({"group": "Cinfv", "inputs": ["surface"]}, "surface", "Cinfv", "inputs of the model have a surface already"),
        ({}, "surface", "O3", "the group O3 does not keep a surface along its axis"),
        ({}, "site", "O", r"group O has layers of SO\(3\)"),
        ({}, "site", "SO3", r"group SO3 has layers of SO\(3\)"),
        ({}, "cave", "C1", "inputs must be some of"),
    ],
)
def test_what_is_impossible_is_refused(options, kind, group, message) -> None:
    with pytest.raises(ValueError, match=message):
        beside_surroundings(base(**options), kind, group)


@pytest.mark.parametrize("options", [{}, {"group": "SO3", "inputs": ["site"]}])
def test_models_without_such_weights_have_no_masks(options) -> None:
    with pytest.raises(ValueError, match=r"the model has (no surroundings|layers of SO\(3\))"):
        surroundings_masks(base(**options))
