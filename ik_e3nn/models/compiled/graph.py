"""A model as one graph of plain tensor operations, for compilers that cannot differentiate.

The gradient is traced together with the energies, for any number of atoms and edges.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch._inductor.package.package
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.stateless import _reparametrize_module  # functional_call is not traced by make_fx

from ik_e3nn.atomic import written_at_once
from ik_e3nn.conv.outer_sums import gradient_by_torch, sums_by_torch
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.potential import InteratomicPotential

Core = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
"""A function of a model that is traced: from prepared edges to energies and gradients."""


class Fusable(torch.fx.Transformer):
    """Replace operations of a graph by equivalent ones that the compiler can fuse with their neighbors.

    In eager mode and in second derivatives the original operations are faster. All batched products of the graph are
    products of blocks of edges.
    """

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace gathers, segment sums, and the small matrix products of blocks of edges."""
        if target is torch.ops.ik_e3nn.gather.default:
            x, index = args
            return x.index_select(0, index)
        if target is torch.ops.ik_e3nn.segment_sum.default:
            x, index, size = args
            rows = x.flatten(1)
            sums = rows.new_zeros(size, rows.size(1)).scatter_reduce(0, index[:, None].expand_as(rows), rows, "sum")
            return sums.unflatten(1, x.shape[1:])
        if target is torch.ops.aten.bmm.default:
            a, b = args
            return (a[:, :, :, None] * b[:, None]).sum(2)
        return super().call_function(target, args, kwargs)


def places(model: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """The stores of a model's tensors, which are the inputs of its graph, by their full names."""
    return {
        f"{prefix}.{name}".lstrip("."): (store, name)
        for prefix, module in model.named_modules()
        for store in (module._parameters, module._buffers)
        for name, value in store.items()
        if value is not None
    }


TENSOR_OPERATIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.ik_e3nn.outer_sums.default: sums_by_torch,
    torch.ops.ik_e3nn.outer_sums_gradient.default: gradient_by_torch,
}


def trace(
    model: nn.Module,
    core: Core,
    example: Mapping[str, Tensor],
    *,
    training: bool = False,
    replaced: Mapping[Any, Callable[..., Any]],
) -> torch.fx.GraphModule:
    """A function as one graph of (state, edges), for any number of atoms and blocks of edges.

    Args:
        model: The model, whose tensors are the state, in the order of ``places``.
        core: The function. It may use the tensors of the model and the edges, and no other tensors that vary.
        example: Edges to trace it with, of which no dimension is 0 or 1; they are passed in the order of their names.
        training: Whether weights require gradients in the trace.
        replaced: Functions in place of operators.
    """
    state = {name: store[key] for name, (store, key) in places(model).items()}
    keys = sorted(example)

    def function(tensors: list[Tensor], edges: list[Tensor]) -> tuple[Tensor, ...]:
        with _reparametrize_module(model, dict(zip(state, tensors, strict=True))):
            return core(dict(zip(keys, edges, strict=True)))

    tensors = [t.detach().requires_grad_(training and isinstance(t, nn.Parameter)) for t in state.values()]
    table = dict(replaced)
    graph = make_fx(function, decomposition_table=table, tracing_mode="symbolic")(
        tensors, [example[key] for key in keys]
    )
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])  # autograd detaches saved tensors, but gradients of weights need them
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def traced(model: InteratomicPotential, *, training: bool) -> torch.fx.GraphModule:
    """Energies and gradient as one graph of (state, edges)."""
    example = padded(random_edges(model), model.r_max)
    return trace(
        model,
        lambda edges: model.energies_and_gradients(edges, create_graph=training),
        example,
        training=training,
        replaced=replaced_operators(model),
    )


def replaced_operators(model: InteratomicPotential) -> dict[Any, Callable[..., Any]]:
    """Functions in place of the operators that are not in C++, because the compiler makes faster code of them."""
    return {} if model.sums_in_cpp else TENSOR_OPERATIONS


class Part(NamedTuple):
    """A function of a package, to be compiled.

    Attributes:
        graph: A graph of plain tensor operations, or a module that calls one.
        inputs: Its inputs, to trace it with.
        shapes: Their dynamic shapes, see ``torch.export.export``.
    """

    graph: nn.Module
    inputs: tuple[Any, ...]
    shapes: tuple[Any, ...]


def write_package(parts: Mapping[str, Part], path: Path, *, configs: Mapping[str, Any], mode: int = 0o666) -> None:
    """Compile functions ahead of time and write them as one package, completely or not at all.

    Args:
        parts: The functions by name; torch loads the one named "model" by default.
        path: The file to write.
        configs: Settings of the compiler.
        mode: See ``written_at_once``.
    """
    options = {"aot_inductor.package": True, **configs}
    files = {name: _compiled(part, options) for name, part in parts.items()}
    with tempfile.TemporaryDirectory() as folder:  # not beside `path`: the system removes the remains of a killed run
        package = str(Path(folder) / path.name)
        torch._inductor.package.package.package_aoti(package, files)
        with written_at_once(path, mode=mode) as file, open(package, "rb") as source:
            shutil.copyfileobj(source, file)


def _compiled(part: Part, options: dict[str, Any]) -> list[Any]:
    """The files that the compiler writes for one function."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own code
        program = torch.export.export(part.graph, part.inputs, dynamic_shapes=part.shapes)
        files = torch._inductor.aot_compile(program.module(), part.inputs, options=options)
    return cast(list[Any], files)


def padded(edges: Mapping[str, Tensor], r_max: float) -> dict[str, Tensor]:
    """The edges with one more atom and two more blocks of vectors beyond the cutoff: no dimension is 0 or 1 then."""
    padded = {}
    for key, value in edges.items():
        if key in (fields.SENDERS, fields.OWNERS):
            fill: float = edges[fields.SPECIES].shape[0]
        else:
            fill = 2 * r_max if key == fields.VECTORS else 0
        rows = 2 if key in (fields.SENDERS, fields.OWNERS, fields.VECTORS, fields.BONDS) else 1
        padded[key] = torch.cat([value, value.new_full((rows, *value.shape[1:]), fill)])
    for key in {fields.FRAMES, fields.UNSTRAIN} & padded.keys():
        padded[key][-1] = torch.eye(3, dtype=padded[key].dtype, device=padded[key].device)
    return padded


def random_edges(model: InteratomicPotential, width: int | None = None) -> dict[str, Tensor]:
    """Prepared edges of atoms with random neighbors, in blocks of a width; by default that of the model."""
    generator = torch.Generator().manual_seed(0)
    atoms, blocks = 151, 401  # the size of a batch, because compilers handle a few rows differently
    width = width or model.block_width
    edges = {
        fields.SPECIES: torch.randint(len(model.species), (atoms,), generator=generator),
        fields.OWNERS: torch.randint(atoms, (blocks,), generator=generator).sort().values,
        fields.SENDERS: torch.randint(atoms, (blocks, width), generator=generator),
        fields.VECTORS: torch.randn(blocks, width, 3, generator=generator, dtype=torch.float64) * model.r_max / 3,
    }
    if fields.BOND_TYPES in model.inputs:
        edges[fields.BONDS] = torch.randint(5, (blocks, width), generator=generator)
    for name in model.node_embedding.inputs:
        edges[name] = torch.ones(atoms)
    if model.surroundings is not None:
        edges[fields.DISPLACEMENTS] = torch.randn(atoms, 3, generator=generator, dtype=torch.float64) * model.r_max
        edges[fields.FRAMES] = torch.eye(3).expand(atoms, 3, 3)
        if model.surroundings.kind == "face":
            edges[fields.UNSTRAIN] = torch.eye(3).expand(atoms, 3, 3)
    return {
        key: value.to(model.device, model.dtype if value.is_floating_point() else None) for key, value in edges.items()
    }
