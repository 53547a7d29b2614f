"""A convolution that computes the kernel tile by tile is the sum of the kernel's matrices over the neighbors."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from ik_e3nn.basis import BesselBasis, PolynomialBasis, RadialHarmonicBasis
from ik_e3nn.conv import PointConv, ReceiverBlocks, receivers
from ik_e3nn.kernels import ImplicitKernel, RadialKernel, ResidualKernel, TiledFilter
from ik_e3nn.testing import assert_equivariant

NODES, EDGES = 7, 40
HIDDEN = "2x0e + 2x1o + 2x2e"


def make(group="O3", depth=2, activation="sphere", attributes="2x0e + 1o", batch_norm=False, irreps_filter=HIDDEN):
    basis = RadialHarmonicBasis(BesselBasis(4.0, 2), 2)
    kernel = ImplicitKernel(
        attributes, irreps_filter, group, basis=basis, depth=depth, activation=activation, batch_norm=batch_norm
    ).double()
    return kernel, PointConv("3x0e + 2x1o", "2x0e + 3x1o + 1x2e", kernel, num_neighbors=3.0).double()


def graph(count=EDGES):
    """Unsorted edges with all numbers of neighbors from none to more than a block holds."""
    ends = torch.cat([torch.full((d,), n) for n, d in enumerate((0, 1, 2, 4, 8, 9, max(count, 24) - 24))])[:count]
    edge_index = torch.stack([torch.randint(NODES, (count,)), ends])
    return edge_index[:, torch.randperm(count)]


def inputs(kernel, conv, count=EDGES, dtype=torch.float64):
    vectors = torch.randn(count, 3, dtype=dtype)
    attributes = torch.randn(count, kernel.irreps_attributes.dim, dtype=dtype)
    return torch.randn(NODES, conv.irreps_in.dim, dtype=dtype), vectors, attributes


def flat_fields(kernel, vectors, attributes, hidden=None):
    """The definition of the kernel: layer after layer on flat features of all edges."""
    features, window = kernel.basis(vectors)
    x = kernel.first(torch.cat([kernel.norm(features), attributes], 1))
    x = x if hidden is None else (x + hidden) * 0.5**0.5
    return kernel.rest(x) * window


def naive(conv, x, edge_index, fields):
    messages = torch.einsum("eoi,ei->eo", conv.matrix(fields), x[edge_index[0]])
    sums = torch.zeros(NODES, messages.shape[1], dtype=x.dtype).index_add(0, edge_index[1], messages)
    return sums * conv.normalization


CASES = [
    ("O3", 2, "sphere"),
    ("O3", 2, "product"),
    ("SO3", 1, "gate"),
    ("SO2", 2, "sphere"),
    ("SO2", 1, "product"),
    ("C4v", 2, "gate"),
    ("D3", 1, "sphere"),
    ("C1", 1, "gate"),
    ("C1", 0, "sphere"),
    ("O3", 0, "sphere"),
]


@pytest.fixture
def _small_tiles(monkeypatch):
    monkeypatch.setattr(receivers, "TILE", 8)


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize(("group", "depth", "activation"), CASES)
def test_it_is_the_naive_sum_with_first_and_second_gradients(group, depth, activation):
    kernel, conv = make(group, depth, activation)
    edge_index = graph()
    leaves = [t.requires_grad_() for t in inputs(kernel, conv)]
    weights = [*kernel.parameters(), *conv.parameters()]
    results = []
    for tiled in (True, False):
        x, vectors, attributes = leaves
        h = kernel.tiled(vectors, attributes) if tiled else flat_fields(kernel, vectors, attributes)
        y = conv(x, edge_index, h) if tiled else naive(conv, x, edge_index, h)
        first = torch.autograd.grad(y.sin().sum(), [*leaves, *weights], create_graph=True, materialize_grads=True)
        mixed = sum((g * torch.sin(torch.arange(g.numel(), dtype=torch.float64)).view_as(g)).sum() for g in first)
        second = torch.autograd.grad(mixed, [*leaves, *weights], materialize_grads=True)
        results.append((y, *first, *second))
    assert results[1][0].abs().max() > 0.1
    for fast, slow in zip(*results, strict=True):
        assert (fast - slow).abs().max() < 1e-10 * max(1.0, float(slow.detach().abs().max()))


@pytest.mark.parametrize(("group", "activation"), [("O3", "sphere"), ("SO2", "product")])
def test_gradients_by_finite_differences(group, activation):
    kernel, conv = make(group, 1, activation)
    edge_index = graph(6)
    arguments = [t.requires_grad_() for t in inputs(kernel, conv, 6)]

    def layer(x, vectors, attributes):
        return conv(x, edge_index, kernel.tiled(vectors, attributes))

    assert torch.autograd.gradcheck(layer, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, arguments, fast_mode=True)


@pytest.mark.parametrize("activation", ["sphere", "product", "gate"])
def test_fields_are_those_of_the_flat_layers_with_and_without_a_shift_of_the_hidden_layer(activation):
    kernel, conv = make("C4v", 2, activation)
    _, vectors, attributes = inputs(kernel, conv)
    hidden = torch.randn(EDGES, kernel.irreps_hidden.dim, dtype=torch.float64)
    for shift in (None, hidden):
        tiled = kernel.tiled(vectors, attributes, shift)
        assert isinstance(tiled, TiledFilter)
        expected = flat_fields(kernel, vectors, attributes, shift)
        assert expected.abs().max() > 0.1
        assert torch.allclose(tiled.fields(), expected, atol=1e-12)
        assert torch.equal(kernel(vectors, attributes, shift), tiled.fields())


def test_gated_fields_may_have_several_multiplicities():
    kernel, conv = make("SO2", 2, "gate", irreps_filter="3x0e + 1x1o + 2x2e")
    edge_index = graph()
    x, vectors, attributes = inputs(kernel, conv)
    expected = naive(conv, x, edge_index, flat_fields(kernel, vectors, attributes))
    assert expected.abs().max() > 0.1
    assert torch.allclose(conv(x, edge_index, kernel.tiled(vectors, attributes)), expected, atol=1e-12)


def test_a_batch_norm_averages_over_all_edges_once():
    kernel, conv = make(batch_norm=True)
    edge_index = graph()
    x, vectors, attributes = inputs(kernel, conv)
    other, _ = make(batch_norm=True)
    other.load_state_dict(kernel.state_dict())
    y = conv(x, edge_index, kernel.tiled(vectors, attributes))
    assert torch.allclose(y, naive(conv, x, edge_index, flat_fields(other, vectors, attributes)), atol=1e-12)
    assert torch.equal(kernel.norm.running_square, other.norm.running_square)


def test_residual_kernels_are_tiled_too():
    basis = RadialHarmonicBasis(BesselBasis(4.0, 2), 2)
    kernel = ResidualKernel(ImplicitKernel("2x0e", basis.irreps_out, "C4v", basis=basis)).double()
    conv = PointConv("3x0e + 2x1o", "2x0e + 1x1o", kernel).double()
    edge_index = graph()
    x, vectors, attributes = inputs(kernel, conv)
    features, window = basis.double()(vectors)
    fields = features * window + kernel.share * flat_fields(kernel.implicit, vectors, attributes)
    y = conv(x, edge_index, kernel.tiled(vectors, attributes))
    assert y.abs().max() > 0.1
    assert torch.allclose(y, naive(conv, x, edge_index, fields), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_depthwise_and_no_edges(dtype):
    kernel, conv = make()
    depthwise = PointConv("2x0e + 2x1o", "1x0e + 1x1o", kernel, "depthwise").double()
    for layer in (conv, depthwise):
        kernel.to(dtype), layer.to(dtype)
        x, vectors, attributes = inputs(kernel, layer, dtype=dtype)
        edge_index, x = graph(), x.requires_grad_()
        expected = layer(x, edge_index, kernel(vectors, attributes))
        assert expected.dtype == dtype
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        assert torch.allclose(layer(x, edge_index, kernel.tiled(vectors, attributes)), expected, atol=tolerance)
        y = layer(x, edge_index[:, :0], kernel.tiled(vectors[:0], attributes[:0]))
        assert torch.equal(y, torch.zeros(NODES, layer.irreps_out.dim, dtype=dtype))
        assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.zeros_like(x))


@pytest.mark.parametrize("group", ["O3", "C4v"])
def test_the_layer_commutes_with_the_group(group):
    kernel, conv = make(group, 1, "gate")
    edge_index = graph()
    x, vectors, attributes = inputs(kernel, conv)
    assert_equivariant(
        lambda x, vectors, attributes: conv(x, edge_index, kernel.tiled(vectors, attributes)),
        [conv.irreps_in, "1o", kernel.irreps_attributes],
        conv.irreps_out,
        group,
        inputs=[x, vectors, attributes],
        dtype=torch.float64,
    )


def test_tiles_hold_every_edge_once_at_its_receiver_and_have_no_empty_places(monkeypatch):
    monkeypatch.setattr(receivers, "TILE", 8)
    edge_index = graph()
    for width in (1, 3, 8):
        blocks = ReceiverBlocks.from_receivers(edge_index[1], NODES, width)
        tiles, nodes = receivers.tiles_without_gaps(blocks, EDGES)
        edges = torch.cat([slots.flatten() for slots in tiles])
        owners = nodes.repeat_interleave(torch.cat([torch.full((len(s),), s.shape[1]) for s in tiles]))
        assert torch.equal(edges.sort().values, torch.arange(EDGES))
        assert torch.equal(owners, edge_index[1][edges])
        assert max(slots.numel() for slots in tiles) <= 8


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch 2.13, of its own tracer
def test_kernel_and_convolution_compile_once_for_all_numbers_of_edges():
    torch.compiler.reset()
    kernel, conv = make(depth=1)
    counter = CompileCounter()

    def layer(x, edge_index, vectors, attributes):
        return conv(x, edge_index, kernel.tiled(vectors, attributes))

    compiled = torch.compile(layer, fullgraph=True, backend=counter, dynamic=True)
    for count in (15, 33, EDGES):
        x, vectors, attributes = inputs(kernel, conv, count)
        edge_index = graph(count)
        assert torch.allclose(
            compiled(x, edge_index, vectors, attributes), layer(x, edge_index, vectors, attributes), atol=1e-12
        )
    assert counter.frame_count == 1


def test_files_of_earlier_versions_load():
    """Names and shapes of weights and buffers did not change when tiles came."""
    kernel = ImplicitKernel("1x0e", "2x0e + 2x1o", "O3", basis=PolynomialBasis(1), depth=1, activation="sphere")
    conv = PointConv("3x0e", "1x0e + 2x1o", kernel)
    shapes = {name: tuple(value.shape) for module in (kernel, conv) for name, value in module.state_dict().items()}
    assert shapes == {
        "basis.shell.log_sigma": (),
        "first.weight": (6,),
        "first.bias.weight": (2,),
        "normalization": (),
        "mixing.weights.weight_0_0_0e": (6, 1),
        "mixing.weights.weight_0_0_1o": (6, 2),
    }


def test_numbers_of_rows_must_fit():
    kernel, conv = make()
    x, vectors, attributes = inputs(kernel, conv)
    radial = RadialKernel("2x0e", 2, radial=BesselBasis(4.0), l_max=2).double()
    for h in (kernel.tiled(vectors, attributes), radial(vectors, attributes[:, :2])):
        with pytest.raises(ValueError, match=r"filter fields must have shape \(39, .*one row per edge.*got \(40, "):
            conv(x, graph()[:, 1:], h)


def test_filter_fields_of_another_kernel_are_refused():
    _, conv = make()
    other, _ = make(irreps_filter="2x0e + 2x1o + 2x2e + 2x3o")
    x, vectors, attributes = inputs(other, conv)
    with pytest.raises(ValueError, match=r"filter fields must have shape .* got \(40, 32\)"):
        conv(x, graph(), other.tiled(vectors, attributes))


def test_a_shift_of_the_hidden_layer_of_another_shape_is_refused():
    kernel, conv = make()
    _, vectors, attributes = inputs(kernel, conv)
    for shape in ((EDGES, kernel.irreps_hidden.dim + 5), (1, kernel.irreps_hidden.dim)):
        with pytest.raises(ValueError, match=r"hidden must have shape \(40, .*see irreps_hidden; got "):
            kernel.tiled(vectors, attributes, torch.zeros(shape, dtype=torch.float64))


def test_gradients_can_be_taken_outside_of_autocast():
    kernel, conv = make()
    kernel, conv = kernel.float(), conv.float()
    x, vectors, attributes = inputs(kernel, conv, dtype=torch.float32)
    edge_index, gradients = graph(), []
    x.requires_grad_()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = conv(x, edge_index, kernel.tiled(vectors, attributes)).float().square().sum()
        gradients.append(torch.autograd.grad(y, x)[0])
    assert gradients[1].dtype == torch.float32
    assert torch.allclose(gradients[0], gradients[1], atol=0.05 * float(gradients[0].abs().max()))
