"""Powers of features: on the sphere and with coupling constants."""

import pytest
import torch
from e3nn import o3

from ik_e3nn import nn
from ik_e3nn.basis import harmonics, sphere_grid
from ik_e3nn.nn.layout import from_components, layout, to_components


def test_layouts_are_inverse_and_linear_maps_do_not_care():
    irreps = o3.Irreps("4x0e + 4x1o + 4x2e")
    x = torch.randn(5, irreps.dim, dtype=torch.float64)
    components = to_components(x, layout(irreps))
    assert components.shape == (9, 5, 4)
    assert torch.equal(from_components(components, layout(irreps)), x)
    # channel c of component m of the second irrep
    assert torch.equal(components[1:4, :, 2], x[:, 4 + 3 * 2 : 4 + 3 * 3].T)
    for group, wanted in (("O3", "3x0e + 3x1o + 3x3o"), ("C4v", "3x0e + 3x1o + 3x3o"), ("SO3", "3x1o + 3x0e")):
        linear = nn.EquivariantLinear(irreps, wanted, group).double()
        expected = linear(x)
        assert torch.allclose(from_components(linear.on_components(components), layout(wanted)), expected, atol=1e-13)


@pytest.mark.parametrize(("l_in", "l_out", "correlation"), [(1, 1, 2), (2, 2, 3), (3, 1, 3), (2, 3, 4)])
def test_products_on_the_sphere_are_products_of_functions(l_in, l_out, correlation):
    """With one channel and unit weights: y(w) is the projection of sum_k x(w)^k, here with a far finer quadrature."""
    irreps_in, irreps_out = (o3.Irreps.spherical_harmonics(l) for l in (l_in, l_out))
    module = nn.SphereProduct(irreps_in, irreps_out, correlation=correlation).double()
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    x = torch.randn(7, irreps_in.dim, dtype=torch.float64)
    points, weights = sphere_grid(47)
    f = x @ harmonics(points, l_in).T / (l_in + 1)
    y = module(x).detach() * correlation**0.5
    shared = min(irreps_in.dim, irreps_out.dim)
    y[:, :shared] -= x[:, :shared]
    Y = harmonics(points, l_out)
    for l in range(l_out + 1):
        part = slice(l * l, (l + 1) ** 2)
        powers = [(f**k * weights) @ Y[:, part] for k in range(2, correlation + 1)]
        # every power has a positive factor of its own, which sets the variance
        factors = torch.linalg.lstsq(torch.stack([p.flatten() for p in powers], 1), y[:, part].flatten()[:, None])
        residual = y[:, part].flatten() - torch.stack([p.flatten() for p in powers], 1) @ factors.solution[:, 0]
        assert residual.abs().max() < 1e-11 * max(1.0, float(y.abs().max()))
        largest = torch.stack([p.abs().max() for p in powers]) > 1e-9
        assert (factors.solution[:, 0][largest] > 0).all()


def test_products_on_the_sphere_are_among_those_of_all_couplings():
    """Gaunt's products are Clebsch-Gordan products with an even sum of degrees."""
    irreps = "1x0e + 1x1o + 1x2e"
    sphere = nn.SphereProduct(irreps, irreps, correlation=2).double()
    all_of_them = nn.TensorProduct(irreps, irreps, irreps).double()
    x = torch.randn(60, 9, dtype=torch.float64)
    y = sphere(x)
    for parameter in all_of_them.parameters():
        torch.nn.init.zeros_(parameter)
    columns = [x[:, :1], x[:, 1:4], x[:, 4:]]
    for block, s in zip(range(3), (slice(0, 1), slice(1, 4), slice(4, 9)), strict=True):
        basis = [columns[block].flatten()]
        weights = all_of_them.linear.weights[block]
        for path in range(weights.shape[0]):
            weights.data.zero_()[path] = 1
            basis.append(all_of_them(x, x)[:, s].flatten())
        weights.data.zero_()
        B = torch.stack(basis, 1).detach()
        fit = B @ torch.linalg.lstsq(B, y[:, s].flatten().detach()[:, None], driver="gelsd").solution
        assert torch.allclose(fit[:, 0], y[:, s].flatten(), atol=1e-9)


@pytest.mark.parametrize("group", ["O3", "SO3", "C4v"])
@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_powers_are_sums_of_homogeneous_functions(group, correlation):
    module = nn.TensorPowers("4x0e + 4x1o", "2x0e + 2x1o", group, correlation=correlation).double()
    x = torch.randn(3, 16, dtype=torch.float64)
    scales = torch.tensor([0.5, 1.0, 2.0, -1.0], dtype=torch.float64)[: correlation + 1]
    values = torch.stack([module(s * x) for s in scales])
    vandermonde = torch.stack([scales**k for k in range(1, correlation + 1)], 1)
    parts = torch.linalg.lstsq(vandermonde, values.flatten(1)).solution
    assert torch.allclose(vandermonde @ parts, values.flatten(1), atol=1e-10)
    assert parts[-1].abs().max() > 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("4x0e + 2x1o", "4x0e"), "one multiplicity"),
        (("4x0e + 4x1e", "4x0e"), "need every harmonic equally often"),
        (("4x0e + 4x1o", "4x1o"), "need every harmonic equally often"),
        (("4x0e + 4x1o", "4x0e", 0), "at least 1 factor"),
    ],
)
def test_what_is_no_function_on_the_sphere(arguments, message):
    *irreps, correlation = arguments if len(arguments) == 3 else (*arguments, 2)
    with pytest.raises(ValueError, match=message):
        nn.SphereProduct(*irreps, correlation=correlation)
    if correlation == 0:
        with pytest.raises(ValueError, match=message):
            nn.TensorPowers(*irreps, correlation=correlation)
