"""The point convolution is the sum of the kernel's matrices over the neighbors, and so are its derivatives."""

import itertools

import pytest
import torch
from e3nn import o3

from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis
from ik_e3nn.conv import PointConv, ReceiverBlocks
from ik_e3nn.kernels import ImplicitKernel, RadialKernel, SeparableFilter
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.intertwiners import trilinear_invariants
from ik_e3nn.testing import assert_equivariant

CASES = {
    # name: (irreps_in, irreps_out, filter, group, mode)
    "full": ("3x0e + 2x1o + 1x2e", "2x0e + 3x1o + 1x1e", "2x0e + 2x1o + 2x2e", "O3", "full"),
    "full, uneven filter": ("2x1o + 1x0e + 1x1o", "1x1o + 2x0e + 2x1o", "3x0e + 1x1o + 3x2e", "O3", "full"),
    "full, C4v": ("2x0e + 1x1o", "2x1e + 1x0o + 1x2e", "2x0e + 2x1o", "C4v", "full"),
    "full, C1": ("1x1o + 2x0e", "1x1o + 1x0e", "1x1o + 1x0e", "C1", "full"),
    "depthwise": ("3x0e + 3x1o", "2x0e + 3x1o + 1x2e", "3x0e + 3x1o + 3x2e", "O3", "depthwise"),
    "depthwise, C4v": ("2x0e + 2x1o", "2x0e + 1x1o + 1x2o", "2x0e + 2x1o", "C4v", "depthwise"),
    "depthwise, blocks twice": ("2x0e + 2x1o + 2x0e", "1x0e + 3x1o + 1x0e", "2x1o + 2x0e + 2x1o", "SO3", "depthwise"),
}
NODES = 6
EDGES = 15


class GivenFilter(RadialKernel):
    """A kernel of a given type: convolutions look at nothing else of it."""

    def __init__(self, filter_type, group):
        super().__init__("", 1, radial=BesselBasis(1.0))
        self.irreps_filter, self.group = o3.Irreps(filter_type), SymmetryGroup(group)


def make(case, num_neighbors=2.5):
    irreps_in, irreps_out, filter_type, group, mode = CASES[case]
    return PointConv(irreps_in, irreps_out, GivenFilter(filter_type, group), mode, num_neighbors=num_neighbors)


def edges(count=EDGES, nodes=NODES):
    """Unsorted, with a loop, a double edge, and at least one node without neighbors."""
    edge_index = torch.randint(nodes - 1, (2, count))
    if count > 2:
        edge_index[:, 0] = torch.tensor([1, 1])
        edge_index[:, 2] = edge_index[:, 1]
    return edge_index


def inputs(conv, count=EDGES, dtype=torch.float64):
    return torch.randn(NODES, conv.irreps_in.dim, dtype=dtype), torch.randn(count, conv.irreps_filter.dim, dtype=dtype)


def naive(conv, x, edge_index, h, nodes=NODES):
    """Build every matrix, multiply, add at the receivers."""
    messages = torch.einsum("eoi,ei->eo", conv.matrix(h), x[edge_index[0]])
    return (
        torch.zeros(nodes, messages.shape[1], dtype=x.dtype).index_add(0, edge_index[1], messages) * conv.normalization
    )


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_naive_sum_with_first_and_second_gradients(case):
    conv = make(case).double()
    edge_index = edges()
    x, h = (t.requires_grad_() for t in inputs(conv))
    leaves = [x, h, *conv.parameters()]
    results = []
    for function in (conv, lambda *a: naive(conv, *a)):
        y = function(x, edge_index, h)
        weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
        first = torch.autograd.grad((y.sin() * weights).sum(), leaves, create_graph=True)
        mixed = sum((g * torch.sin(torch.arange(g.numel(), dtype=torch.float64)).view_as(g)).sum() for g in first)
        second = torch.autograd.grad(mixed, leaves)
        results.append((y, *first, *second))
    for fast, slow in zip(*results, strict=True):
        assert slow.abs().max() > 1e-3
        assert (fast - slow).abs().max() < 1e-10 * max(1.0, float(slow.detach().abs().max()))
    assert conv.normalization == pytest.approx(2.5**-0.5, rel=1e-6)
    assert (results[0][0][-1] == 0).all()  # the node without neighbors


@pytest.mark.parametrize("case", ["full", "depthwise", "full, C4v"])
def test_gradients_by_finite_differences(case):
    conv = make(case).double()
    edge_index = edges(5)
    arguments = [t.requires_grad_() for t in inputs(conv, 5)]
    assert torch.autograd.gradcheck(lambda x, h: conv(x, edge_index, h), arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, h: conv(x, edge_index, h), arguments, fast_mode=True)


@pytest.mark.parametrize("mode", ["full", "depthwise"])
@pytest.mark.parametrize("irreps_in", ["3x0e", "3x0e + 3x1o", "3x1e + 3x2e"])
def test_separable_filters_are_their_products(irreps_in, mode):
    kernel = RadialKernel("2x0e", 3, radial=BesselBasis(4.0), l_max=2).double()
    conv = PointConv(irreps_in, "2x0e + 3x1o + 2x2e + 1x1e", kernel, mode, num_neighbors=2.5).double()
    edge_index = edges()
    vectors = torch.randn(EDGES, 3, dtype=torch.float64, requires_grad=True)
    a = torch.randn(EDGES, 2, dtype=torch.float64)
    x = torch.randn(NODES, conv.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    results = []
    for split in (True, False):
        h = kernel(vectors, a)
        assert isinstance(h, SeparableFilter)
        y = conv(x, edge_index, h) if split else naive(conv, x, edge_index, h.fields())
        leaves = [x, vectors, *conv.parameters(), *kernel.parameters()]
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves, materialize_grads=True)
        results.append((y, *first, *second))
    assert results[1][0].abs().max() > 0.1
    for fast, slow in zip(*results, strict=True):
        assert torch.allclose(fast, slow, rtol=1e-10, atol=1e-10 * max(1.0, float(slow.detach().norm())))


@pytest.mark.parametrize("case", CASES)
def test_the_weights_span_all_equivariant_maps(case):
    """Full: one weight for every channel of every bilinear map. Depthwise: linear maps of the channelwise products."""
    irreps_in, irreps_out, filter_type, group, mode = CASES[case]
    conv = make(case)
    count = 0
    for (mul_1, ir_1), (mul_2, ir_2), (mul_3, ir_3) in itertools.product(
        *(o3.Irreps(t) for t in (irreps_in, filter_type, irreps_out))
    ):
        channels = mul_1 * mul_2 if mode == "full" else mul_1
        count += channels * mul_3 * len(trilinear_invariants(ir_1, ir_2, ir_3, SymmetryGroup(group)))
    assert sum(p.numel() for p in conv.parameters()) == count


def test_the_full_mode_of_o3_is_e3nns_fully_connected_tensor_product():
    """The same space of maps: with all weights in turn, both give the same span."""
    irreps_in, irreps_out, filter_type, *_ = CASES["full"]
    conv = make("full", num_neighbors=1.0).double()
    product = o3.FullyConnectedTensorProduct(
        irreps_in, filter_type, irreps_out, shared_weights=False, internal_weights=False
    )
    names = [name for name, _ in conv.named_parameters()]
    shapes = [p.shape for p in conv.parameters()]
    total = sum(s.numel() for s in shapes)
    assert total == product.weight_numel
    x, h = torch.randn(40, conv.irreps_in.dim), torch.randn(40, conv.irreps_filter.dim)
    pairs = torch.arange(40).expand(2, -1)

    def ours(weight):
        pieces = weight.split([s.numel() for s in shapes])
        values = {n: w.view(s) for n, w, s in zip(names, pieces, shapes, strict=True)}
        return torch.func.functional_call(conv, values, (x.double(), pairs, h.double())).flatten()

    def theirs(weight):
        return product(x, h, weight.float().expand(40, -1)).double().flatten()

    A, B = (torch.stack([f(w) for w in torch.eye(total, dtype=torch.float64)]) for f in (ours, theirs))
    assert torch.linalg.matrix_rank(A) == torch.linalg.matrix_rank(B, rtol=1e-5) == total
    solution = torch.linalg.lstsq(A.T, B.T).solution
    assert (A.T @ solution - B.T).abs().max() < 1e-5  # e3nn's numbers are in float32


@pytest.mark.parametrize("case", ["full", "depthwise", "full, C4v", "depthwise, C4v"])
def test_the_convolution_commutes_with_the_group(case):
    conv = make(case)
    edge_index = edges()
    for dtype in (torch.float32, torch.float64):
        conv = conv.to(dtype)
        x, h = inputs(conv, dtype=dtype)
        assert_equivariant(
            lambda x, h, conv=conv: conv(x, edge_index, h),
            [conv.irreps_in, conv.irreps_filter],
            conv.irreps_out,
            conv.group,
            inputs=[x, h],
        )


@pytest.mark.parametrize("case", CASES)
def test_no_edges_and_no_nodes(case):
    conv = make(case)
    none = torch.zeros(2, 0, dtype=torch.long)
    x, h = inputs(conv, 0, torch.float32)
    x.requires_grad_()
    y = conv(x, none, h)
    assert torch.equal(y, torch.zeros(NODES, conv.irreps_out.dim))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert (gradient == 0).all()
    assert conv(x[:0], none, h).shape == (0, conv.irreps_out.dim)


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_edges_does_not_matter(case):
    conv = make(case).double()
    edge_index = edges(40)
    x, h = inputs(conv, 40)
    expected = conv(x, edge_index, h)
    for order in (torch.randperm(40), edge_index[1].argsort(), edge_index[1].argsort().flip(0)):
        assert torch.allclose(conv(x, edge_index[:, order], h[order]), expected, atol=1e-12)


@pytest.mark.parametrize("case", ["full", "depthwise"])
def test_nodes_may_be_renumbered(case):
    conv = make(case).double()
    edge_index = edges(40)
    x, h = inputs(conv, 40)
    order = torch.randperm(NODES)
    moved = conv(x[order], order.argsort()[edge_index], h)
    assert torch.allclose(moved, conv(x, edge_index, h)[order], atol=1e-12)


@pytest.mark.parametrize("case", ["full", "depthwise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_calls_repeat_bit_for_bit_with_gradients(case, dtype):
    conv = make(case).to(dtype)
    edge_index = torch.randint(NODES, (2, 500))
    x, h = inputs(conv, 500, dtype)

    def call():
        leaves = [x.clone().requires_grad_(), h.clone().requires_grad_()]
        y = conv(leaves[0], edge_index, leaves[1])
        return [y, *torch.autograd.grad(y.square().sum(), leaves)]

    for a, b in zip(call(), call(), strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", ["full", "depthwise"])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_blocks_of_any_width_give_the_same(case, width):
    conv = make(case).double()
    edge_index = edges(40)
    x, h = inputs(conv, 40)
    blocks = ReceiverBlocks.from_receivers(edge_index[1], NODES, width)
    assert torch.allclose(conv(x, edge_index, h, blocks=blocks), conv(x, edge_index, h), atol=1e-12)


def test_blocks_hold_every_edge_once_at_its_receiver():
    for count, nodes, width in ((40, 6, 3), (0, 3, 2), (5, 50, 4), (30, 1, 4)):
        receivers = torch.randint(nodes, (count,))
        blocks = ReceiverBlocks.from_receivers(receivers, nodes, width)
        assert blocks.slots.shape == (len(blocks.receivers), width)
        real = blocks.slots < count
        assert torch.equal(blocks.slots[real].sort().values, torch.arange(count))
        owner = blocks.receivers[:, None].expand_as(blocks.slots)
        assert torch.equal(owner[real], receivers[blocks.slots[real]])


@pytest.mark.parametrize("case", ["full", "depthwise"])
def test_receivers_may_be_other_nodes(case):
    """From NODES points to two others, as in pooling."""
    conv = make(case).double()
    edge_index = torch.stack([torch.randint(NODES, (20,)), torch.randint(2, (20,))])
    x, h = inputs(conv, 20)
    y = conv(x, edge_index, h, num_nodes=2)
    assert torch.allclose(y, naive(conv, x, edge_index, h, 2), atol=1e-12)


@pytest.mark.parametrize("case", ["full", "depthwise, C4v"])
def test_the_ambient_dtype_does_not_matter(case):
    conv = make(case).double()
    edge_index, (x, h) = edges(), inputs(conv)
    state = conv.state_dict()
    expected = conv(x, edge_index, h)
    torch.set_default_dtype(torch.float64)
    try:
        other = make(case)
        other.load_state_dict(state)
        assert torch.equal(other(x, edge_index, h), expected)
        single = other.float()(x.float(), edge_index, h.float())
    finally:
        torch.set_default_dtype(torch.float32)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), expected, atol=1e-4)


@pytest.mark.parametrize("case", ["full", "depthwise"])
def test_constants_are_exact_after_single_precision(case):
    conv = make(case).double()
    edge_index, (x, h) = edges(), inputs(conv)
    state = {name: value.clone() for name, value in conv.state_dict().items()}
    expected = conv(x, edge_index, h)
    conv.float().double().load_state_dict(state)
    assert torch.equal(conv(x, edge_index, h), expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch 2.13, of its own tracer
@pytest.mark.parametrize("case", ["full", "full, uneven filter", "depthwise"])
def test_compile_traces_the_whole_convolution(case):
    torch.compiler.reset()
    conv = make(case).double()
    compiled = torch.compile(conv, fullgraph=True, backend="eager", dynamic=True)
    for count in (15, 33):
        edge_index, (x, h) = edges(count), inputs(conv, count)
        assert torch.allclose(compiled(x, edge_index, h), conv(x, edge_index, h), atol=1e-12)


@pytest.mark.parametrize("case", ["full", "depthwise"])
def test_export_with_any_number_of_edges(case):
    conv = make(case).double()
    count = torch.export.Dim("edges", min=2, max=10000)
    nodes = torch.export.Dim("nodes", min=2, max=10000)
    x, h = inputs(conv)
    program = torch.export.export(conv, (x, edges(), h), dynamic_shapes=({0: nodes}, {1: count}, {0: count})).module()
    edge_index = torch.randint(9, (2, 40))
    x, h = torch.randn(9, conv.irreps_in.dim).double(), torch.randn(40, conv.irreps_filter.dim).double()
    assert torch.allclose(program(x, edge_index, h), conv(x, edge_index, h), atol=1e-12)


def test_the_sum_has_unit_variance():
    ratios = []
    for seed in range(8):
        torch.manual_seed(seed)
        for case in ("full", "depthwise"):
            conv = make(case, num_neighbors=12.0)
            edge_index = torch.randint(200, (2, 2400))
            x, h = torch.randn(200, conv.irreps_in.dim), torch.randn(2400, conv.irreps_filter.dim)
            with torch.no_grad():
                ratios.append(conv(x, edge_index, h).square().mean())
    assert torch.stack(ratios).mean() == pytest.approx(1, rel=0.25)


def test_inputs_are_not_changed():
    conv = make("full")
    edge_index, (x, h) = edges(), inputs(conv, dtype=torch.float32)
    kept = [t.clone() for t in (x, edge_index, h)]
    conv(x, edge_index, h)
    assert all(torch.equal(a, b) for a, b in zip((x, edge_index, h), kept, strict=True))


def test_what_does_not_fit_is_refused():
    conv = make("full")
    edge_index, (x, h) = edges(), inputs(conv, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"features must have shape \(N, 14\) for 3x0e\+2x1o\+1x2e; got \(6, 13\)"):
        conv(x[:, 1:], edge_index, h)
    with pytest.raises(ValueError, match=r"edge_index must have shape \(2, E\); got \(15, 2\)"):
        conv(x, edge_index.T, h)
    with pytest.raises(
        ValueError, match=r"filter fields must have shape \(15, 18\): one row per edge, .*got \(14, 18\)"
    ):
        conv(x, edge_index, h[1:])
    with pytest.raises(ValueError, match="mode must be 'full' or 'depthwise'; got 'wide'"):
        PointConv("0e", "0e", GivenFilter("0e", "O3"), "wide")
    with pytest.raises(ValueError, match="num_neighbors must be positive and finite; got 0"):
        PointConv("0e", "0e", GivenFilter("0e", "O3"), num_neighbors=0)
    with pytest.raises(ValueError, match="a depthwise convolution pairs channel c with filter field c"):
        PointConv("2x0e", "0e", GivenFilter("3x0e", "O3"), "depthwise")
    with pytest.raises(ValueError, match="irreps_in of a depthwise convolution must have one multiplicity"):
        PointConv("2x0e + 1x1o", "0e", GivenFilter("2x0e", "O3"), "depthwise")


def test_a_real_kernel_end_to_end():
    """Positions to features: rotating the points rotates the result."""
    kernel = ImplicitKernel(
        "1x0e", "4x0e + 4x1o", "C4v", basis=RadialHarmonicBasis(BesselBasis(4.0), 1), activation="gate"
    ).double()
    conv = PointConv("2x0e + 1x1o", "1x0e + 2x1o", kernel).double()
    edge_index = torch.randint(8, (2, 30))
    a = torch.randn(30, 1, dtype=torch.float64)

    def layer(positions, x):
        vectors = positions[edge_index[1]] - positions[edge_index[0]]
        return conv(x, edge_index, kernel(vectors, a))

    assert_equivariant(layer, ["1o", "2x0e + 1x1o"], "1x0e + 2x1o", "C4v", dtype=torch.float64)
