"""The measure of equivariance: zero for what commutes, large for what does not."""

import pytest
import torch
from e3nn import o3

from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import (
    EquivarianceError,
    assert_equivariant,
    assert_not_equivariant,
    equivariance_error,
    representation,
)


def test_e3nns_modules_are_equivariant_and_others_are_not():
    linear = o3.Linear("2x0e + 1o + 2e", "0e + 2x1o + 2e").double()
    assert 0 < assert_equivariant(linear) < 1e-12
    product = o3.FullTensorProduct("1o", "1o + 2e")
    assert_equivariant(product, ["1o", "1o + 2e"], product.irreps_out)
    # e3nn keeps its 3j symbols in the dtype they were made in: exact to 1e-7 only
    assert assert_equivariant(product.double(), ["1o", "1o + 2e"], product.irreps_out, tolerance=1e-6) > 1e-9
    assert_not_equivariant(torch.nn.Linear(3, 3).double(), "1o", "1o")
    with pytest.raises(
        EquivarianceError, match="relu under O3: the relative error of equivariance is .*allowed 1.0e-11"
    ):
        assert_equivariant(torch.relu, "1o", "1o")
    with pytest.raises(EquivarianceError, match="the symmetry is not broken; relative error"):
        assert_not_equivariant(linear)


def test_the_group_decides():
    def z_component(x):
        return x[:, 2:]

    assert_equivariant(z_component, "1o", "0e", "Cinfv")
    assert_not_equivariant(z_component, "1o", "0e", "Cinfh")
    assert_equivariant(z_component, "1o", "0o", "SO2")
    x_component = SymmetryGroup("C4v", axis=(1, 0, 0))
    assert_equivariant(lambda x: x[:, :1], "1o", "0e", x_component)


def test_errors_are_relative_to_the_output():
    def small(x):
        return 1e-6 * x + 1e-9 * x.abs()

    assert 1e-4 < equivariance_error(small, "1o", "1o") < 1e-2


def test_several_arguments_and_results():
    def cross_and_dot(a, b):
        return torch.linalg.cross(a, b), (a * b).sum(1, keepdim=True)

    assert_equivariant(cross_and_dot, ["1o", "1o"], ["1e", "0e"])
    assert_not_equivariant(cross_and_dot, ["1o", "1o"], ["1o", "0e"])
    assert_equivariant(cross_and_dot, ["1o", "1o"], ["1o", "0e"], "SO3")


def test_single_precision_is_asked_for_by_parameters_or_dtype():
    linear = o3.Linear("4x1o", "4x1o")
    assert linear.weight.dtype == torch.float32
    assert 1e-9 < assert_equivariant(linear) < 1e-4
    assert 1e-9 < assert_equivariant(lambda x: x * x.norm(dim=1, keepdim=True), "1o", "1o", dtype=torch.float32) < 1e-4


def test_given_arguments_are_used():
    seen = []

    def remember(x):
        seen.append(x)
        return x

    x = torch.randn(2, 3, dtype=torch.float64)
    assert_equivariant(remember, "1o", "1o", inputs=[x])
    assert seen[0] is x
    with pytest.raises(ValueError, match="got 2 arguments for 1 types"):
        equivariance_error(remember, "1o", "1o", inputs=[x, x])


def test_zero_and_nan_outputs_prove_nothing():
    with pytest.raises(EquivarianceError, match="has size 0"):
        equivariance_error(torch.zeros_like, "1o", "1o")
    with pytest.raises(EquivarianceError, match="has size nan"):
        equivariance_error(lambda x: x * torch.nan, "1o", "1o")
    calls = []

    def later_nan(x):
        calls.append(1)
        return x if len(calls) == 1 else x * torch.nan

    assert equivariance_error(later_nan, "1o", "1o") > 1e300


def test_types_are_needed_and_must_fit():
    with pytest.raises(ValueError, match="irreps_in is needed: .*has no attribute of that name"):
        equivariance_error(torch.relu)
    with pytest.raises(ValueError, match=r"results of shapes \[\(8, 3\)\] do not have the types"):
        equivariance_error(torch.relu, "1o", "2e")


def test_representations_of_sums_are_block_diagonal():
    g = SymmetryGroup("O3").random_elements(1, torch.Generator().manual_seed(0))[0]
    D = representation("2x1o + 0o", g)
    assert torch.allclose(D[:3, :3], g)
    assert torch.allclose(D[3:6, 3:6], g)
    assert D[6, 6] == torch.linalg.det(g).round()
    assert representation("", g).shape == (0, 0)
