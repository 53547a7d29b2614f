"""What the potential refuses, and what its inputs do. The physics is in tests/properties."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ik_e3nn.errors import MissingInputError, UnknownSpeciesError
from ik_e3nn.graph import build_graph, set_bonds
from ik_e3nn.models import InteratomicPotential


def potential(**options: object) -> InteratomicPotential:
    torch.manual_seed(1)
    return InteratomicPotential(["H", "O"], num_channels=4, l_max=1, **options).double().eval()


def graph(atoms: Atoms, **info: object):
    atoms.info.update(info)
    return build_graph(atoms, 5.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"species": []}, "at least one species"),
        ({"species": ["Xx"]}, "unknown chemical element 'Xx'"),
        ({"species": [0]}, "unknown chemical element 0"),
        ({"species": [1], "num_channels": 0}, "num_channels must be a whole number of at least 1"),
        ({"species": [1], "num_layers": 1.5}, "num_layers must be a whole number"),
        ({"species": [1], "l_max": -1}, "l_max must be a whole number of at least 0"),
        ({"species": [1], "correlation": 0}, "correlation must be a whole number of at least 1"),
        ({"species": [1], "l_max": 1, "l_features": 2}, "l_features must be at most l_max, 1"),
        ({"species": [1], "preset": "huge"}, "preset must be one of small, medium, large; got 'huge'"),
        ({"species": [1], "r_max": 0.0}, "r_max must be positive"),
        ({"species": [1], "inputs": ["charge"]}, "inputs must be some of bond_types, .*; got charge"),
        ({"species": [1], "kernel_features": "all"}, "kernel_features must be one of initial, current; got 'all'"),
        ({"species": [1], "group": "D7x"}, "unknown symmetry group 'D7x'"),
    ],
)
def test_impossible_hyperparameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        InteratomicPotential(**arguments)


def test_unknown_species_are_named():
    with pytest.raises(UnknownSpeciesError, match="does not know C, N; it was made for H, O"):
        potential()(graph(Atoms("CNH", positions=[[0, 0, 0], [0, 0, 1], [0, 1, 0]])))


@pytest.mark.parametrize("name", ["total_charge", "spin"])
def test_declared_inputs_must_be_there(name):
    with pytest.raises(MissingInputError, match=f"needs '{name}'"):
        potential(inputs=[name])(graph(molecule("H2O")))


def test_reference_energies():
    model = potential()
    with pytest.raises(ValueError, match=r"no reference energy \(E0\) for O"):
        model.set_energy_reference({1: -13.6}, provenance="")
    model.set_energy_reference({1: -13.6, 8: -2000.0, 6: 1.0}, provenance="test")
    alone = model(graph(Atoms("O")))["energy"] - model(graph(Atoms("H")))["energy"]
    apart = Atoms("OH", positions=[[0, 0, 0], [0, 0, 20]])
    both = model(graph(apart))
    torch.testing.assert_close(both["energy"].item(), sum(both["energies"].tolist()))
    torch.testing.assert_close(both["energies"][0] - both["energies"][1], alone[0])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_scales_must_be_positive(value):
    with pytest.raises(ValueError, match="energy scale must be positive"):
        potential().set_scale(value)
    with pytest.raises(ValueError, match="average number of neighbors must be positive"):
        potential().set_average_neighbors(value)


@pytest.mark.parametrize(("name", "key"), [("total_charge", "charge"), ("spin", "spin")])
def test_charge_and_spin_change_the_energy(name, key):
    model = potential(inputs=[name])
    energies = [float(model(graph(molecule("H2O"), **{key: value}))["energy"]) for value in (1, 2, 3)]
    assert len({round(e, 8) for e in energies}) == 3
    assert float(potential()(graph(molecule("H2O"), **{key: 3}))["energy"]) == float(
        potential()(graph(molecule("H2O"), **{key: 1}))["energy"]
    )


def test_bonds_change_the_energy_only_where_declared():
    bonded = molecule("H2O")
    set_bonds(bonded, [[0, 1, 1], [0, 2, 1]])
    plain, aware = potential(), potential(inputs=["bond_types"])
    assert float(plain(graph(bonded))["energy"]) == float(plain(graph(molecule("H2O")))["energy"])
    assert abs(float(aware(graph(bonded))["energy"]) - float(aware(graph(molecule("H2O")))["energy"])) > 1e-4


def test_only_so3_tells_mirror_images_apart():
    chiral = Atoms("HOOHO", positions=[[1, 0, 0], [0, 0, 0], [0, 1.4, 0], [0, 1.6, 0.9], [-0.7, -0.5, 0.8]])
    mirrored = chiral.copy()
    mirrored.positions[:, 0] *= -1
    for group, differs in (("O3", False), ("SO3", True)):
        one, two = (float(potential(group=group)(graph(a))["energy"]) for a in (chiral, mirrored))
        assert (abs(one - two) > 1e-6) == differs
        assert abs(one - two) < 1e-10 or differs


def test_single_atom_and_no_edges():
    out = potential()(graph(Atoms("H", cell=[9, 9, 9])), stress=True, atomic_stress=True)
    assert out["forces"].tolist() == [[0, 0, 0]]
    assert torch.isfinite(out["energy"]).all()
    assert out["stress"].abs().max() == 0


@pytest.mark.parametrize("group", ["O3", "C4v"])
def test_ambient_dtype_changes_nothing(group):
    """Weights are drawn in the ambient precision; with the same weights, constants and results are the same bits."""
    model = potential(group=group, inputs=["total_charge"])
    water = graph(molecule("H2O"), charge=1)
    reference = model(water, stress=True)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float16)
        other = potential(group=group, inputs=["total_charge"])
        other.load_state_dict(model.state_dict())
        found = other(water, stress=True)
    finally:
        torch.set_default_dtype(before)
    assert other.dtype == torch.float64
    assert reference["forces"].abs().max() > 1e-3
    constants = dict(model.named_buffers())
    assert len(constants) > 5
    for name, value in other.named_buffers():
        torch.testing.assert_close(value, constants[name], rtol=0, atol=0)
    for name, value in found.items():
        torch.testing.assert_close(value, reference[name], rtol=0, atol=0, equal_nan=True)


def test_training_outputs_can_be_differentiated_again():
    model = potential().train()
    model(graph(molecule("H2O")))["forces"].square().sum().backward()
    assert all(p.grad is not None for p in model.interactions.parameters() if p.requires_grad)


@pytest.mark.parametrize(("max_edges", "several"), [(1, True), (100, True), (10_000, False)])
@pytest.mark.parametrize("group", ["O3", "C4v"])
def test_tiles_give_the_same_in_any_size(max_edges, several, group, treated_at_once):
    torch.manual_seed(0)
    model = InteratomicPotential(["Cu"], 4.0, num_channels=4, l_max=1, group=group).double().eval()
    crystal = bulk("Cu", cubic=True).repeat(2)
    crystal.rattle(0.1, seed=1)
    for structure in (crystal, Atoms("Cu")):
        graph = build_graph(structure, 4.0, dtype=torch.float64)
        model.max_edges = None
        whole = model(graph, stress=True)
        treated_at_once.clear()
        model.max_edges = max_edges
        tiled = model(graph, stress=True)
        for name, value in whole.items():
            assert torch.allclose(tiled[name], value, atol=1e-11, equal_nan=True)
        assert all(edges <= max_edges or receivers == 1 for edges, receivers in treated_at_once)
        if structure is crystal:
            assert whole["forces"].abs().max() > 1e-3
            assert whole["stress"].abs().max() > 1e-5
            assert (len(treated_at_once) > len(model.interactions)) == several


def test_degrees_beyond_those_of_e3nn_are_refused() -> None:
    with pytest.raises(ValueError, match="l_max must be at most 12; got 30"):
        InteratomicPotential(["H"], l_max=30)


def seen_by_second_kernel(model, atoms, **info):
    """The features of atoms that the kernel of the second interaction sees."""
    inputs = []
    with model.interactions[1].register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[1])):
        model(graph(atoms, **info), forces=False)
    return inputs[0]


def test_which_features_kernels_see():
    """Initial features do not depend on neighbors, but on the charge and on positions in surroundings."""
    far, near = (Atoms("OHH", positions=[[0, 0, 0], [0, 0, 1], [0, y, 0]]) for y in (30, 1))
    for kind, is_same in {"initial": True, "current": False}.items():
        model = potential(kernel_features=kind)
        assert torch.equal(seen_by_second_kernel(model, far), seen_by_second_kernel(model, near)) == is_same
    charged, over_wall = potential(inputs=["total_charge"]), potential(inputs=["surface"], group="Cinfv")
    over_wall.place_embedding.linear.weight.data.normal_()  # zero at first
    one, two = (seen_by_second_kernel(charged, near, charge=charge) for charge in (0, 1))
    low, high = (seen_by_second_kernel(over_wall, shifted(near, z)) for z in (1, 2))
    assert (one - two).abs().min() > 1e-3
    assert (low - high).abs().amax(1).min() > 1e-3


def shifted(atoms, z):
    moved = atoms.copy()
    moved.positions[:, 2] += z
    return moved


def results(model, atoms):
    """Energy, forces, stress, and the gradient of a function of them by all weights."""
    out = model.train()(graph(atoms), stress=True)
    loss = out["energy"].square().sum() + out["forces"].square().sum()
    weights = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return {name: out[name].detach() for name in ("energy", "forces", "stress")} | {"weights": weights}


@pytest.mark.parametrize("options", [
    {}, {"kernel_features": "current"}, {"group": "SO3"}, {"group": "C4v"}, {"inputs": ["surface"], "group": "Cinfv"},
])  # fmt: skip
def test_sums_in_cpp_and_as_tensor_operations(options, monkeypatch):
    """With C++ every edge is a block of its own; otherwise blocks have eight places, of which some are empty."""
    atoms = molecule("CH3CH2OH")
    atoms.symbols[atoms.symbols == "C"] = "O"
    if "inputs" not in options:
        atoms.set_cell([6, 6, 6])
        atoms.pbc = True
    atoms.positions[:, 2] += 2
    found = []
    for in_cpp in (True, False):
        if not in_cpp:
            monkeypatch.setattr("ik_e3nn.conv.outer_sums.library", lambda _: None)
        model = potential(**options)
        assert model.block_width == (1 if model.sums_in_cpp else 8)
        found.append(results(model, atoms) | {"tiles": in_tiles(model, atoms)})
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10, equal_nan=True)  # no stress without a cell


def in_tiles(model, atoms):
    model = model.eval()
    model.max_edges = 20
    return model(graph(atoms))["forces"]
