"""The convolution of a grid is the point convolution between its points, exactly symmetric as the grid is."""

import copy
import functools
import itertools

import pytest
import torch
from e3nn import o3

from ik_e3nn.basis import BesselBasis, PolynomialBasis, RadialHarmonicBasis
from ik_e3nn.conv import GridConv, PointConv, Stencil
from ik_e3nn.kernels import ImplicitKernel, RadialKernel
from ik_e3nn.testing import TOLERANCE, grid_equivariance_error, grid_symmetries

PLANE_GROUPS = ("C2", "Cs", "C2v", "C4", "C4v", "C8v", "C4h", "D2", "D4", "D2d", "D4h", "S4", "T", "Td", "O", "Oh")
SPACE_GROUPS = ("Ci", "C3v", "D4h", "S4", "T", "Td", "Th", "O", "Oh", "Ih")
CONTINUOUS = ("SO2", "Cinfv", "Cinfh", "Dinf", "Dinfh", "SO3", "O3")
TYPES = "2x0e + 1x1o + 1x2e", "1x0e + 1x0o + 1x1e + 1x1o"


def make(group="C4v", dims=2, attributes="", types=TYPES, size=5, **options):
    activation = options.pop("activation", "gate")
    basis = PolynomialBasis(2, sigma=0.4 * size)
    kernel = ImplicitKernel(attributes, "2x0e + 2x1o + 2x2e", group, basis=basis, depth=1, activation=activation)
    stencil = Stencil(size, dims=dims, spacing=options.pop("spacing", 1.0), dilation=options.pop("dilation", 1))
    conv = GridConv(*types, kernel, stencil=stencil, **options)
    with torch.no_grad():  # biases too
        for parameter in kernel.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return conv


def features(conv, *shape, dtype=torch.float64):
    return torch.randn(shape[0], conv.irreps_in.dim, *shape[1:], dtype=dtype)


def explicit_kernel(conv, attributes=None):
    """Every point of the cube one by one: zero outside the ball, else the kernel from there to the center."""
    s = conv.stencil
    center = (s.size - 1) / 2
    weight = torch.zeros(conv.irreps_out.dim, conv.irreps_in.dim, *s.shape, dtype=torch.float64)
    for index in itertools.product(range(s.size), repeat=s.dims):
        steps = [k - center for k in index]
        if sum(k * k for k in steps) <= (s.size / 2) ** 2:
            r = [-s.dilation * s.spacing * k for k in steps] + [0.0] * (3 - s.dims)
            K = conv.kernel.matrix(conv.conv, torch.tensor([r], dtype=torch.float64), attributes)[0]
            weight[(slice(None), slice(None), *index)] = K * conv.conv.normalization
    return weight


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", ["full", "depthwise"])
def test_it_is_the_point_convolution_between_the_points_of_the_grid(dims, mode):
    """Edges from every point to every other within the mask, with their vectors, through PointConv itself."""
    types = ("2x0e + 2x1o", "1x0e + 2x1o + 1x2e")
    conv = make("C4v", dims, types=types, size=3, spacing=0.7, mode=mode).double()
    shape = (4, 3, 2)[:dims]
    x = features(conv, 1, *shape)
    places = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in shape])
    positions = 0.7 * torch.nn.functional.pad(places, (0, 3 - dims))
    senders, receivers = (torch.cdist(positions, positions) <= 0.7 * 1.5 + 1e-9).nonzero().T
    h = conv.kernel(positions[receivers] - positions[senders])
    expected = conv.conv(x[0].flatten(1).T, torch.stack([senders, receivers]), h)
    assert expected.abs().max() > 0.1
    assert torch.allclose(conv(x)[0].flatten(1).T, expected, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 0}, {"padding": 3}, {"stride": 2}, {"dilation": 2}, {"stride": 2, "dilation": 2, "padding": 1},
     {"size": 4, "stride": 2}, {"size": 1}, {"size": 4, "stride": 3, "padding": 2}],
    ids=str,
)  # fmt: skip
def test_stride_padding_dilation_are_those_of_torch(dims, options):
    conv = make("C1", dims, **options).double()
    x = features(conv, 2, *(9, 11, 10)[:dims])
    convolve = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}[dims]
    padding = options.get("padding", conv.stencil.padding(conv.stride))
    expected = convolve(
        x, explicit_kernel(conv), stride=options.get("stride", 1), padding=padding, dilation=options.get("dilation", 1)
    )
    y = conv(x)
    assert y.shape == expected.shape
    assert expected.abs().max() > 0.1
    assert (y - expected).abs().max() < 1e-11


@functools.cache
def plane_symmetries(name):
    return grid_symmetries(name, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("activation", ["gate", "sphere"])
@pytest.mark.parametrize("group", PLANE_GROUPS + CONTINUOUS)
def test_the_plane_is_exactly_symmetric(group, activation, dtype):
    conv = make(group, activation=activation).to(dtype)
    elements = plane_symmetries(group)
    assert len(elements) > 1
    error = grid_equivariance_error(conv, *TYPES, elements, features=features(conv, 2, 6, 6, dtype=dtype))
    assert error < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("group", SPACE_GROUPS + CONTINUOUS)
def test_space_is_exactly_symmetric(group, dtype):
    conv = make(group, 3, size=3).to(dtype)
    elements = grid_symmetries(group, 3)
    assert len(elements) > 1
    error = grid_equivariance_error(conv, *TYPES, elements, features=features(conv, 1, 4, 4, 4, dtype=dtype))
    assert error < TOLERANCE[dtype]


def test_all_48_elements_of_the_cube_also_with_stride_and_the_sphere_activation():
    conv = make("O3", 3, size=4, stride=2, activation="sphere").double()
    elements = grid_symmetries("O3", 3)
    assert len(elements) == 48
    x = features(conv, 2, 6, 6, 6)
    assert conv(x).shape == (2, conv.irreps_out.dim, 3, 3, 3)
    assert grid_equivariance_error(conv, *TYPES, elements, features=x) < TOLERANCE[torch.float64]


@pytest.mark.parametrize(("group", "larger"), [("C4", "C4v"), ("C2v", "C4v"), ("SO2", "Cinfv"), ("C1", "C2")])
def test_symmetries_outside_of_the_group_are_broken(group, larger):
    conv = make(group).double()
    others = torch.stack([g for g in plane_symmetries(larger) if not conv.group.contains(g)])
    assert grid_equivariance_error(conv, *TYPES, others, features=features(conv, 2, 6, 6)) > 0.1


def test_axes_of_different_lengths():
    conv = make("C4v").double()
    assert grid_equivariance_error(conv, *TYPES, plane_symmetries("C4v"), features=features(conv, 1, 5, 9)) < 1e-11


@pytest.mark.parametrize("dims", [2, 3])
def test_attributes_condition_every_sample_and_turn_with_it(dims):
    conv = make("C4v", dims, "2x0e + 1x1o", size=3).double()
    a = torch.randn(3, 5, dtype=torch.float64)
    x = features(conv, 3, *(5,) * dims)
    y = conv(x, a)
    for i in range(3):
        assert torch.allclose(y[i : i + 1], conv(x[i : i + 1], a[i : i + 1]), atol=1e-12)
        convolve = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}[dims]
        assert torch.allclose(y[i : i + 1], convolve(x[i : i + 1], explicit_kernel(conv, a[i : i + 1]), padding=1))
    assert (conv(x, a.roll(1, 0)) - y).abs().max() > 0.1
    elements = grid_symmetries("C4v", dims)
    error = grid_equivariance_error(conv, *TYPES, elements, features=x, attributes=("2x0e + 1x1o", a))
    assert error < TOLERANCE[torch.float64]
    fixed = grid_equivariance_error(lambda f: conv(f, a), *TYPES, elements, features=x)
    assert fixed > 0.1  # a vector that stays where it is breaks the symmetry


@pytest.mark.parametrize("attributes", ["", "1x1o"])
def test_channel_groups_do_not_see_each_other(attributes):
    types = ("2x0e + 4x1o", "4x0e + 2x2e")
    conv = make("C4v", attributes=attributes, types=types, channel_groups=2).double()
    x = features(conv, 2, 6, 6)
    a = (torch.randn(2, 3, dtype=torch.float64),) if attributes else ()
    y = conv(x, *a)
    assert (
        grid_equivariance_error(
            conv, *types, plane_symmetries("C4v"), features=x, attributes=(attributes, *a) if a else None
        )
        < TOLERANCE[torch.float64]
    )
    changed = x.clone()
    changed[:, [0, *range(2, 8)]] += 1  # the first 0e, the first two 1o
    moved = (conv(changed, *a) - y).abs().amax((0, 2, 3)) > 1e-9
    first = [True, True, False, False] + [True] * 5 + [False] * 5
    assert moved.tolist() == first


def trained_step(conv, x):
    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.1)
    conv(x).square().sum().backward()
    optimizer.step()


def through_state(conv, x):
    state = {name: value + 0.1 for name, value in conv.state_dict().items()}
    conv.load_state_dict(state)


def assigned_state(conv, x):
    state = {name: (value + 0.1).clone() for name, value in conv.state_dict().items()}
    conv.load_state_dict(state, assign=True)


def other_kernel(conv, x):
    conv.kernel = make("C4v").double().kernel


def other_dtype(conv, x):
    conv.float().double()
    with torch.no_grad():
        conv.kernel.basis.shell.log_sigma += 0.3


@pytest.mark.parametrize("change", [trained_step, through_state, assigned_state, other_kernel, other_dtype])
def test_the_folded_kernel_is_kept_until_a_weight_changes(change):
    conv = make("C4v").double().eval()
    x = features(conv, 1, 6, 6)
    with torch.no_grad():
        before = conv(x)
        kept = conv._folded()
        assert conv._folded() is kept
        assert torch.equal(conv(x), before)
    change(conv, x)
    with torch.no_grad():
        after = conv(x)
        assert (after - before).abs().max() > 1e-3
        assert torch.equal(after, conv.train()(x))
        assert conv._folded() is not conv._folded()  # in training it is computed at every call


def test_in_evaluation_weights_still_receive_gradients():
    conv = make("C4v").double()
    x = features(conv, 1, 6, 6).requires_grad_()
    gradients = []
    for mode in (conv.train(), conv.eval()):
        gradients.append(torch.autograd.grad(mode(x).square().sum(), [x, *conv.parameters()]))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    assert all(g.abs().max() > 0 for g in gradients[0])


def test_a_kernel_folded_in_inference_mode_serves_gradients_by_features():
    conv = make("C4v").double().eval().requires_grad_(False)
    x = features(conv, 1, 6, 6)
    with torch.inference_mode():
        expected = conv(x)
    x.requires_grad_()
    y = conv(x)
    assert torch.equal(y, expected)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.abs().max() > 0.1


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        conv = make("C4v").double().eval()
        x = features(conv, 1, 6, 6)
        expected = conv(x)
        next(conv.parameters()).add_(1.0)  # not counted: so nothing may be kept
        assert (conv(x) - expected).abs().max() > 1e-3


def test_copies_do_not_share_the_folded_kernel():
    conv = make("C4v").double().eval()
    x = features(conv, 1, 6, 6)
    with torch.no_grad():
        expected = conv(x)
        other = copy.deepcopy(conv)
        assert other._kept is None
        assert torch.equal(other(x), expected)
        next(other.parameters()).add_(1.0)
        assert (other(x) - expected).abs().max() > 1e-3
        assert torch.equal(conv(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("attributes", ["", "1x0e"])
def test_empty_batches_and_tiny_grids(dims, attributes):
    conv = make("C4v", dims, attributes)
    extra = (torch.zeros(0, 1),) if attributes else ()
    x = features(conv, 0, *(6,) * dims, dtype=torch.float32).requires_grad_()
    y = conv(x, *extra)
    assert y.shape == (0, conv.irreps_out.dim, *(6,) * dims)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.shape == x.shape
    one = features(conv, 1, *(1,) * dims, dtype=torch.float32)
    assert conv(one, *[torch.ones(1, 1)] * len(extra)).shape == (1, conv.irreps_out.dim, *(1,) * dims)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("attributes", ["", "2x0e + 1x1o"])
@pytest.mark.parametrize("kind", ["polynomials", "polynomials, normalized", "bessel", "radial"])
def test_a_random_layer_keeps_unit_variance(dims, attributes, kind):
    """Of features of unit variance, far from the border, on average over channels and seeds."""
    if kind == "radial" and attributes:
        attributes = "2x0e"
    ratios = []
    for seed in range(4):
        torch.manual_seed(seed)
        stencil = Stencil(5, dims=dims)
        hidden = "4x0e + 4x1o + 4x2e"
        if kind == "radial":
            count = o3.Irreps(attributes).dim
            kernel = RadialKernel(f"{count}x0e", 4, radial=BesselBasis(stencil.reach, 4), l_max=2)
        else:
            basis = (
                RadialHarmonicBasis(BesselBasis(stencil.reach, 4), 2)
                if kind == "bessel"
                else PolynomialBasis(2, sigma=1.2)
            )
            norm = kind.endswith("normalized")
            kernel = ImplicitKernel(attributes, hidden, "C4v", basis=basis, batch_norm=norm)
        conv = GridConv("4x0e + 4x1o", "8x0e + 8x1o + 8x2e", kernel, stencil=stencil, padding=0)
        x = features(conv, 6, *(7,) * dims, dtype=torch.float32)
        a = (torch.randn(6, kernel.irreps_attributes.dim),) if attributes else ()
        with torch.no_grad():
            ratios.append(conv(x, *a).square().mean())
    assert 0.5 < torch.stack(ratios).log().mean().exp() < 2


def test_the_width_of_the_shell_is_learned():
    conv = make("C4v")
    loss = conv(features(conv, 1, 6, 6, dtype=torch.float32)).square().sum()
    (gradient,) = torch.autograd.grad(loss, conv.kernel.basis.shell.log_sigma)
    assert gradient.abs() > 1e-3


def test_constants_are_exact_and_the_ambient_dtype_does_not_matter():
    conv = make("C4v", spacing=0.3).double()
    x = features(conv, 1, 6, 6)
    state, expected = copy.deepcopy(conv.state_dict()), conv(x)
    conv.float().double().load_state_dict(state)
    assert torch.equal(conv(x), expected)
    torch.set_default_dtype(torch.float64)
    try:
        other = make("C4v", spacing=0.3)
        other.load_state_dict(state)
        assert torch.equal(other(x), expected)
        assert other.float()(x.float()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch 2.13, of its own tracer
def test_compile_traces_the_whole_convolution():
    torch.compiler.reset()
    conv = make("C4v").double().eval()
    compiled = torch.compile(conv, fullgraph=True, backend="eager")
    x = features(conv, 2, 6, 6)
    with torch.no_grad():
        assert torch.allclose(compiled(x), conv(x), atol=1e-12)


def test_inputs_are_not_changed():
    conv = make("C4v", attributes="1x0e", channel_groups=1)
    x, a = features(conv, 2, 6, 6, dtype=torch.float32), torch.randn(2, 1)
    kept = x.clone(), a.clone()
    conv(x, a)
    assert torch.equal(x, kept[0])
    assert torch.equal(a, kept[1])


def test_what_does_not_fit_is_refused():
    conv = make("C4v", attributes="1x1o")
    x = torch.randn(2, 10, 6, 6)
    with pytest.raises(
        ValueError, match=r"features must have shape \(B, 10, X, Y\) for 2x0e\+1x1o\+1x2e.*\(2, 9, 6, 6\)"
    ):
        conv(x[:, 1:], torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"features must have shape \(B, 10, X, Y, Z\).*got \(2, 10, 6, 6\)"):
        make("C4v", 3)(x)
    with pytest.raises(ValueError, match=r"attributes must have shape \(2, 3\): one row per sample.*got \(1, 3\)"):
        conv(x, torch.randn(1, 3))
    with pytest.raises(ValueError, match="this kernel needs attributes of type 1x1o"):
        conv(x)
    with pytest.raises(ValueError, match="does not fit on a grid of 4"):
        make("C4v", padding=0)(x[..., :4])
    with pytest.raises(ValueError, match="leaves out 1 on one side only"):
        make("C4v", stride=2)(x)
    assert make("C1", stride=2)(x).shape[2:] == (3, 3)  # nothing to keep
    for types in (("", "1x0e"), ("1x0e", "")):
        with pytest.raises(ValueError, match="a convolution needs input and output fields; got .*none"):
            make("C4v", types=types)
    kernel = ImplicitKernel("", "2x0e", "C4v", basis=PolynomialBasis(2), batch_norm=True)
    with pytest.raises(ValueError, match="zero everywhere on the stencil of 1 points.*2x0e.*without batch norm"):
        GridConv("1x0e", "1x0e", kernel, stencil=Stencil(1))  # all of its scalars are subtracted
    with pytest.raises(ValueError, match="stride of a convolution must be 1 or more; got 0"):
        make("C4v", stride=0)
    with pytest.raises(ValueError, match="padding of a convolution must be 0 or more; got -1"):
        make("C4v", padding=-1)
    with pytest.raises(ValueError, match="channel_groups of a convolution must be 1 or more; got 0"):
        make("C4v", channel_groups=0)
    with pytest.raises(ValueError, match="channel_groups must divide all multiplicities; got 2 for 2x0e"):
        make("C4v", channel_groups=2)


def test_the_engine_under_it_is_the_point_convolution():
    assert isinstance(make().conv, PointConv)
