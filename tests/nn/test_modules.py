"""What holds for every module: exact constants, no hidden dtype, tracing, empty input; and what each refuses."""

import copy

import pytest
import torch

from ik_e3nn import nn
from ik_e3nn.constants import ExactModule
from tests.nn import modules


def arguments(module, rows, dtype):
    return [torch.randn(rows, t.dim, dtype=dtype) for t in modules.types_in(module)]


@pytest.mark.parametrize("group", ["O3", "C4v"])
@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_constants_are_exact_after_single_precision(make, group):
    module = make(group).double().eval()
    x = arguments(module, 4, torch.float64)
    state = copy.deepcopy(module.state_dict())
    expected = module(*x)
    module.float().double().load_state_dict(state)
    assert torch.equal(module(*x), expected)


@pytest.mark.parametrize("group", ["O3", "C4v"])
@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_the_ambient_dtype_changes_nothing_but_the_default(make, group):
    module = make(group).double().eval()
    x = arguments(module, 4, torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        other = make(group).eval()
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(*x), module(*x))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        single = module.float()(*[a.float() for a in x])
    finally:
        torch.set_default_dtype(torch.float32)
    assert single.dtype == torch.float32


@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_no_rows(make):
    module = make("C4v")
    y = module(*arguments(module, 0, torch.float32))
    assert y.shape == (0, module.irreps_out.dim)
    y.sum().backward() if y.requires_grad else None


@pytest.mark.parametrize("group", ["O3", "C4v"])
@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_compile_traces_the_whole_module_for_any_number_of_rows(make, group):
    torch.compiler.reset()
    module = make(group).eval()
    compiled = torch.compile(module, fullgraph=True, backend="eager", dynamic=True)
    for rows in (5, 7, 2):
        x = arguments(module, rows, torch.float32)
        assert torch.allclose(compiled(*x), module(*x), atol=1e-6)


@pytest.mark.parametrize("group", ["O3", "C4v"])
@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_export_with_any_number_of_rows(make, group):
    module = make(group).eval()
    x = tuple(arguments(module, 5, torch.float32))
    rows = torch.export.Dim("rows", min=2, max=1000)
    shapes = [{0: rows}] * len(x)
    program = torch.export.export(module, x, dynamic_shapes=tuple(shapes)).module()
    for count in (3, 9):
        x = arguments(module, count, torch.float32)
        assert torch.allclose(program(*x), module(*x), atol=1e-6)


@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_inputs_are_not_changed_and_calls_repeat(make):
    module = make("C4v").eval()
    x = arguments(module, 4, torch.float32)
    kept = [a.clone() for a in x]
    first = module(*x)
    assert torch.equal(module(*x), first)
    assert all(torch.equal(a, b) for a, b in zip(x, kept, strict=True))


@pytest.mark.parametrize("make", modules.ALL, ids=lambda m: m.__name__)
def test_state_holds_no_constants(make):
    """Files keep what is learned: constants are made anew from the mathematics."""
    module = make("C4v")
    parameters = {name for name, _ in module.named_parameters()}
    extra = set(module.state_dict()) - parameters
    assert extra <= {"running_mean", "running_square"}


@pytest.mark.parametrize("make", [modules.square, modules.product, modules.gated_mlp], ids=lambda m: m.__name__)
def test_second_gradients(make):
    module = make("C3v").double()
    x = [a.requires_grad_() for a in arguments(module, 2, torch.float64)]
    assert torch.autograd.gradcheck(module, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(module, x, fast_mode=True)


def test_products_are_e3nns():
    """Channel by channel the full tensor product of O(3), up to the linear map after it: same span."""
    from e3nn import o3

    product = nn.TensorProduct("1x1o", "1x1o + 1x2e", "1x0e + 1x1e + 1x2e + 1x1o + 1x2o + 1x3o", "O3").double()
    full = o3.FullTensorProduct("1o", "1o + 2e")
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 8, dtype=torch.float64)
    z, reference = product(x, y), full(x.float(), y.float()).double()
    for ir in ("0e", "1e", "2e", "1o", "2o", "3o"):
        ours = z[:, product.irreps_out.slices()[[str(i) for _, i in product.irreps_out].index(ir)]]
        theirs = reference[:, full.irreps_out.slices()[[str(i) for _, i in full.irreps_out].index(ir)]]
        ratio = (ours * theirs).sum() / theirs.square().sum()
        assert torch.allclose(ours, ratio * theirs, atol=1e-5)
        assert ratio.abs() > 1e-3


def test_a_square_is_the_product_with_itself():
    square = nn.SelfTensorProduct("2x0e + 2x1o", "2x0e + 2x1o + 1x2e", "C4v").double()
    x = torch.randn(3, 8, dtype=torch.float64)
    assert torch.equal(square(x), square.product(x, x))
    # quadratic: parallelogram identity
    y = torch.randn(3, 8, dtype=torch.float64)
    assert torch.allclose(square(x + y) + square(x - y), 2 * square(x) + 2 * square(y), atol=1e-12)
    assert square(x).abs().max() > 0.1


def test_exact_modules_follow_device_and_dtype():
    module = ExactModule()
    module.register_exact("third", torch.tensor([1 / 3]))
    assert module.double().third.dtype == torch.float64
    copied = copy.deepcopy(module).float()
    assert copied.third.dtype == torch.float32
    assert module.third.dtype == torch.float64
    assert not module.state_dict()
    assert module.to("meta").third.device.type == "meta"


def test_gate_counts():
    gate = nn.Gate("2x0e + 1x0o + 3x1o")
    assert str(gate.irreps_in) == "2x0e+1x0e+3x0e+1x0o+3x1o"
    x = torch.randn(4, gate.irreps_in.dim, dtype=torch.float64)
    y = gate(x)
    assert torch.allclose(y[:, :2], nn.normalized_silu(x[:, :2]))
    factor = y[:, 3:6] / x[:, 7:10]
    assert torch.allclose(factor, factor[:, :1].expand(4, 3))
    assert torch.allclose(factor[:, 0] / torch.sigmoid(x[:, 3]), (factor[:, 0] / torch.sigmoid(x[:, 3]))[0].expand(4))
    only = nn.Gate("3x0e")
    assert torch.equal(only(x[:, :3]), nn.normalized_silu(x[:, :3]))


ERRORS = {
    "scalars .0e. must come first": lambda: nn.Gate("1x1o + 2x0e"),
    "the sphere activation needs the same number of every harmonic.*got 4x0e": lambda: nn.EquivariantMLP(
        "0e", "4x0e + 2x1o", "0e", activation="sphere"
    ),
    "activation must be 'gate', 'sphere' or 'product'; got 'relu'": lambda: nn.EquivariantMLP(
        "0e", "4x0e", "0e", activation="relu"
    ),
    "an MLP needs at least 1 linear layer; got layers=0": lambda: nn.EquivariantMLP("0e", "0e", "0e", layers=0),
    "an MLP needs at least an input and an output size": lambda: nn.ScalarMLP([3]),
    "irreps_in1 must have one multiplicity for all irreps": lambda: nn.TensorProduct("2x0e + 1x1o", "2x0e", "0e"),
    "both factors need the same number of channels": lambda: nn.TensorProduct("2x0e", "3x0e", "0e"),
    "the degree of the grid must be at least 2 l_max = 6": lambda: nn.SphereActivation(1, 3, degree=5),
    "there is no Lebedev grid of degree 120: the largest is 65; use gauss_legendre_rings": lambda: nn.SphereActivation(
        1, 40
    ),
    "mul of 1 or more and l_max of 0 or more; got 2 and -1": lambda: nn.SphereActivation(2, -1),
    "mul of 1 or more and l_max of 0 or more; got 0 and 1": lambda: nn.SphereActivation(0, 1),
    "2 fields on the sphere up to l = 1, dimension 8": lambda: nn.SphereActivation(2, 1)(torch.zeros(3, 7)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_impossible_modules_are_refused(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()
