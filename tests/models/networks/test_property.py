"""Properties of molecules: each kind transforms and grows as that kind of quantity does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from e3nn import o3

from ik_e3nn.blocks.steerable import SteerableNetwork
from ik_e3nn.blocks.steerable_settings import SteerableSettings
from ik_e3nn.conv import ReceiverBlocks
from ik_e3nn.data import StructureDataset
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.errors import ConfigError, MissingInputError, ModelFileError, UnknownSpeciesError
from ik_e3nn.graph import batch_graphs, build_graph, build_molecular_graph
from ik_e3nn.models import (
    InteratomicPotential,
    MolecularPropertyModel,
    load_model,
    read_model_info,
    save_model,
)
from ik_e3nn.targets import Dipole, DipoleNorm, Extensive, Intensive, Polarizability, SpatialExtent
from tests.data.molecule_sets import property_set

TARGETS = [
    Extensive("energy", "eV"),
    Intensive("gap", "eV"),
    Dipole("dipole", "D"),
    DipoleNorm("mu", "D"),
    Polarizability("alpha", "a0^3"),
    SpatialExtent("r2", "a0^2"),
]
OLD_FILE = Path(__file__).parents[1] / "data" / "format_2_properties.safetensors"
SMALL = {"channels": 4, "num_layers": 2, "kernel_fields": 4}
POTENTIAL = {"num_channels": 4, "num_layers": 2, "l_max": 2, "l_features": 1, "inputs": ["bond_types"]}
BODIES = {
    "bonds": {"edges": "bonds", "steerable": SMALL},
    "products": {"edges": "bonds", "steerable": SMALL | {"activation": "product"}},
    "sphere": {"edges": "bonds", "steerable": SMALL | {"activation": "sphere", "grid_degree": 60}},
    "standard": {"edges": "bonds", "steerable": SMALL | {"kernel_depth": 0, "conditions": []}},
    "radius": {"edges": "radius", "steerable": SMALL | {"conditions": ["species"]}},
    "depthwise": {"edges": "both", "steerable": SMALL | {"mode": "depthwise"}},
    "windows": {"edges": "bonds", "steerable": SMALL | {"windows": 9, "mode": "depthwise", "norm": "node"}},
    "standard windows": {"edges": "bonds", "steerable": SMALL | {"windows": 9, "kernel_depth": 0, "conditions": []}},
    "high filters": {"edges": "bonds", "steerable": SMALL | {"l_filter": 4, "shell": 0.87, "norm": "batch"}},
    "features": {"edges": "bonds", "steerable": SMALL | {"conditions": ["bonds", "features"], "activation": "product"}},
    "radial features": {"edges": "both", "steerable": SMALL | {"windows": 6, "conditions": ["features"]}},
    "potential": {"edges": "both", "potential": POTENTIAL},
    "center": {"edges": "both", "potential": POTENTIAL, "places": "center"},
    "degree two": {"edges": "both", "potential": POTENTIAL | {"l_features": 2, "num_layers": 3}},
}


def make(name="potential", targets=TARGETS, **options):
    model = MolecularPropertyModel(["H", "C", "N", "O"], targets, **(BODIES[name] | options)).double()
    with torch.no_grad():  # the last weights of new models are zero
        for parameter in model.heads.parameters():
            parameter.normal_()
    for column, target in enumerate(model.targets):  # as far as the kind of property has them
        if target.kind in ("extensive", "polarizability", "spatial_extent"):
            model.scales.per_atom[column].normal_()
        if target.kind == "spatial_extent":
            model.scales.per_square[column].normal_()
        if target.kind == "intensive":
            model.scales.shift[column].normal_()
    return model.eval()


def graph_of(atoms, model):
    return build_molecular_graph(atoms, model.edges, model.r_max, dtype=torch.float64)


def ethanol():
    return property_set(("CCO",)).structures[0]


@pytest.mark.parametrize("name", BODIES)
def test_every_kind_turns_with_the_molecule_and_does_not_move_with_it(name) -> None:
    model, atoms = make(name), ethanol()
    R = o3.rand_matrix(dtype=torch.float64)
    R = R * torch.sign(torch.randn((), dtype=torch.float64))  # reflections too
    moved = atoms.copy()
    moved.positions = atoms.positions @ R.numpy().T + [3.0, -2.0, 1.0]
    with torch.no_grad():
        one, two = model(graph_of(atoms, model)), model(graph_of(moved, model))
    turned = one | {"dipole": one["dipole"] @ R.T, "alpha": R @ one["alpha"] @ R.T}
    # the nonlinearity on the sphere is equivariant up to its grid, here a fine one, and has a kink
    tolerance = 0.02 if name == "sphere" else 1e-12
    for key, value in turned.items():
        assert float(value.abs().max()) > 1e-3, key
        assert float((two[key] - value).norm() / value.norm()) < tolerance, key
    assert torch.allclose(one["alpha"], one["alpha"].mT, rtol=1e-12)


def test_grids_make_the_papers_network_turn_with_the_molecule() -> None:
    """By default to one percent, for every degree of the features and of the filters."""
    atoms = ethanol()
    rotations = o3.rand_matrix(8, dtype=torch.float64)

    def error(**settings) -> float:
        torch.manual_seed(0)
        model = make("bonds", steerable=SMALL | {"activation": "sphere"} | settings)
        torch.manual_seed(1)
        for parameter in model.heads.parameters():
            parameter.data.normal_()
        found = []
        for R in rotations:
            turned = atoms.copy()
            turned.positions = atoms.positions @ R.numpy().T
            with torch.no_grad():
                one, two = (model(graph_of(each, model))["dipole"] for each in (atoms, turned))
            found.append(float((two - one @ R.T).norm() / one.norm()))
        return float(np.sqrt(np.mean(np.square(found))))

    assert max(error(l_max=1), error(l_max=2), error(l_max=3)) < 0.01
    assert error(l_filter=3) < 0.02
    coarse, finer, fine = error(grid_degree=7), error(grid_degree=11), error(grid_degree=23)
    assert fine < 0.2 * finer < 0.1 * coarse
    with pytest.raises(ConfigError, match="grid_degree must be at least 2 l_filter = 8; got 7"):
        make("bonds", steerable={"activation": "sphere", "grid_degree": 7, "l_filter": 4})
    with pytest.raises(ConfigError, match="grid_degree must be at least 2 l_max = 4; got 3"):
        make("bonds", steerable={"activation": "sphere", "grid_degree": 3})
    with pytest.raises(ConfigError, match="grid_degree sets .* no effect on 'gate'"):
        make("bonds", steerable={"grid_degree": 11})
    with pytest.raises(ConfigError, match="activation must be one of gate, sphere, product; got 'relu'"):
        make("bonds", steerable={"activation": "relu"})


@pytest.mark.parametrize("name", ["bonds", "potential"])
def test_extensive_properties_add_up_and_intensive_ones_do_not_change(name) -> None:
    model, atoms = make(name), ethanol()
    twice = atoms.copy()
    far = atoms.copy()
    far.positions += 100.0
    twice += far
    rows = np.reshape(atoms.info["bonds"], (-1, 3))
    twice.info["bonds"] = np.concatenate([rows, rows + np.array([9, 9, 0])]).reshape(-1)
    with torch.no_grad():
        one, two = model(graph_of(atoms, model)), model(graph_of(twice, model))
    assert torch.allclose(two["energy"], 2 * one["energy"], rtol=1e-12)
    assert torch.allclose(two["gap"], one["gap"], rtol=1e-12)


@pytest.mark.parametrize("name", BODIES)
def test_a_batch_is_its_molecules(name) -> None:
    model = make(name)
    graphs = [graph_of(atoms, model) for atoms in property_set(("C", "CCO", "C#N")).structures]
    with torch.no_grad():
        batch, single = model(batch_graphs(graphs)), [model(graph) for graph in graphs]
    for target in TARGETS:
        assert batch[target.name].shape == (3, *target.shape)
        assert torch.allclose(batch[target.name], torch.cat([one[target.name] for one in single]), rtol=1e-10)


def test_single_atoms_have_properties_and_gradients() -> None:
    for name in ("bonds", "potential"):
        model = make(name)
        out = model(graph_of(molecule("CH4")[:1], model))
        torch.stack([value.sum() for value in out.values()]).sum().backward()
        assert all(bool(torch.isfinite(value).all()) for value in out.values())
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        assert torch.allclose(out["dipole"], torch.zeros(1, 3, dtype=torch.float64), atol=1e-9)


def test_the_length_of_a_dipole_is_that_of_the_vector() -> None:
    model = make(targets=[TARGETS[2], TARGETS[3]])
    model.heads["dipole_norm"].load_state_dict(model.heads["dipole"].state_dict())
    with torch.no_grad():
        out = model(graph_of(ethanol(), model))
    assert float(out["mu"]) == pytest.approx(float(out["dipole"].norm()), rel=1e-9)


def test_kernels_see_bonds_and_species_only_where_told() -> None:
    atoms = ethanol()
    for conditions, sees_bonds in (([], False), (["species"], False), (["bonds"], True)):
        model = make("bonds", steerable=SMALL | {"conditions": conditions})
        graph = graph_of(atoms, model)
        other = {**graph.to_dict(), "bond_types": 5 - graph["bond_types"] - 1}
        with torch.no_grad():
            same = torch.equal(model(graph)["energy"], model(other)["energy"])
        assert same is not sees_bonds
        assert ("bond_types" in model.body.inputs) is sees_bonds


@pytest.mark.parametrize("activation", ["gate", "sphere"])
def test_the_network_keeps_unit_variance(activation) -> None:
    torch.manual_seed(1)
    network = SteerableNetwork(4, SteerableSettings(channels=16, num_layers=4, activation=activation), None)
    model = MolecularPropertyModel([1, 6, 7, 8], TARGETS[:1], steerable={"channels": 16})
    graphs = [build_molecular_graph(atoms) for atoms in property_set().structures]
    batch = batch_graphs(graphs)
    network.set_average_neighbors(2.0)
    species = model.species_table[batch["atomic_numbers"]]
    vectors = batch["positions"][batch["edge_index"][1]] - batch["positions"][batch["edge_index"][0]]
    with torch.no_grad():
        x = network(species, batch["edge_index"], vectors.float(), batch["bond_types"])
    assert 0.3 < float(x.square().mean().sqrt()) < 2.0


def test_references_by_least_squares_leave_nothing_of_what_composition_explains(rng) -> None:
    whole = property_set(targets=())
    species = whole.species
    counts = np.array([[np.count_nonzero(a.numbers == z) for z in species] for a in whole.structures])
    centered = [a.positions - np.average(a.positions, axis=0, weights=a.numbers) for a in whole.structures]
    squares = np.array([(x**2).sum() for x in centered])
    a, c = rng.normal(size=len(species)), 1.7
    values = {
        "energy": counts @ a, "gap": rng.normal(size=len(whole)), "r2": counts @ a + c * squares,
        "alpha": (counts @ a)[:, None, None] * np.eye(3),
    }  # fmt: skip
    values["energy"][3] = np.nan
    targets = tuple(t for t in TARGETS if t.name in values)
    made = LabeledSet(whole.structures, targets, values, whole.ids)
    found = dict(zip([t.name for t in targets], fit_references(made, species), strict=True))
    np.testing.assert_allclose(found["energy"].per_atom, a, rtol=1e-8)
    np.testing.assert_allclose(found["r2"].per_square, c, rtol=1e-6)
    np.testing.assert_allclose(found["alpha"].per_atom, a, rtol=1e-8)
    assert found["gap"].shift == pytest.approx(values["gap"].mean())
    assert found["gap"].scale == pytest.approx(values["gap"].std())

    from ik_e3nn.training.sets.references import set_references

    model = MolecularPropertyModel(species, targets)  # its heads are zero at first
    set_references(model, made)
    batch = batch_graphs([StructureDataset(made, edges="bonds", dtype=torch.float64)[k] for k in range(len(made))])
    with torch.no_grad():
        out = model.double()(batch)
    for name in ("energy", "r2"):
        known = np.isfinite(values[name])
        np.testing.assert_allclose(out[name].numpy()[known], values[name][known], rtol=1e-6)


def test_references_stay_in_double_precision() -> None:
    model = make().float()
    assert model.scales.per_atom.dtype == torch.float64
    assert model(build_molecular_graph(ethanol(), "both"))["energy"].dtype == torch.float64
    assert model.half().scales.shift.dtype == torch.float64


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reloaded_models_predict_the_same_bits(tmp_path, name, dtype) -> None:
    coarse = {"steerable": BODIES[name]["steerable"] | {"grid_degree": 20}} if name == "sphere" else {}
    model = make(name, **coarse).to(dtype)
    save_model(model, tmp_path / "m.safetensors", summary={"split_hash": "abc"})
    again = load_model(tmp_path / "m.safetensors")
    graph = build_molecular_graph(ethanol(), model.edges, model.r_max, dtype=dtype)
    with torch.no_grad():
        one, two = model(graph), again(graph)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert again.config == model.config
    assert again.dtype == dtype
    assert not again.training
    info = read_model_info(tmp_path / "m.safetensors")
    assert info["units"]["r2"] == "a0^2"
    assert info["training"] == {"split_hash": "abc"}
    assert info["references"]["energy"]["C"] == float(model.scales.per_atom[0, 1])


def test_files_from_before_the_activation_was_a_setting_have_that_of_the_sphere(tmp_path) -> None:
    """The file was written by the version before, and so were the numbers."""
    model = load_model(OLD_FILE)
    assert model.config["steerable"]["activation"] == "sphere"
    assert read_model_info(OLD_FILE)["config"] == model.config
    graph = build_molecular_graph(molecule("H2O"), model.edges, model.r_max, dtype=torch.float64)
    with torch.no_grad():
        out = model(graph)
    assert out["energy"].item() == pytest.approx(-1.3221542353556088, rel=1e-13)
    assert out["mu"][0, 2].item() == pytest.approx(0.33000335107581064, rel=1e-13)
    save_model(model, tmp_path / "m.safetensors")
    with torch.no_grad():
        again = load_model(tmp_path / "m.safetensors")(graph)
    assert all(torch.equal(again[name], value) for name, value in out.items())


def test_model_files_of_the_two_kinds_are_not_mixed_up(tmp_path) -> None:
    save_model(make(), tmp_path / "p.safetensors")
    save_model(InteratomicPotential(["H"], num_channels=2), tmp_path / "e.safetensors")
    with pytest.raises(ModelFileError, match="holds a MolecularPropertyModel, not an InteratomicPotential"):
        load_model(tmp_path / "p.safetensors", kind=InteratomicPotential)
    with pytest.raises(
        ModelFileError, match=r"an InteratomicPotential, not a MolecularPropertyModel; it is for .* md, relax"
    ):
        load_model(tmp_path / "e.safetensors", kind=MolecularPropertyModel)
    assert isinstance(load_model(tmp_path / "p.safetensors"), MolecularPropertyModel)
    assert isinstance(load_model(tmp_path / "e.safetensors"), InteratomicPotential)


def test_a_potentials_blocks_and_weights_are_a_body() -> None:
    torch.manual_seed(5)
    potential = InteratomicPotential([1, 6, 8], 4.0, **POTENTIAL).double().eval()
    potential.set_average_neighbors(6.0)
    model = MolecularPropertyModel.from_potential(potential, TARGETS)
    assert model.edges == "both"
    assert model.dtype == torch.float64
    graph = build_graph(ethanol(), 4.0, dtype=torch.float64)
    edges = potential.prepare(graph)
    with torch.no_grad():
        features = torch.cat(list(potential.node_features(edges)), 1)
        assert torch.equal(model.body(graph, potential.species_table[graph["atomic_numbers"]]), features)
        # and what the potential makes of them is its energy
        readouts = [read(x) for x, read in zip(potential.node_features(edges), potential.readouts, strict=True)]
        energies = potential.atomic_energy(sum(readouts), edges["species"])
        assert torch.equal(energies, potential(graph, forces=False)["energies"])
    before = potential.interactions[0].species_scale.clone()
    with torch.no_grad():
        model.body.potential.interactions[0].species_scale.zero_()
    assert torch.equal(potential.interactions[0].species_scale, before)
    with pytest.raises(ValueError, match="the potential differs from this model in species, r_max"):
        make().body.take_weights(potential)


def test_impossible_models_are_refused() -> None:
    gap = TARGETS[1:2]
    with pytest.raises(ConfigError, match="one body: give `steerable` or `potential`, not both"):
        MolecularPropertyModel(["H"], gap, edges="both", steerable={}, potential={})
    with pytest.raises(ConfigError, match='need neighbors: use edges="radius"'):
        MolecularPropertyModel(["H"], gap, potential={})
    with pytest.raises(ConfigError, match="needs at least one target"):
        MolecularPropertyModel(["H"], [])
    with pytest.raises(ConfigError, match="places must be local or center; got 'middle'"):
        MolecularPropertyModel(["H"], gap, places="middle")
    with pytest.raises(ConfigError, match="kernel_fields must be at least 1; got 0"):
        MolecularPropertyModel(["H"], gap, steerable={"kernel_fields": 0})
    with pytest.raises(ConfigError, match="conditions must be some of bonds, species, features; got charges"):
        MolecularPropertyModel(["H"], gap, steerable={"conditions": ["charges"]})
    with pytest.raises(ConfigError, match="a standard steerable kernel .* is linear"):
        MolecularPropertyModel(["H"], gap, steerable={"kernel_depth": 0})
    for settings, message in (
        ({"windows": 1}, "windows must be 0, for kernels of the paper, or at least 2; got 1"),
        ({"windows": -1}, "windows must be at least 0; got -1"),
        ({"shell": 0.0}, "shell must be positive; got 0.0"),
        ({"norm": "layer"}, "norm must be one of none, batch, node; got 'layer'"),
        ({"l_filter": -1}, "l_filter must be at least 0; got -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            MolecularPropertyModel(["H"], gap, steerable=settings)
    with pytest.raises(ValueError, match="average number of neighbors must be positive"):
        make("bonds").set_average_neighbors(0.0)
    model = make("radius")
    with pytest.raises(UnknownSpeciesError, match="does not know F; it was made for H, C, N, O"):
        model(graph_of(molecule("CF4"), model))
    model = make("potential")
    graph = graph_of(ethanol(), model)
    del graph["bond_types"]
    with pytest.raises(MissingInputError, match="the model needs 'bond_types'"):
        model(graph)


@pytest.mark.parametrize("windows", [0, 5])
@pytest.mark.parametrize("conditions", [("species",), ("species", "features")])
def test_only_kernels_that_see_features_multiply_those_of_both_atoms(windows, conditions) -> None:
    """Before its nonlinearity a layer is a sum of functions of one atom, unless the kernel depends on the features."""
    torch.manual_seed(0)
    settings = SteerableSettings(channels=4, num_layers=2, l_max=0, conditions=conditions, windows=windows)
    layer = SteerableNetwork(2, settings, None).double().layers[1].eval()
    layer.activation = torch.nn.Identity()
    edges = torch.tensor([[0], [1]])
    blocks = ReceiverBlocks.from_receivers(edges[1], 2)
    geometry = layer.kernel.geometry(torch.tensor([[0.0, 0.8, 0.9]], dtype=torch.float64))
    attributes = torch.randn(1, layer.kernel.irreps_attributes.dim, dtype=torch.float64)
    x, d = torch.randn(2, 2, 4, dtype=torch.float64)

    def receiver(*moved: int) -> torch.Tensor:
        steps = torch.tensor([[float(atom in moved)] for atom in (0, 1)], dtype=torch.float64)
        return layer(x + steps * d, geometry, attributes, edges, blocks)[1].detach()

    mixed = receiver(0, 1) - receiver(0) - receiver(1) + receiver()
    assert float(receiver(0).sub(receiver()).abs().max()) > 1e-3
    assert (float(mixed.abs().max()) > 1e-3) == ("features" in conditions)
