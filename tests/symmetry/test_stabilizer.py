"""Degrees up to which the invariant tensors of natural parity, (-1)^l, determine a group."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from ik_e3nn.blocks.anisotropy import EdgeInvariants, Tensors, tensors_of
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.stabilizer import is_determined_by

DEGREES = {
    1: "C1 Cs Cinfv", 2: "Ci C2 C2v C2h D2h Dinfh", 3: "C3 C3v C3h D2 D3h D2d Td S4",
    4: "C4 C4v C4h D4h D3 D3d S6 Oh", 5: "D4 D4d S8", 6: "C6 C6v C6h D6h T Th Ih",
}  # fmt: skip
CASES = [(name, degree) for degree, names in DEGREES.items() for name in names.split()]
AMONG_ROTATIONS = {"SO2": 1, "Dinf": 2, "C5": 5, "D2": 2, "D4": 4, "D6": 6, "T": 3, "O": 4, "I": 6}


def natural(degree):
    return tuple((l, (-1) ** l) for l in range(1, degree + 1))


@pytest.mark.parametrize(("name", "degree"), CASES)
def test_the_lowest_degree_that_determines_a_group(name, degree):
    group = SymmetryGroup(name)
    assert is_determined_by(group, natural(degree))
    assert not is_determined_by(group, natural(degree - 1))
    assert tensors_of(group).degree == degree


@pytest.mark.parametrize(("name", "degree"), AMONG_ROTATIONS.items())
def test_the_lowest_degree_among_rotations(name, degree):
    group = SymmetryGroup(name)
    assert is_determined_by(group, natural(degree), proper=True)
    assert not is_determined_by(group, natural(degree - 1), proper=True)


def test_a_sense_of_rotation_is_an_axial_vector():
    """A cylinder that rotates has the group "Cinfh", and with a direction along the axis "SO2"."""
    assert is_determined_by(SymmetryGroup("Cinfh"), ((1, 1),))
    assert is_determined_by(SymmetryGroup("SO2"), ((1, -1), (1, 1)))
    assert not is_determined_by(SymmetryGroup("SO2"), natural(4))


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("O3", Tensors(SymmetryGroup("O3"))), ("SO3", Tensors(SymmetryGroup("SO3"))),
        ("SO2", Tensors(SymmetryGroup("O3"), 1, twist=True)), ("Cinfh", Tensors(SymmetryGroup("O3"), 0, twist=True)),
        ("Dinf", Tensors(SymmetryGroup("SO3"), 2)), ("O", Tensors(SymmetryGroup("SO3"), 4)),
        ("I", Tensors(SymmetryGroup("SO3"), 6)), ("D6", Tensors(SymmetryGroup("SO3"), 6)),
        ("C7v", Tensors(SymmetryGroup("O3"), 7)),
    ],
)  # fmt: skip
def test_the_layers_that_serve_a_group(name, tensors):
    assert tensors_of(SymmetryGroup(name)) == tensors


def test_a_group_of_ones_own_in_any_orientation():
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), dim=0)
    turn = torch.from_numpy(Rotation.from_rotvec(2 * math.pi / 5 * axis.numpy()).as_matrix())
    group = SymmetryGroup.from_generators(torch.stack([turn, -torch.eye(3, dtype=torch.float64)]))
    degree = tensors_of(group).degree
    assert degree == 6
    invariants = EdgeInvariants(group, degree).double()
    vectors = torch.randn(20, 3, dtype=torch.float64)
    found = invariants(vectors)
    for g in group.components:
        torch.testing.assert_close(invariants(vectors @ g.T), found, rtol=1e-12, atol=1e-12)
    assert (invariants(vectors @ torch.diag(torch.tensor([1.0, -1, 1], dtype=torch.float64))) - found).abs().max() > 0.1


def test_what_no_tensors_determine_is_refused():
    with pytest.raises(ValueError, match="the group C11 is not determined by its invariant tensors up to degree 9"):
        tensors_of(SymmetryGroup("C11"))


def test_scalars_of_edges_have_unit_mean_square():
    invariants = EdgeInvariants(SymmetryGroup("C4v"), 4).double()
    vectors = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = invariants(vectors).square().mean(0)
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0.02, atol=0)
