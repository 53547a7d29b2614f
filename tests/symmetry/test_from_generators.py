"""A user's own group: from matrices to the smallest closed group that holds them."""

import math

import numpy as np
import pytest
import torch

from ik_e3nn.symmetry import SymmetryGroup
from tests.symmetry import textbook

IDENTITY = torch.eye(3, dtype=torch.float64)


def turn(axis, angle):
    """Rodrigues' formula, independent of the code under test."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    K = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return IDENTITY + math.sin(angle) * K + (1 - math.cos(angle)) * K @ K


def mirror(normal):
    return -turn(normal, math.pi)


def across(axis, angle=0.0):
    """A unit vector perpendicular to an axis, turned about it by an angle."""
    start = torch.linalg.cross(torch.tensor(axis, dtype=torch.float64), torch.tensor([0.3, 0.5, -0.8]).double())
    return (turn(axis, angle) @ start).tolist()


AXES = [(0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (1.0, -2.0, 0.5)]
INFINITE = {
    "SO2": lambda a: [turn(a, 1.0)],
    "Cinfv": lambda a: [mirror(across(a)), mirror(across(a, 1.0))],
    "Cinfh": lambda a: [turn(a, math.sqrt(2)), mirror(a)],
    "Dinf": lambda a: [turn(across(a), math.pi), turn(across(a, 1.0), math.pi)],
    "Dinfh": lambda a: [mirror(across(a)), mirror(across(a, 1.0)), -IDENTITY],
}
OTHER_WAYS = {
    "SO2": lambda a: [turn(a, 0.1), turn(a, math.pi / 2)],
    "Cinfv": lambda a: [turn(a, 3.0), mirror(across(a))],
    "Cinfh": lambda a: [-turn(a, 1.0)],
    "Dinf": lambda a: [turn(across(a), math.pi), turn(a, 1.0)],
    "Dinfh": lambda a: [mirror(across(a)), turn(across(a, 1.0), math.pi)],
}


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("ways", [INFINITE, OTHER_WAYS], ids=["first", "second"])
@pytest.mark.parametrize("name", INFINITE)
def test_irrational_angles_give_the_continuous_axial_groups(name, ways, axis):
    group = SymmetryGroup.from_generators(ways[name](axis))
    assert not group.is_finite
    assert group.order == math.inf
    assert not group.is_isotropic
    unit = torch.tensor(axis, dtype=torch.float64) / torch.tensor(axis, dtype=torch.float64).norm()
    assert torch.tensor(group.axis, dtype=torch.float64) @ unit == pytest.approx(1, abs=1e-10) or torch.tensor(
        group.axis, dtype=torch.float64
    ) @ unit == pytest.approx(-1, abs=1e-10)
    named = SymmetryGroup(name, axis=axis)
    for l in range(textbook.L_MAX + 1):
        for p in (1, -1):
            assert torch.allclose(group.invariants(l, p), named.invariants(l, p), atol=1e-10), (l, p)
    # random elements of one are elements of the other: they fix the same vectors and number of components agree
    elements = group.random_elements(64, torch.Generator().manual_seed(0))
    back = turn_to_z(unit)
    assert textbook.contains(name, back @ elements @ back.T, None)


def turn_to_z(unit):
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    cross = torch.linalg.cross(unit, z)
    if cross.norm() < 1e-12:
        return IDENTITY if unit[2] > 0 else turn((1, 0, 0), math.pi)
    return turn(cross.tolist(), math.atan2(float(cross.norm()), float(unit[2])))


def test_two_random_rotations_generate_all_of_them():
    rotations = SymmetryGroup("SO3").random_elements(2, torch.Generator().manual_seed(0))
    group = SymmetryGroup.from_generators(rotations)
    assert group.is_isotropic
    assert group.order == math.inf
    with_inversion = SymmetryGroup.from_generators(torch.cat([rotations, -IDENTITY[None]]))
    assert with_inversion.is_isotropic
    improper = SymmetryGroup.from_generators(torch.stack([rotations[0], -rotations[1]]))
    for l in range(textbook.L_MAX + 1):
        assert len(group.invariants(l, 1)) == len(group.invariants(l, -1)) == int(l == 0)
        for larger in (with_inversion, improper):
            assert (len(larger.invariants(l, 1)), len(larger.invariants(l, -1))) == (int(l == 0), 0)
    assert bool((torch.linalg.det(improper.random_elements(50)) < 0).any())


@pytest.mark.parametrize("name", ["C1", *textbook.FINITE])
def test_finite_groups_are_recognized_in_any_orientation(name):
    generator = torch.Generator().manual_seed(len(name))
    frame = SymmetryGroup("SO3").random_elements(1, generator)[0]
    named = SymmetryGroup(name)
    elements = torch.cat([named.generators, named.random_elements(2, generator)])
    group = SymmetryGroup.from_generators(frame @ elements @ frame.T)
    assert group.is_finite
    assert group.order == named.order
    for l, p in ((1, -1), (1, 1), (2, 1), (3, -1), (4, 1), (6, -1)):
        assert len(group.invariants(l, p)) == len(named.invariants(l, p))


@pytest.mark.parametrize("n", [12, 97, 360])
def test_large_cyclic_groups_are_finite(n):
    group = SymmetryGroup.from_generators([turn((1, 1, 0), 2 * math.pi / n)])
    assert group.order == n
    assert len(group.invariants(3, -1)) == 1


def test_a_group_without_generators_is_trivial():
    for nothing in ([], torch.zeros(0, 3, 3), [IDENTITY]):
        assert SymmetryGroup.from_generators(nothing).order == 1


def test_tensors_arrays_and_lists_are_the_same():
    tensor = torch.stack([turn((0, 0, 1), math.pi / 2), mirror((1, 0, 0))])
    groups = [SymmetryGroup.from_generators(m) for m in (tensor, tensor.numpy(), tensor.tolist(), list(tensor))]
    assert all(group == groups[0] and group.order == 8 for group in groups)
    assert SymmetryGroup.from_generators(tuple(tensor.numpy())) == groups[0]
    differentiable = tensor.clone().requires_grad_()
    assert not SymmetryGroup.from_generators(differentiable).invariants(2, 1).requires_grad


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ([(2 * IDENTITY)], "generator 0 is not orthogonal.*expected below 1e-06"),
        ([IDENTITY, IDENTITY + 1e-4 * torch.ones(3, 3)], "generator 1 is not orthogonal"),
        ([torch.zeros(3, 3)], "not orthogonal"),
        ([IDENTITY * math.nan], "generator 0 is not orthogonal.*nan"),
        ([IDENTITY * math.inf], "generator 0 is not orthogonal"),
        (IDENTITY, "must be 3x3 matrices"),
        (torch.eye(2)[None], r"must be 3x3 matrices.*\(2, 2\)"),
        (torch.zeros(1, 1, 3, 3), "must be 3x3 matrices"),
    ],
)
def test_what_is_not_a_list_of_orthogonal_matrices_is_refused(matrices, message):
    with pytest.raises(ValueError, match=message):
        SymmetryGroup.from_generators(matrices)


@pytest.mark.parametrize("name", ["C3", "C7h", "D5"])
def test_single_precision_is_refused_where_it_would_give_another_group(name):
    """A third of a turn, rounded to seven digits, would be an irrational angle: not silently another group."""
    with pytest.raises(ValueError, match="not exact enough to determine their group.*double precision"):
        SymmetryGroup.from_generators(SymmetryGroup(name, axis=(1, 2, 3)).generators.float())


def test_exact_matrices_may_be_of_any_dtype():
    matrices = torch.tensor([[[0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    for dtype in (torch.int64, torch.float16, torch.float32, torch.float64):
        assert SymmetryGroup.from_generators(matrices.to(dtype)).order == 4
