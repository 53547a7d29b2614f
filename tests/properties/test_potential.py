"""The interatomic potential has the properties that physics demands, for every kind of structure and every option."""

import copy

import numpy as np
import pytest
import torch
from ase.build import molecule

from ik_e3nn.errors import MissingInputError, UnknownSpeciesError
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import assert_potential, check_potential
from tests.properties import structures

CUTOFF = 3.5


def potential(seed=0, dtype=torch.float64, **options):
    """A small potential whose every parameter takes part."""
    torch.manual_seed(seed)
    options = {"num_channels": 4, "num_layers": 2, "l_max": 2, "correlation": 2} | options
    model = InteratomicPotential(structures.SPECIES, CUTOFF, **options)
    model.set_average_neighbors(12.0)
    model.set_energy_reference({1: -13.6, 6: -1030.0, 8: -2042.0, 13: -6600.0, 29: -45000.0}, "test")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.to(dtype).eval()


def every_structure():
    return [make() for make in structures.ALL.values()]


def graph_of(atoms, dtype=torch.float64):
    return build_graph(atoms, CUTOFF, dtype=dtype)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"correlation": 1, "num_layers": 1},
        {"correlation": 3, "l_max": 1},
        {"l_max": 0, "l_features": 0},
        {"num_layers": 3, "num_channels": 2},
        {"group": "SO3"},
        {"group": "C4v", "l_max": 1},
        {"group": {"name": "SO2", "axis": [1.0, 1.0, 0.5]}, "l_max": 1},
        {"group": "D3d", "l_max": 1, "correlation": 3},
        {"group": "C1", "l_max": 1},
    ],
    ids=str,
)
def test_everything_for_every_structure(options):
    report = assert_potential(potential(**options), every_structure())
    assert report["forces by finite differences"].tolerance == 1e-6
    assert report["stress by finite differences"].tolerance == 1e-7


@pytest.mark.parametrize("options", [{}, {"correlation": 3}, {"group": "C4v", "l_max": 1}], ids=str)
def test_single_precision(options):
    assert_potential(potential(dtype=torch.float32, **options), every_structure())


@pytest.mark.parametrize("name", structures.ALL)
def test_each_structure_alone(name):
    """So that no structure hides behind the scale of another."""
    atoms = structures.ALL[name]()
    report = check_potential(potential(seed=1), [atoms], properties=["equivariance", "forces", "stress", "translation"])
    assert report.passed, str(report)


def test_charge_spin_and_bonds():
    model = potential(inputs=["bond_types", "total_charge", "spin"])
    family = [
        structures.methanol(charge=0, spin=1, bonds=True),
        structures.methanol(charge=1, spin=2, bonds=True),
        structures.methanol(charge=-1, spin=2),
    ]
    assert_potential(model, family)
    energies = [float(model(graph_of(atoms), forces=False)["energy"]) for atoms in family]
    assert np.ptp(energies[:2]) > 1e-4
    assert np.ptp(energies[1:]) > 1e-4


def test_bonds_and_inputs_matter_one_by_one():
    for name, change in (("bond_types", {"bonds": True}), ("total_charge", {"charge": 1}), ("spin", {"spin": 3})):
        plain = {"charge": 0, "spin": 1, "bonds": False}
        model = potential(inputs=[name])
        a, b = (model(graph_of(structures.methanol(**(plain | c))), forces=True)["energy"] for c in ({}, change))
        assert (a - b).abs() > 1e-5, name
        other = potential()
        a, b = (other(graph_of(structures.methanol(**(plain | c))))["energy"] for c in ({}, change))
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("group", "larger"), [("SO3", "O3"), ("C4v", "Cinfv"), ("SO2", "Cinfv"), ("C1", "Cs"), ("Td", "Oh")]
)
def test_smaller_groups_break_the_larger_symmetry(group, larger):
    """By much more than rounding. A quadruple product of vectors is needed to tell left from right, hence l_max 2."""
    model = potential(group=group, l_max=2, correlation=3, num_layers=2)
    report = check_potential(
        model, [structures.methanol(), structures.triclinic()], group=larger, properties=["equivariance"]
    )
    assert report["equivariance: energy"].value > 1e-6, str(report)


def test_o3_cannot_tell_left_from_right_and_so3_can():
    chiral = molecule("CH3OH")
    chiral.rattle(0.3, seed=5)
    mirrored = chiral.copy()
    mirrored.positions[:, 0] *= -1
    for group, distinguishes in (("O3", False), ("SO3", True)):
        model = potential(group=group, correlation=3)
        a, b = (float(model(graph_of(atoms))["energy"]) for atoms in (chiral, mirrored))
        assert (abs(a - b) > 1e-6) == distinguishes


def test_a_slab_along_any_normal():
    """A surface potential with its axis along the normal is the same potential turned with the surface."""
    normal = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    along_z, along_normal = (
        potential(group="Cinfv", l_max=1),
        potential(group=SymmetryGroup("Cinfv", axis=tuple(normal.tolist())), l_max=1),
    )
    assert len(along_z.state_dict()) == len(along_normal.state_dict())
    report = check_potential(along_normal, [structures.slab()], properties=["equivariance"])
    assert report.passed
    assert not check_potential(along_normal, [structures.slab()], group="Cinfv", properties=["equivariance"]).passed


def test_single_atoms_and_empty_neighborhoods_have_a_constant_energy_and_no_forces():
    model = potential()
    for atoms in (structures.single_atom(), structures.far_apart()):
        out = model(graph_of(atoms), stress=True)
        assert torch.isfinite(out["energy"]).all()
        assert (out["forces"] == 0).all()
        assert torch.isnan(out["stress"]).all()
    hydrogen = model(graph_of(structures.single_atom()))["energies"][0]
    assert model(graph_of(structures.far_apart()))["energies"][0] == pytest.approx(float(hydrogen), abs=1e-10)


def test_a_batch_of_everything_in_one_call():
    model = potential()
    family = every_structure()
    together = model(batch_graphs([graph_of(atoms) for atoms in family]), stress=True, atomic_stress=True)
    starts = np.cumsum([0, *[len(atoms) for atoms in family]])
    for index, atoms in enumerate(family):
        alone = model(graph_of(atoms), stress=True, atomic_stress=True)
        rows = slice(starts[index], starts[index + 1])
        assert torch.allclose(together["energy"][index], alone["energy"][0], atol=1e-8)
        assert torch.allclose(together["forces"][rows], alone["forces"], atol=1e-10)
        assert torch.allclose(together["stress"][index], alone["stress"][0], atol=1e-11, equal_nan=True)
        assert torch.allclose(together["atomic_virials"][rows], alone["atomic_virials"], atol=1e-10)


@pytest.mark.parametrize("name", ["triclinic", "left_handed", "slab_in_a_box"])
def test_atomic_virials_sum_to_the_stress(name):
    atoms = structures.ALL[name]()
    out = potential()(graph_of(atoms), stress=True, atomic_stress=True)
    volume = abs(np.linalg.det(atoms.cell.array))
    assert out["stress"].abs().max() > 1e-5
    assert torch.allclose(out["atomic_virials"].sum(0) / volume, out["stress"][0], atol=1e-12)


def test_stress_is_nan_exactly_where_there_is_no_volume():
    model = potential()
    for name, make in structures.ALL.items():
        atoms = make()
        stress = model(graph_of(atoms), stress=True)["stress"]
        has_volume = abs(np.linalg.det(atoms.cell.array)) > 0
        assert bool(torch.isfinite(stress).all()) == has_volume, name
        assert bool(torch.isnan(stress).all()) != has_volume, name


def test_energies_are_float64_and_steady_in_single_precision():
    """Forty-five thousand eV an atom do not swallow the interaction."""
    model = potential(dtype=torch.float32)
    atoms = structures.triclinic() * (2, 2, 2)
    moved = atoms.copy()
    moved.positions[0, 0] += 1e-3
    a, b = (model(graph_of(x, torch.float32)) for x in (atoms, moved))
    assert a["energy"].dtype == a["energies"].dtype == torch.float64
    change = float(b["energy"] - a["energy"])
    expected = -1e-3 * float((a["forces"][0, 0] + b["forces"][0, 0]) / 2)
    assert abs(expected) > 1e-6
    assert change == pytest.approx(expected, abs=2e-6 + 0.05 * abs(expected))


def test_scale_and_reference_act_as_they_say():
    model = potential()
    graph = graph_of(structures.methanol())
    before = model(graph)
    reference = model.atomic_energy.reference.clone()
    model.set_scale(3.0 * float(model.atomic_energy.scale))
    after = model(graph)
    assert torch.allclose(after["forces"], 3 * before["forces"], atol=1e-10)
    base = reference[model.species_table[graph["atomic_numbers"]]]
    assert torch.allclose(after["energies"] - base, 3 * (before["energies"] - base), atol=1e-9)


def test_graphs_may_be_dicts_and_edges_in_any_order():
    model = potential()
    graph = graph_of(structures.triclinic())
    expected = model(graph, stress=True)
    plain = {key: graph[key] for key in graph.keys()}
    order = torch.randperm(plain["edge_index"].shape[1])
    shuffled = plain | {
        "edge_index": plain["edge_index"][:, order],
        "edge_shifts": plain["edge_shifts"][order],
        "bond_types": plain["bond_types"][order],
    }
    for other in (plain, shuffled):
        found = model(other, stress=True)
        for key in ("energy", "forces", "stress"):
            assert torch.allclose(found[key], expected[key], atol=1e-9)


def test_pairs_beyond_the_cutoff_change_nothing():
    """A list with a skin gives the same numbers: the window is exactly zero there."""
    model = potential()
    atoms = structures.triclinic()
    for key in ("energy", "forces", "stress"):
        a = model(build_graph(atoms, CUTOFF, dtype=torch.float64), stress=True)[key]
        b = model(build_graph(atoms, CUTOFF + 0.7, dtype=torch.float64), stress=True)[key]
        assert torch.allclose(a, b, atol=1e-9)


def test_positions_in_double_precision_serve_a_model_in_single():
    model = potential(dtype=torch.float32)
    atoms = structures.methanol()
    near, far = (model(graph_of(x)) for x in (atoms, _shifted(atoms, 1e4)))
    assert near["forces"].abs().max() > 1e-2
    assert torch.allclose(near["forces"], far["forces"], atol=1e-5)


def _shifted(atoms, distance):
    atoms = atoms.copy()
    atoms.positions += distance
    return atoms


def test_two_precisions_in_one_process():
    double, single = potential(), potential(dtype=torch.float32)
    graph, coarse = graph_of(structures.methanol()), graph_of(structures.methanol(), torch.float32)
    first = double(graph)["forces"]
    assert single(coarse)["forces"].dtype == torch.float64  # of the positions
    assert torch.equal(double(graph)["forces"], first)
    assert torch.allclose(single(coarse)["forces"].double(), first, atol=1e-4)


def test_the_ambient_dtype_does_not_matter():
    model = potential()
    graph, state = graph_of(structures.triclinic()), copy.deepcopy(model.state_dict())
    expected = model(graph, stress=True)
    torch.set_default_dtype(torch.float64)
    try:
        other = InteratomicPotential(**model.config).eval()
        other.load_state_dict(state)
        found = other(graph, stress=True)
        single = model.float()(graph_of(structures.triclinic(), torch.float32))
    finally:
        torch.set_default_dtype(torch.float32)
    for key in expected:
        assert torch.equal(found[key], expected[key]), key
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert single["forces"].dtype == torch.float64  # that of the graph's positions


@pytest.mark.parametrize("group", ["O3", "C4v"])
def test_gradients_of_a_loss_on_forces_and_stress(group):
    """Training needs the second derivative: checked against differences in the parameters."""
    model = potential(group=group, l_max=1, num_channels=2).train()
    model.set_energy_reference(dict.fromkeys(model.species, 0.0), "none")  # digits for the differences
    graph = batch_graphs([graph_of(atoms) for atoms in (structures.methanol(), structures.triclinic())])

    def loss():
        out = model(graph, stress=True)
        return out["forces"].square().sum() + 100 * out["stress"].nan_to_num().square().sum() + out["energies"].std()

    value = loss()
    gradients = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    direction = [torch.randn_like(p) for p in model.parameters()]
    expected = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
    values = []
    for h in (-2e-6, -1e-6, 1e-6, 2e-6):
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p.add_(d, alpha=h)
        values.append(float(loss().detach()))
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p.add_(d, alpha=-h)
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-6
    assert abs(float(expected)) > 1e-3
    assert slope == pytest.approx(float(expected), rel=1e-5)


def test_gradients_are_finite_with_single_atoms_and_no_edges_in_the_batch():
    model = potential().train()
    graph = batch_graphs([graph_of(make()) for make in structures.ALL.values()])
    out = model(graph, stress=True)
    (out["forces"].square().sum() + out["energy"].square().sum() + out["stress"].nan_to_num().square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    alone = potential().train()
    out = alone(graph_of(structures.single_atom()))
    (out["energy"].sum() + out["forces"].square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in alone.parameters() if p.grad is not None)


def test_coinciding_atoms_are_finite():
    atoms = structures.methanol()
    atoms.positions[1] = atoms.positions[0]
    out = potential()(graph_of(atoms))
    assert torch.isfinite(out["energy"]).all()
    assert torch.isfinite(out["forces"]).all()


def test_predictions_are_detached_and_work_without_gradients():
    model, graph = potential(), graph_of(structures.triclinic())
    expected = model(graph, stress=True)
    with torch.no_grad():
        found = model(graph, stress=True)
    for key, value in expected.items():
        assert not value.requires_grad
        assert torch.allclose(found[key], value, atol=1e-10)
    assert set(model(graph, forces=False)) == {"energy", "energies"}
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert torch.allclose(frozen(graph)["forces"], expected["forces"], atol=1e-12)


def test_unknown_elements_and_missing_inputs_are_named():
    with pytest.raises(UnknownSpeciesError, match="the model does not know He, N; it was made for H, C, O, Al, Cu"):
        potential()(graph_of(_helium_and_nitrogen()))
    with pytest.raises(MissingInputError, match="the model needs 'total_charge', but the structure does not give it"):
        potential(inputs=["total_charge"])(graph_of(structures.methanol()))


def _helium_and_nitrogen():
    atoms = molecule("N2")
    atoms.append("He")
    atoms.positions[-1] += 2.0
    return atoms


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch 2.13, of its own tracer
@pytest.mark.parametrize(("group", "layers"), [("O3", 2), ("C4v", 1)])
def test_the_energy_compiles_as_a_whole(group, layers):
    torch.compiler.reset()
    model = potential(group=group, l_max=1, num_layers=layers)

    def energy(graph):
        return model(graph, forces=False)["energy"]

    compiled = torch.compile(energy, fullgraph=True, backend="eager", dynamic=True)
    for atoms in (structures.methanol(), structures.triclinic()):
        graph = graph_of(atoms)
        plain = {key: graph[key] for key in graph.keys()}
        assert torch.allclose(compiled(plain), energy(plain), atol=1e-8)
