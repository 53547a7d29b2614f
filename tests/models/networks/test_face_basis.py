"""Functions of places over a crystal face."""

import math

import pytest
import torch

from ik_e3nn.blocks.face_basis import DECAY, FaceBasis
from ik_e3nn.symmetry import PlaneGroup, representation_matrix
from ik_e3nn.symmetry.plane import GENERATORS

HEXAGONAL = [[2.6, 0.0], [-1.3, 1.3 * math.sqrt(3)]]
CELLS = {"3": HEXAGONAL, "6": HEXAGONAL, "4": [[2.6, 0.0], [0.0, 2.6]]}


def plane_of(name):
    return PlaneGroup(name, CELLS.get(name[1], [[2.4, 0.0], [0.0, 3.1]]))


def places(number, low, high):
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(number, 3, generator=generator, dtype=torch.float64)
    return u * torch.tensor([9.0, 9.0, high - low]) + torch.tensor([0.0, 0.0, low])


@pytest.mark.parametrize("name", GENERATORS)
def test_values_transform_with_the_plane_group_and_no_rotation_fixes_them_at_a_general_place(name):
    plane = plane_of(name)
    basis, u = FaceBasis(plane, 5.0, 2).double(), places(6, 0.0, 4.0)
    before = basis(u)
    for g, t in zip(plane.matrices, plane.shifts @ plane.cell, strict=True):
        moved = u @ g.T
        moved[:, :2] += t + plane.cell[0] - 2 * plane.cell[1]
        for (mul, ir), columns in zip(basis.irreps_out, basis.irreps_out.slices(), strict=True):
            values, D = before[:, columns].unflatten(1, (mul, ir.dim)), representation_matrix(ir.l, ir.p, g)
            torch.testing.assert_close(basis(moved)[:, columns], (values @ D.T).flatten(1), atol=1e-11, rtol=0)
    vectors = before[:, basis.irreps_out.slices()[1]].unflatten(1, (-1, 3))
    assert torch.linalg.svdvals(vectors)[:, 2].min() > 1e-3  # three independent vectors


def test_waves_fade_with_height_and_constants_reach_farther():
    """Waves reach to about 14 / G, what is constant along the face to 10 A, and nothing farther up or down."""
    basis = FaceBasis(plane_of("p4m"), 10.0, 0).double()
    height = DECAY / (2 * math.pi / 2.6)
    assert basis(places(50, height / 2, height / 2)).var(0).max() > 1e-3
    assert basis(places(50, height + 3.5, height + 3.5)).var(0).max() < 1e-6
    assert basis(places(50, height + 3.5, height + 3.5)).abs().max() > 0.1
    assert basis(places(50, 14.0, 90.0)).abs().max() < 1e-6
    assert basis(places(50, -90.0, -5.0)).abs().max() < 1e-4


def test_values_are_smooth_and_of_order_one():
    basis = FaceBasis(plane_of("p31m"), 5.0, 1).double()
    u = places(200, 0.0, 5.0).requires_grad_()
    assert 0.5 < float(basis(u).detach().square().mean().sqrt()) < 2.0
    assert torch.autograd.gradcheck(basis, u[:3])
