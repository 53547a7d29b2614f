"""The linear layer: all equivariant maps and no others, any layout, clear errors."""

import pytest
import torch
from e3nn import o3

from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup, intertwiners
from tests.nn import modules


@pytest.mark.parametrize("group", modules.GROUPS)
@pytest.mark.parametrize(
    ("irreps_in", "irreps_out"),
    [
        ("2x0e + 1x1o + 3x0e + 1x2e", "1x1o + 2x0e + 2x1o + 1x0e"),
        ("2x1e + 1x1o + 1x0o", "1x1o + 2x1e + 1x0e + 1x1o"),
        ("1x3o + 2x2e", "2x4e + 1x3o + 0x1o"),
    ],
)
def test_the_span_of_all_weights_is_the_space_of_intertwiners(group, irreps_in, irreps_out):
    linear = EquivariantLinear(irreps_in, irreps_out, group).double()
    identity = torch.eye(linear.irreps_in.dim, dtype=torch.float64)

    def matrix(weight):
        return torch.func.functional_call(linear, {"weight": weight}, (identity,)).T

    maps = torch.stack([matrix(w) for w in torch.eye(linear.weight.numel(), dtype=torch.float64)]).flatten(1)
    basis = intertwiners(irreps_in, irreps_out, SymmetryGroup(group)).flatten(1)
    assert len(maps) == len(basis)
    assert (maps - maps @ basis.T @ basis).abs().max() < 1e-11
    assert torch.linalg.matrix_rank(maps) == len(basis)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,), (2, 0, 3)])
def test_any_leading_dimensions(shape):
    for group in ("O3", "C4v"):
        linear = EquivariantLinear("2x0e + 1x1o", "1x1o + 1x0e + 1x3e", group, bias=True)
        x = torch.randn(*shape, 5)
        y = linear(x)
        assert y.shape == (*shape, 11)
        assert torch.allclose(y.reshape(-1, 11), linear(x.reshape(-1, 5)), atol=1e-6)


def test_what_nothing_maps_to_is_zero():
    linear = EquivariantLinear("2x0e + 1o", "0o + 2x1o + 2e", "O3")
    y = linear(torch.randn(3, 5))
    assert (y[:, 0] == 0).all()
    assert (y[:, 7:] == 0).all()
    assert y[:, 1:7].abs().min() > 0
    nothing = EquivariantLinear("1o", "0e", "O3")
    assert nothing.weight.numel() == 0
    assert torch.equal(nothing(torch.randn(3, 3)), torch.zeros(3, 1))


def test_wrong_features_are_refused():
    linear = EquivariantLinear("2x0e + 1o", "0e", "O3")
    with pytest.raises(ValueError, match=r"expected features of 2x0e\+1x1o, dimension 5; got \(3, 4\)"):
        linear(torch.randn(3, 4))
    with pytest.raises(ValueError, match="unknown symmetry group"):
        EquivariantLinear("0e", "0e", "nonsense")


def test_gradients_and_second_gradients():
    for group in ("O3", "C3v"):
        linear = EquivariantLinear("2x0e + 1o", "1o + 0e", group, bias=True).double()
        x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)

        def function(x, weight, linear=linear):
            return torch.func.functional_call(linear, {"weight": weight}, (x,)).sin()

        weight = linear.weight.detach().requires_grad_()
        assert torch.autograd.gradcheck(function, (x, weight))
        assert torch.autograd.gradgradcheck(function, (x, weight))


def test_repr_and_irreps():
    linear = EquivariantLinear("2x0e + 1o", "0e", "C4v")
    assert "2x0e+1x1o -> 1x0e, C4v, 3 weights" in repr(linear)
    assert linear.irreps_out == o3.Irreps("0e")
