"""Representation matrices: e3nn's basis, exact to rounding, and a homomorphism."""

import math

import pytest
import torch
from e3nn import o3

from ik_e3nn.symmetry import SymmetryGroup, representation_matrix
from ik_e3nn.symmetry.wigner import rotation_generators, rotation_vector
from tests.symmetry import textbook


@pytest.fixture(scope="module")
def elements():
    random = SymmetryGroup("O3").random_elements(8, torch.Generator().manual_seed(0))
    special = [torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ((1, 1, 1), (-1, -1, 1), (-1, -1, -1))]
    swap = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, -1]], dtype=torch.float64)  # half a turn about (1, 1, 0)
    return torch.cat([random, torch.stack([*special, swap, -swap])])


@pytest.mark.parametrize("l", range(textbook.L_MAX + 1))
@pytest.mark.parametrize("p", [1, -1])
def test_the_matrices_rotate_e3nns_harmonics(l, p, elements):
    expected = textbook.representations(elements, l, p)
    found = torch.stack([representation_matrix(l, p, g) for g in elements])
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("l", range(textbook.L_MAX + 1))
def test_the_matrices_are_those_of_e3nn(l, elements):
    """e3nn goes through Euler angles, with an error of about 1e-6 at gimbal lock: hence the loose tolerance."""
    for p in (1, -1):
        for g in elements:
            assert (representation_matrix(l, p, g) - o3.Irrep(l, p).D_from_matrix(g)).abs().max() < 2e-5


@pytest.mark.parametrize("l", [0, 1, 3, 8, 16])
def test_homomorphism_and_orthogonality(l, elements):
    D = {p: torch.stack([representation_matrix(l, p, g) for g in elements]) for p in (1, -1)}
    products = torch.stack([elements[i] @ elements[-1 - i] for i in range(len(elements))])
    for p, matrices in D.items():
        of_products = torch.stack([representation_matrix(l, p, g) for g in products])
        assert (matrices @ matrices.flip(0) - of_products).abs().max() < 1e-12
        assert (matrices @ matrices.mT - torch.eye(2 * l + 1, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize("l", [1, 2, 5, 12])
def test_generators_are_those_of_rotations(l):
    X = rotation_generators(l)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        assert (X[i] @ X[j] - X[j] @ X[i] - X[k]).abs().max() < 1e-11
    assert (X + X.mT).abs().max() < 1e-14
    assert ((X @ X).sum(0) + l * (l + 1) * torch.eye(2 * l + 1, dtype=torch.float64)).abs().max() < 1e-10


def test_vectors_transform_by_the_matrix_itself(elements):
    for g in elements:
        assert (representation_matrix(1, -1, g) - g).abs().max() < 1e-14


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-7, math.pi])
def test_axis_and_angle_are_accurate_near_zero_and_near_half_a_turn(angle):
    axis = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], dtype=torch.float64)
    found = rotation_vector(torch.matrix_exp(angle * cross))
    expected = angle * axis
    difference = min((found - expected).abs().max(), (found + expected).abs().max() if angle == math.pi else math.inf)
    assert difference < 1e-14 + 1e-15 * angle
