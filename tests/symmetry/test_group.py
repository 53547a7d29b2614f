"""Axes, configurations, and independence from the process's default dtype."""

import copy
import json
import pickle

import pytest
import torch

from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup, intertwiners
from ik_e3nn.symmetry.group import _cached_closure, _cached_invariants
from ik_e3nn.symmetry.intertwiners import irrep_intertwiners, trilinear_invariants
from ik_e3nn.symmetry.named import rotation
from ik_e3nn.symmetry.wigner import rotation_generators
from tests.symmetry import textbook


@pytest.mark.parametrize("name", textbook.FEW)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_axis_conjugates_the_group(name, seed):
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randn(3, generator=generator, dtype=torch.float64) * 10
    group, standard = SymmetryGroup(name, axis=tuple(axis.tolist())), SymmetryGroup(name)
    assert group.order == standard.order
    unit = axis / axis.norm()
    assert torch.allclose(torch.tensor(group.axis, dtype=torch.float64), unit)
    frame = _shortest_rotation_from_z(unit)
    elements = group.random_elements(20, generator)
    members = textbook.all_elements(standard) if standard.is_finite else None
    assert textbook.contains(name, frame.T @ elements @ frame, members)
    for l in range(5):
        for p in (1, -1):
            D = textbook.representations(frame[None], l, p)[0]
            moved, expected = group.invariants(l, p), standard.invariants(l, p) @ D.T
            assert len(moved) == len(expected)
            assert torch.allclose(moved.T @ moved, expected.T @ expected, atol=1e-10), (l, p)


@pytest.mark.parametrize(("name", "number"), [("O3", 3), ("SO3", 3), ("SO2", 1), ("Dinfh", 1), ("Oh", 0), ("C1", 0)])
def test_turns_by_any_angle_belong_to_the_group(name, number):
    group = SymmetryGroup(name, axis=(1.0, 2.0, -2.0))
    turns = group.turns
    assert turns.shape == (number, 3)
    assert torch.allclose(turns @ turns.T, torch.eye(number, dtype=torch.float64))
    assert all(group.contains(rotation(tuple(axis.tolist()), 0.3)) for axis in turns)


def _shortest_rotation_from_z(unit):
    """1 + K + K^2 / (1 + cos), for the cross product K with z x unit."""
    x, y, z = unit.tolist()
    K = torch.tensor([[0, 0, x], [0, 0, y], [-x, -y, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + K + K @ K / (1 + z)


def test_axes_along_z_and_against_it():
    up, down = SymmetryGroup("C4v", axis=(0, 0, 2)), SymmetryGroup("C4v", axis=(0, 0, -1))
    assert up == SymmetryGroup("C4v")
    assert down.invariants(1, -1).abs().tolist() == [[0, 0, 1]]
    nearly = SymmetryGroup("SO2", axis=(1e-9, 0, -1))
    assert torch.allclose(nearly.invariants(1, -1).abs(), torch.tensor([[0, 0, 1.0]]).double(), atol=1e-8)


@pytest.mark.parametrize("name", textbook.ALL)
def test_configurations_survive_json(name):
    for group in (SymmetryGroup(name), SymmetryGroup(name, axis=(1.0, -2.0, 0.3))):
        again = SymmetryGroup.from_config(json.loads(json.dumps(group.to_config())))
        assert again == group
        assert (again.name, again.axis) == (group.name, group.axis)


@pytest.mark.parametrize("name", textbook.FEW)
def test_configurations_of_a_users_own_group_survive_json(name):
    generators = SymmetryGroup(name, axis=(0.2, -0.7, 1.0)).generators
    group = SymmetryGroup.from_generators(generators, name="mine")
    again = SymmetryGroup.from_config(json.loads(json.dumps(group.to_config())))
    assert again == group
    assert again.name == "mine"
    assert again.order == group.order
    assert torch.equal(again.invariants(4, 1), group.invariants(4, 1))


def test_a_group_or_a_name_is_a_configuration_too():
    group = SymmetryGroup("D3d")
    assert SymmetryGroup.from_config(group) is group
    assert SymmetryGroup.from_config("D3d") == group
    assert SymmetryGroup.from_config({"name": "D3d"}) == group


def test_equality_is_that_of_generators():
    assert SymmetryGroup("C4v") != SymmetryGroup("C4")
    assert SymmetryGroup("C4v") != "C4v"
    assert len({SymmetryGroup("O2"), SymmetryGroup("Cinfv"), SymmetryGroup("Cinfh")}) == 2
    assert "D3d" in repr(SymmetryGroup("D3d"))


def test_groups_can_be_copied_and_pickled():
    group = SymmetryGroup("D3d", axis=(1, 0, 0))
    assert copy.deepcopy(group) == pickle.loads(pickle.dumps(group)) == group


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_ambient_dtype_does_not_matter(dtype):
    names = [("C5v", (1.0, 0.2, 0.0)), ("Dinf", (0.0, 1.0, 0.0)), ("I", (0.0, 0.0, 1.0))]
    expected = [SymmetryGroup(name, axis) for name, axis in names]
    irreps = "0e + 1o + 2e"
    before = [(g.generators, g.invariants(6, 1), intertwiners(irreps, irreps, g), g.order) for g in expected]
    _clear_caches()
    ambient = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        for (name, axis), (generators, fixed, maps, order) in zip(names, before, strict=True):
            group = SymmetryGroup(name, axis)
            elements = group.random_elements(3)
            assert elements.dtype == torch.float64
            assert (elements @ elements.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-12
            assert torch.equal(group.generators, generators)
            assert torch.equal(group.invariants(6, 1), fixed)
            assert torch.equal(intertwiners(irreps, irreps, group), maps)
            assert SymmetryGroup.from_generators(group.generators.tolist()).order == order
    finally:
        torch.set_default_dtype(ambient)
        _clear_caches()


def _clear_caches():
    for function in (
        _cached_invariants,
        _cached_closure,
        irrep_intertwiners,
        trilinear_invariants,
        rotation_generators,
    ):
        function.cache_clear()


def test_what_was_cached_in_inference_mode_can_be_trained_with():
    _clear_caches()
    with torch.inference_mode():
        intertwiners("1o", "1o", SymmetryGroup("C2v"))
    linear = EquivariantLinear("2x1o", "2x1o", "C2v", bias=True).double()
    linear(torch.randn(3, 6, dtype=torch.float64)).square().sum().backward()
    assert linear.weight.grad.abs().max() > 0


@pytest.mark.parametrize("config", [None, {}, {"a": {"b": 1}}, {"class_path": "os.system"}, {"axis": [0, 0, 1]}, 3])
def test_what_is_no_group_is_refused(config):
    with pytest.raises(ValueError, match="a symmetry group is a name such as 'C4v', or a mapping with 'name'"):
        SymmetryGroup.from_config(config)
