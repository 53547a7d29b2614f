"""The symmetries of grids against independent rotations of arrays, and errors that the kit must find."""

import numpy as np
import pytest
import torch

from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import EquivarianceError, grid_equivariance_error, grid_symmetries, move_grid

ORDERS = {
    # name: (elements that keep the square grid in the plane, the cubic grid)
    "C1": (1, 1), "C3": (1, 1), "C8": (4, 4), "C4v": (8, 8), "D4h": (16, 16), "T": (4, 12), "Td": (8, 24), "O": (8, 24),
    "Oh": (16, 48), "I": (4, 12), "SO2": (4, 4), "Cinfv": (8, 8), "Dinfh": (16, 16), "SO3": (8, 24), "O3": (16, 48),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_the_numbers_of_symmetries(name):
    for dims, order in zip((2, 3), ORDERS[name], strict=True):
        elements = grid_symmetries(name, dims)
        assert len(elements) == order
        assert torch.equal(elements[0], torch.eye(3, dtype=torch.float64))
        assert (elements.abs().sum(1) == 1).all()


def test_a_quarter_turn_is_numpys():
    x = torch.randn(2, 1, 4, 5)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    expected = np.rot90(x.numpy(), axes=(2, 3))  # from the first axis towards the second, as x turns towards y
    assert torch.equal(move_grid(x, "0e", turn), torch.from_numpy(expected.copy()))


def test_a_field_of_positions_is_its_own_image():
    """f(x) = x is an equivariant vector field: (g f)(x) = g f(g^-1 x) = x."""
    ticks = torch.arange(-1.0, 2.0)
    positions = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"))[None]
    for g in grid_symmetries("Oh", 3):
        assert torch.allclose(move_grid(positions, "1o", g), positions, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_moves_compose(dims):
    x = torch.randn(1, 9, *(4, 4, 4)[:dims], dtype=torch.float64)
    elements = grid_symmetries("Oh", dims)
    for a, b in zip(elements, elements.roll(5, 0), strict=True):
        twice = move_grid(move_grid(x, "0e + 1o + 2e", b), "0e + 1o + 2e", a)
        assert torch.allclose(twice, move_grid(x, "0e + 1o + 2e", a @ b), atol=1e-12)


def test_broken_symmetries_are_found():
    elements = grid_symmetries("C4", 2)
    x = torch.randn(2, 3, 4, 4)
    assert grid_equivariance_error(lambda f: f, "1o", "1o", elements, features=x) < 1e-6
    assert grid_equivariance_error(torch.relu, "1o", "1o", elements, features=x) > 0.1
    assert grid_equivariance_error(lambda f: f.cumsum(3), "1o", "1o", elements, features=x) > 0.1
    with pytest.raises(EquivarianceError, match="the output of type 1o is zero everywhere"):
        grid_equivariance_error(lambda f: 0 * f, "1o", "1o", elements, features=x)


@pytest.mark.parametrize("name", ["C1", "C4v", "D3d", "S4", "Th", "Ih", "SO2", "Cinfh", "Dinf", "Dinfh", "SO3", "O3"])
@pytest.mark.parametrize("axis", [(0.0, 0.0, 1.0), (1.0, 2.0, 0.5)])
def test_a_group_contains_its_elements_and_no_others(name, axis):
    group = SymmetryGroup(name, axis)
    for g in group.random_elements(6, torch.Generator().manual_seed(0)):
        assert group.contains(g)
    others = SymmetryGroup("O3").random_elements(6, torch.Generator().manual_seed(1))
    assert [group.contains(g) for g in others] == [
        name == "O3" or (name == "SO3" and bool(g.det() > 0)) for g in others
    ]
