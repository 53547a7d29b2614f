"""Compare the time of every block of the model with the minimum for its FLOPs and bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ik_e3nn.basis import distances, smooth_envelope
from ik_e3nn.conv import gather
from ik_e3nn.kernels import SeparableFilter
from ik_e3nn.models import compile_potential
from ik_e3nn.nn.layout import from_components, to_components
from model_speed.common import Plan, batch_of, in_turn, make_model, molecules

FLOAT = 4  # bytes
TRANSCENDENTAL = 10  # FLOPs of a sine or an exponential


@dataclass(frozen=True)
class Work:
    """The work of an ideal implementation of a block in a forward pass, for every edge and for every node.

    Args:
        edge: FLOPs, numbers read and numbers written for an edge.
        node: The same for a node.
        gradients: Cost of the gradient in forward passes: the number of factors that depend on positions.
    """

    edge: tuple[float, float, float] = (0, 0, 0)
    node: tuple[float, float, float] = (0, 0, 0)
    gradients: int = 1

    def total(self, edges: int, nodes: int, *, gradient: bool) -> tuple[float, float]:
        """FLOPs and bytes; for the gradient, inputs and the outputs' gradient are read and the inputs' is written."""
        flops, read, written = (e * edges + n * nodes for e, n in zip(self.edge, self.node, strict=True))
        if gradient:
            return flops * (1 + self.gradients), FLOAT * (3 * read + 2 * written)
        return flops, FLOAT * (read + written)


def works(layer: Any) -> dict[str, Work]:
    """The work of every block of an interaction; a multiplication or addition is one FLOP, an index two numbers."""
    kernel, conv, product = layer.kernel, layer.conv, layer.product
    C, L, K, R, n = (
        kernel.channels,
        kernel.l_max + 1,
        kernel.irreps_hidden.dim,
        kernel.radial.num_basis,
        product.correlation,
    )
    H, M, O = L * L, sum(b.dim for b in layer.blocks_in), sum(b.dim for b in layer.blocks_out)
    paths, grid = len(conv.coupling), len(product.to_grid)
    harmonics = sum((2 * l - 1) * (3 + 6 * (2 * l + 1)) for l in range(2, L))
    sphere = 2 * grid * C * (H * n + O * (n - 1)) + (n - 1) * grid * C + 2 * H * C * n * C + 2 * n * O * C * C
    maps = 2 * C * (2 * K + M * C + min(M, O) * C + (O > 1) * C + 16) + 2 * O * C
    return {
        "geometry": Work(edge=(23 + R * (TRANSCENDENTAL + 3) + harmonics, 3, R + H + 1)),
        "kernel MLP": Work(
            edge=(2 * K * (R + L * C) + K * (TRANSCENDENTAL + 5) + L * C, R + 1 + K + 2, L * C), node=(0, K, 0)
        ),
        "gather, outer sums": Work(
            edge=(L * M * C + 2 * H * M * C, M * C + L * C + H + 2, 0), node=(0, 0, H * M * C), gradients=2
        ),
        "coupling, channel mixing": Work(node=(2 * paths * C * (H * M + C), H * M * C, H * C)),
        "sphere product": Work(node=(H * C + sphere, 2 * H * C, O * C)),
        "linear maps, gate, readout": Work(node=(maps, M * C + O * C, M * C + 2 * K + O * C + 1)),
    }


Part = tuple[Callable[..., Any], tuple[Tensor, ...]]  # derivatives with respect to the inputs that require them


def parts(
    layer: Any, readout: Any, features: Tensor, seen: Tensor, edges: dict[str, Tensor]
) -> tuple[dict[str, Part], Tensor]:
    """The same blocks as functions with their inputs in the model, and the features after them.

    Outer sums have no separate function: "convolution" includes them and the coupling.
    """
    kernel, conv, product, count = layer.kernel, layer.conv, layer.product, len(features)
    senders, owners, moving = edges["senders"], edges["owners"], features.requires_grad

    def geometry(r: Tensor) -> tuple[Tensor, ...]:
        d = distances(r)
        return kernel.radial(d), smooth_envelope(d / kernel.radial.r_max), kernel.harmonics(r / d)

    def mlp(basis: Tensor, window: Tensor, sent: Tensor, received: Tensor) -> Tensor:
        hidden = gather(sent, senders.flatten()).view(*senders.shape, -1) + gather(received, owners)[:, None]
        weights = kernel.mlp(basis, hidden.flatten(0, 1) * 0.5) * window
        return weights.unflatten(1, (kernel.l_max + 1, kernel.channels))

    def convolution(x: Tensor, radial: Tensor, harmonics: Tensor) -> Tensor:
        return torch.cat(conv.on_components(x, senders, SeparableFilter(radial, harmonics), owners, count))

    def coupling(Z: Tensor) -> Tensor:
        return torch.cat(conv.linear((conv.coupling @ Z.flatten(1)).view(-1, count, kernel.channels)))

    def sphere(A: Tensor) -> Tensor:
        return product.on_components(A * scale)

    def maps(f: Tensor, message: Tensor) -> tuple[Tensor, ...]:
        x = to_components(f, layer.blocks_in)
        new = from_components(layer.skip.on_components(x) + layer.gated(message), layer.blocks_out)
        return layer.up.on_components(x), layer.sender(seen), layer.receiver(seen), new, readout(new)

    def fresh(*tensors: Tensor, grad: bool = True) -> tuple[Tensor, ...]:
        return tuple(t.detach().requires_grad_(grad) for t in tensors)

    degrees = torch.arange(kernel.l_max + 1)
    scale = (
        layer.species_scale[:, edges["species"]].repeat_interleave(2 * degrees + 1, 0).detach() * layer.normalization
    )
    vectors = fresh(edges["vectors"].flatten(0, 1))
    basis, window, harmonics = fresh(*geometry(*vectors))
    up = layer.up.on_components(to_components(features, layer.blocks_in))
    (up,), sent, received = fresh(up, grad=moving), layer.sender(seen).detach(), layer.receiver(seen).detach()
    (radial,) = fresh(mlp(basis, window, sent, received))
    A = fresh(convolution(up, radial, harmonics))
    sums = fresh(torch.randn(conv.coupling.shape[1], count, kernel.channels))
    (message,) = fresh(sphere(*A))
    functions: dict[str, Part] = {
        "geometry": (geometry, vectors),
        "kernel MLP": (mlp, (basis, window, sent, received)),
        "convolution": (convolution, (up, radial, harmonics)),
        "coupling, channel mixing": (coupling, sums),
        "sphere product": (sphere, A),
        "linear maps, gate, readout": (maps, (features, message)),
    }
    return functions, maps(features, message)[3].detach().requires_grad_()


def time_part(part: Part, least: float) -> dict[str, float]:
    """Seconds of the forward pass of a block, and of the forward pass with the gradient."""
    function, inputs = part
    wanted = [tensor for tensor in inputs if tensor.requires_grad]

    def both() -> None:
        outputs = function(*inputs)
        outputs = [t for t in (outputs if isinstance(outputs, tuple) else [outputs]) if t.requires_grad]
        torch.autograd.grad(outputs, wanted, [torch.ones_like(t) for t in outputs], allow_unused=True)

    def forward() -> None:
        with torch.no_grad():
            function(*inputs)

    return in_turn({"forward": forward, "gradient": both}, least)


def peaks(plan: Plan) -> dict[str, Any]:
    """FLOP/s of a large GEMM, and bytes/s of a sum of two arrays by the total size (MiB) of all three arrays."""
    n = 1536
    a, b = torch.randn(n, n), torch.randn(n, n)
    flops = 2 * n**3 / in_turn({"gemm": lambda: a @ b}, plan.seconds)["gemm"]
    bandwidth = {}
    for mib in plan.bandwidth_mib:
        size = int(mib * 2**20 / (3 * FLOAT))
        x, y, z = (torch.zeros(size) for _ in range(3))
        seconds = in_turn({"add": lambda x=x, y=y, z=z: torch.add(x, y, out=z)}, plan.seconds / 4)["add"]
        bandwidth[str(mib)] = 3 * FLOAT * size / seconds
    return {"flops_per_s": flops, "bytes_per_s": bandwidth}


def ideal(flops: float, size: float, peak: dict[str, Any]) -> float:
    """Minimum seconds: the time of the FLOPs at the peak or of the bytes at their bandwidth, whichever is longer."""
    nearest = min(peak["bytes_per_s"], key=lambda mib: abs(np.log(float(mib) * 2**20 / max(size, 1.0))))
    return float(max(flops / peak["flops_per_s"], size / peak["bytes_per_s"][nearest]))


def floor(plan: Plan, *, quick: bool, compiled: bool) -> dict[str, Any]:
    """Ideal and measured time of every block and of the whole model, on a batch of molecules."""
    model = make_model(quick).requires_grad_(False)
    graph = batch_of(molecules(plan.molecules), model)
    edges, num_edges = model.prepare(graph), graph["edge_index"].shape[1]
    peak, rows = peaks(plan), []
    features = initial = model.node_embedding(edges["species"], edges)
    for number, (layer, readout) in enumerate(zip(model.interactions, model.readouts, strict=True), start=1):
        functions, features = parts(layer, readout, features, initial, edges)
        measured = {name: time_part(functions[name], plan.seconds) for name in tqdm(functions, desc=f"layer {number}")}
        whole, mixing = measured.pop("convolution"), measured["coupling, channel mixing"]
        measured["gather, outer sums"] = {key: whole[key] - mixing[key] for key in whole}
        for name, work in works(layer).items():
            if name == "geometry" and number > 1:
                continue  # the ideal model computes it once
            row: dict[str, Any] = {"layer": number, "block": name, "edge": work.edge, "node": work.node}
            for kind in ("forward", "gradient"):
                flops, size = work.total(num_edges, len(edges["species"]), gradient=kind == "gradient")
                times = {"ideal_s": ideal(flops, size, peak), "measured_s": measured[name][kind]}
                row[kind] = {"flops": flops, "bytes": size, **times}
            rows.append(row)
    functions = {"eager": lambda: model.energies_and_gradients(edges, create_graph=False)}
    if compiled:
        fast = make_model(quick).requires_grad_(False)
        if compile_potential(fast):
            functions["compiled"] = lambda: fast.energies_and_gradients(edges, create_graph=False)
    least = sum(row["gradient"]["ideal_s"] for row in rows)
    measured = in_turn(functions, plan.seconds)
    return {
        "atoms": len(edges["species"]), "edges": num_edges, "places": edges["senders"].numel(), "peaks": peak,
        "blocks": rows, "ideal_s": least, "measured_s": measured, "ratio": {k: s / least for k, s in measured.items()},
    }  # fmt: skip
