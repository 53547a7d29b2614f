"""Sums of outer products over edges, in C++ and as tensor operations, are those of their definition."""

import pytest
import torch

from ik_e3nn.conv import outer_sums as module
from ik_e3nn.conv.outer_sums import are_compiled, gradient_by_torch, outer_sums, sums_by_torch

SIZES = {  # degrees L, components M, channels C
    "scalars": (1, 1, 1),
    "odd channels": (3, 4, 5),
    "six channels": (2, 9, 6),
    "medium": (4, 4, 32),
    "largest degree of C++": (7, 1, 2),
    "beyond it": (8, 1, 2),
}
NODES, BLOCKS, WIDTH, RECEIVERS = 7, 9, 3, 5


def case(size, dtype=torch.float64, owners=(0, 0, 1, 2, 2, 2, 4, 4, 4)):
    """Harmonics, radial functions and features that are differentiated, and edges; receiver 3 has none."""
    L, M, C = SIZES[size]
    shapes = ((BLOCKS * WIDTH, L * L), (BLOCKS * WIDTH, L, C), (M, NODES, C))
    factors = [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return factors, (torch.randint(NODES, (BLOCKS, WIDTH)), torch.tensor(owners), RECEIVERS)


def by_definition(Y, R, x, senders, owners, size):
    """Z, edge by edge."""
    degree = [l for l in range(R.shape[1]) for _ in range(2 * l + 1)]
    Z = [[] for _ in range(size)]
    for e, sender in enumerate(senders.flatten().tolist()):
        Z[int(owners[e // senders.shape[1]])].append(Y[e, :, None, None] * R[e, degree, None] * x[None, :, sender])
    zero = x.new_zeros(Y.shape[1], x.shape[0], x.shape[2])
    return torch.stack([sum(products, zero) for products in Z], 2)


def derivatives(function, factors, edges):
    """Values, gradient, and gradient of a function of the gradient, as for forces in a loss."""
    Z = function(*factors, *edges)
    weight = torch.linspace(-1, 1, Z.numel(), dtype=Z.dtype).view(Z.shape).requires_grad_()
    first = torch.autograd.grad((Z * weight).sin().sum(), factors, create_graph=True)
    second = torch.autograd.grad(sum(f.square().sum() for f in first), [*factors, weight])
    return [Z, *first, *second]


@pytest.fixture(params=[1, 2])
def threads(request):
    """One thread, and two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=["C++", "tensor operations"])
def code(request, monkeypatch):
    """Both kinds of code."""
    if request.param != "C++":
        monkeypatch.setattr(module, "library", lambda _: None)
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("threads")
def test_values_and_two_derivatives(size):
    factors, edges = case(size)
    found = derivatives(outer_sums, factors, edges)
    torch.testing.assert_close(found, derivatives(by_definition, factors, edges), rtol=1e-12, atol=1e-12)


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(module, "library", lambda _: None)
    factors, edges = case("odd channels")
    expected = derivatives(by_definition, factors, edges)
    torch.testing.assert_close(derivatives(outer_sums, factors, edges), expected, rtol=1e-12, atol=1e-12)


def test_tensor_operations_can_be_differentiated_too():
    """Graphs for torch's compiler consist of them."""
    factors, edges = case("odd channels")
    found = derivatives(sums_by_torch, factors, edges)
    torch.testing.assert_close(found, derivatives(by_definition, factors, edges), rtol=1e-12, atol=1e-12)
    g = torch.randn_like(found[0])
    expected = torch.autograd.grad(by_definition(*factors, *edges), factors, g)
    torch.testing.assert_close(list(gradient_by_torch(g, *factors, *edges[:2])), list(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("code")
def test_a_third_derivative():
    factors, edges = case("scalars")
    assert torch.autograd.gradgradcheck(
        lambda *f: torch.autograd.grad(outer_sums(*f, *edges).square().sum(), f, create_graph=True), factors
    )


def test_single_precision():
    factors, edges = case("medium", torch.float32)
    doubles = [f.detach().double() for f in factors]
    with torch.no_grad():
        found, expected = outer_sums(*factors, *edges), by_definition(*doubles, *edges)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@pytest.mark.usefixtures("threads", "code")
def test_receivers_in_any_order_and_tensors_in_pieces():
    (Y, R, x), edges = case("odd channels", owners=(2, 0, 2, 4, 0, 1, 4, 2, 0))
    pieces = [Y.mT.contiguous().mT, R.transpose(0, 2).contiguous().transpose(0, 2), x.mT.contiguous().mT]
    found = derivatives(outer_sums, pieces, edges)
    torch.testing.assert_close(found, derivatives(by_definition, [Y, R, x], edges), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"senders": NODES}, {"senders": -1}, {"owners": RECEIVERS}, {"owners": -1}])
def test_an_index_that_does_not_exist(wrong):
    factors, (senders, owners, size) = case("scalars")
    assert are_compiled(factors[2], 1)
    edges = {"senders": senders, "owners": owners}
    for name, value in wrong.items():
        edges[name].view(-1)[-1] = value
    with pytest.raises(IndexError, match="senders must be from 0 to 6 and receivers from 0 to 4; some are not"):
        outer_sums(*factors, **edges, size=size)


@pytest.mark.usefixtures("code")
def test_no_edges():
    Y, R, x = torch.zeros(0, 4), torch.zeros(0, 2, 3), torch.ones(1, 2, 3)
    none = torch.zeros(0, dtype=torch.long)
    assert outer_sums(Y, R, x, none.view(0, 8), none, 2).equal(torch.zeros(4, 1, 2, 3))


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("name", ["outer_sums", "outer_sums_gradient", "outer_sums_second"])
def test_operators_keep_the_rules_of_torch(name):
    """Shapes without values, derivatives and tracing, as torch's compiler needs them."""
    (Y, R, x), (senders, owners, size) = case("odd channels")
    g, directions = torch.randn(9, 4, size, 5, dtype=torch.float64, requires_grad=True), case("odd channels")[0]
    inputs = {
        "outer_sums": (Y, R, x, senders, owners, size),
        "outer_sums_gradient": (g, Y, R, x, senders, owners),
        "outer_sums_second": (g, Y, R, x, *directions, senders, owners),
    }
    torch.library.opcheck(getattr(torch.ops.ik_e3nn, name).default, inputs[name])


def test_a_derivative_of_the_second_derivative():
    (Y, R, x), (senders, owners, size) = case("scalars")
    g, directions = torch.randn(1, 1, size, 1, dtype=torch.float64, requires_grad=True), case("scalars")[0]
    assert torch.autograd.gradcheck(
        lambda *t: torch.ops.ik_e3nn.outer_sums_second(*t, senders, owners), (g, Y, R, x, *directions)
    )


def changed(factors, edges, change):
    inputs = dict(zip(("Y", "R", "x", "senders", "owners", "size"), (*factors, *edges), strict=True))
    return {name: change[name](value) if name in change else value for name, value in inputs.items()}


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"Y": torch.Tensor.float}, TypeError, "Y must have the dtype and device of x, torch.float64 on cpu; got"),
        ({"R": torch.Tensor.float}, TypeError, "R must have the dtype and device of x, torch.float64 on cpu; got"),
        (
            {"senders": torch.Tensor.int},
            TypeError,
            r"senders must be int64 on cpu; got torch.int32 on cpu: use senders",
        ),
        ({"owners": torch.Tensor.int}, TypeError, r"owners must be int64 on cpu; got torch.int32 on cpu: use owners"),
        ({"Y": lambda Y: Y[:, :8]}, ValueError, r"Y must have shape \(27, 9\), which fits R \(27, 3, 5\), x"),
        ({"Y": lambda Y: Y[:9]}, ValueError, r"Y must have shape \(27, 9\)"),
        ({"R": lambda R: R[:, :, :4]}, ValueError, r"R must have shape \(27, 3, 5\)"),
        ({"R": lambda R: R[:9]}, ValueError, r"R must have shape \(27, 3, 5\)"),
        ({"owners": lambda owners: owners[:5]}, ValueError, r"owners must have shape \(9,\)"),
    ],
)
def test_tensors_that_do_not_fit_together(change, error, message):
    with pytest.raises(error, match=message):
        outer_sums(**changed(*case("odd channels"), change))


def test_vectorized_and_forward_derivatives_without_gradients():
    """Also where nothing is differentiated backward, the operator is seen by torch's other transformations."""
    factors, edges = case("scalars")
    Y, R, x = (f.detach() for f in factors)
    with torch.no_grad():
        several = torch.vmap(lambda x: outer_sums(Y, R, x, *edges))(torch.stack([x, 2 * x]))
    torch.testing.assert_close(several[1], 2 * by_definition(Y, R, x, *edges))
