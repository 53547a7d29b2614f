import numpy as np
import pytest
import torch

from ik_e3nn.basis import PlaceBasis
from ik_e3nn.symmetry import SymmetryGroup, representation_matrix


@pytest.mark.parametrize("l_max", [0, 1, 3])
def test_it_is_steerable(l_max):
    basis = PlaceBasis(10.0, 6, l_max=l_max).double()
    u = 4 * torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for g in SymmetryGroup("O3").random_elements(3, torch.Generator().manual_seed(0)):
        D = torch.block_diag(
            *[representation_matrix(ir.l, ir.p, g) for mul, ir in basis.irreps_out for _ in range(mul)]
        )
        torch.testing.assert_close(basis(u @ g.T), basis(u) @ D.T, atol=1e-12, rtol=0)


def test_on_a_line_even_and_odd_functions_make_gaussians_on_both_sides():
    basis = PlaceBasis(8.0, 8, l_max=1).double()
    z = torch.linspace(-7, 7, 141, dtype=torch.float64)
    values = basis(torch.stack([0 * z, 0 * z, z], 1))
    even, odd = values[:, :8], values[:, 8:].view(-1, 8, 3)[:, :, 2] / 3**0.5
    right = 0.5 * (even + odd)
    shape = torch.exp(-0.5 * (z[:, None] - basis.centers) ** 2)
    ratio = right[:, 3] / shape[:, 3]
    np.testing.assert_allclose(right, shape * ratio[100], atol=0.01 * float(ratio[100]))  # but for the softening


def test_derivatives_are_those_of_a_smooth_function_at_zero_too():
    basis = PlaceBasis(6.0, 4, l_max=3).double()
    u = torch.tensor([[0.0, 0, 0], [0.001, 0, 0], [0, 1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(basis, u)
    assert torch.autograd.gradgradcheck(basis, u[2:].detach().requires_grad_())


def test_it_is_bounded_and_ends():
    basis = PlaceBasis(6.0, 8, l_max=2)
    r = torch.linspace(0, 60, 500)
    values = basis(torch.stack([r, r, r], 1) / 3**0.5)
    assert values.abs().max() < 20
    assert values[r > 12].abs().max() < 1e-12


def test_impossible_numbers():
    with pytest.raises(ValueError, match="reach must be positive; got 0"):
        PlaceBasis(0.0)
    with pytest.raises(ValueError, match="num_basis must be positive; got 0"):
        PlaceBasis(5.0, 0)
