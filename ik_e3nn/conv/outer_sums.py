r"""Sums of outer products over the edges of every receiver: the inner part of a depthwise convolution.

With separable filters, of harmonics Y and radial functions R, the sums and their derivatives are those of one form,

.. math:: Q(g, Y, R, x) = \sum_e \sum_{l m \mu c} g_{lm, \mu, i(e), c} \, Y_{e, lm} \, R_{e, l c} \, x_{\mu, j(e), c},

which is linear in each of its four tensors; i(e) and j(e) are the receiver and the sender of edge e. The sums are
:math:`Z = \partial Q / \partial g`, and the gradient of :math:`g \cdot Z` is the other three derivatives. So these two
operators are closed under differentiation, of any order; a third computes the second derivative at once.

On a CPU they are C++ (``outer_sums.cpp``), which is compiled at the first use and needs a tenth of the time of tensor
operations: these would write all products of every edge to memory. Without a compiler, on other devices, and in the
packages for LAMMPS, they are tensor operations.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.conv.receivers import gather, segment_sum
from ik_e3nn.native import library

LARGEST_DEGREE = 6  # of the C++ functions
_SOURCE = Path(__file__).with_suffix(".cpp")
_NO_SUCH_NODE = 1  # what the C++ functions return
_TYPES = {torch.float32: "float", torch.float64: "double"}
_LIBRARY = torch.library.Library("ik_e3nn", "FRAGMENT")
_LIBRARY.define("outer_sums(Tensor Y, Tensor R, Tensor x, Tensor senders, Tensor owners, SymInt size) -> Tensor")
_LIBRARY.define(
    "outer_sums_gradient(Tensor g, Tensor Y, Tensor R, Tensor x, Tensor senders, Tensor owners) "
    "-> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "outer_sums_second(Tensor g, Tensor Y, Tensor R, Tensor x, Tensor y, Tensor r, Tensor u, Tensor senders, "
    "Tensor owners) -> (Tensor, Tensor, Tensor, Tensor)"
)


def outer_sums(Y: Tensor, R: Tensor, x: Tensor, senders: Tensor, owners: Tensor, size: int) -> Tensor:
    """Sums over the edges of every receiver, Z.

    Args:
        Y: Harmonics of every edge, (E, H) with H = L^2, for degrees l < L.
        R: Radial functions of every edge, (E, L, C).
        x: Features, components first, (M, N, C).
        senders: Sender of the edge in every place, (B, w) with B w = E.
        owners: Receiver of every block of w edges, (B,).
        size: Number of receivers, I.

    Returns:
        (H, M, I, C).

    Raises:
        IndexError: There is no such sender or receiver.
        TypeError: The tensors have several dtypes or devices, or indices are not int64.
        ValueError: Shapes do not fit together.

    Example:
        >>> Y, R, x = torch.ones(4, 1), torch.ones(4, 1, 2), torch.ones(1, 3, 2)
        >>> outer_sums(Y, R, x, torch.tensor([[0, 1], [2, 2]]), torch.tensor([1, 1]), 2)[0, 0]
        tensor([[0., 0.],
                [4., 4.]])
    """
    result: Tensor = torch.ops.ik_e3nn.outer_sums(Y, R, x, senders, owners, size)
    return result


def sums_by_torch(Y: Tensor, R: Tensor, x: Tensor, senders: Tensor, owners: Tensor, size: int) -> Tensor:
    """``outer_sums`` as tensor operations: a batched GEMM for each degree, for the edges of a block."""
    (M, _, C), (B, w) = x.shape, senders.shape
    # axes are not merged before a gather or a sum, because machine code would divide indices in its inner loops
    rows = gather(x.transpose(0, 1), senders.flatten())  # (E, M, C)
    Rx = (R[:, :, None] * rows[:, None]).reshape(B, w, R.shape[1], M * C)
    Z = torch.cat(
        [torch.bmm(y.mT, rx) for y, rx in zip(_by_degree(Y.reshape(B, w, Y.shape[1])), Rx.unbind(2), strict=True)], 1
    )
    return segment_sum(Z.unflatten(2, (M, C)), owners, size).permute(1, 2, 0, 3)


def gradient_by_torch(
    g: Tensor, Y: Tensor, R: Tensor, x: Tensor, senders: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the sum of g Z by Y, R and x, as tensor operations."""
    (M, N, C), (B, w), L = x.shape, senders.shape, R.shape[1]
    rows = gather(x.transpose(0, 1), senders.flatten())
    Rx = (R[:, :, None] * rows[:, None]).reshape(B, w, L, M * C)
    of_blocks = gather(g.permute(2, 0, 1, 3), owners).flatten(2)  # (B, H, M C)
    parts = list(zip(_by_degree(Y.reshape(B, w, Y.shape[1])), of_blocks.split(_dims(L), 1), Rx.unbind(2), strict=True))
    gY = torch.stack([torch.bmm(y, part) for y, part, _ in parts], 2).view(B * w, L, M, C)
    by_Y = torch.cat([torch.bmm(rx, part.mT) for _, part, rx in parts], 2).view(B * w, L * L)
    by_R, by_rows = (gY * rows[:, None]).sum(2), (gY * R[:, :, None]).sum(1)
    return by_Y, by_R, segment_sum(by_rows, senders.flatten(), N).transpose(0, 1)


def are_compiled(x: Tensor, degrees: int) -> bool:
    """Whether the operators run in C++ for features like x and this number of degrees L."""
    fits = x.device.type == "cpu" and x.dtype in _TYPES and degrees <= LARGEST_DEGREE + 1
    return fits and library(_SOURCE) is not None


def _sums(Y: Tensor, R: Tensor, x: Tensor, senders: Tensor, owners: Tensor, size: int) -> Tensor:
    _check(Y, R, x, senders, owners)
    if not are_compiled(x, R.shape[1]):
        return sums_by_torch(Y, R, x, senders, owners, size).contiguous()
    Z = x.new_zeros(Y.shape[1], x.shape[0], size, x.shape[2])
    _call("sums", (Y, R, x, senders, owners), Z)
    return Z


def _gradient(
    g: Tensor, Y: Tensor, R: Tensor, x: Tensor, senders: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    _check(Y, R, x, senders, owners, g=g)
    if not are_compiled(x, R.shape[1]):
        by_Y, by_R, by_x = gradient_by_torch(g, Y, R, x, senders, owners)
        return by_Y, by_R, by_x.contiguous()
    by_Y, by_R, by_x = (_in_one_piece(tensor) for tensor in (Y, R, x))
    _call("gradients", (Y, R, x, senders, owners), g.contiguous(), by_Y, by_R, by_x.zero_())
    return by_Y, by_R, by_x


def _second(
    g: Tensor, Y: Tensor, R: Tensor, x: Tensor, y: Tensor, r: Tensor, u: Tensor, senders: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(Y, R, x, senders, owners, g=g)
    _check(y, r, u, senders, owners, g=g)
    if not are_compiled(x, R.shape[1]):
        return _second_by_parts(g, Y, R, x, y, r, u, senders, owners)
    by_g, by_Y, by_R, by_x = (_in_one_piece(tensor) for tensor in (g, Y, R, x))
    by_g.zero_()
    for factors in ((y, R, x), (Y, r, x), (Y, R, u)):
        _call("sums", (*factors, senders, owners), by_g)
    y, r, u, g = (tensor.contiguous() for tensor in (y, r, u, g))
    _call("second", (Y, R, x, senders, owners), y, r, u, g, by_Y, by_R, by_x.zero_(), size=g.shape[2])
    return by_g, by_Y, by_R, by_x


def _second_by_parts(
    g: Tensor, Y: Tensor, R: Tensor, x: Tensor, y: Tensor, r: Tensor, u: Tensor, senders: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The second derivative by the two operators, which can be differentiated again."""
    edges, cases = (senders, owners), ((y, R, x), (Y, r, x), (Y, R, u))
    by_g = sum(torch.ops.ik_e3nn.outer_sums(*case, *edges, g.shape[2]) for case in cases)
    by_y, by_r, by_u = (torch.ops.ik_e3nn.outer_sums_gradient(g, *case, *edges) for case in cases)
    return by_g, by_r[0] + by_u[0], by_y[1] + by_u[1], by_y[2] + by_r[2]


def _check(Y: Tensor, R: Tensor, x: Tensor, senders: Tensor, owners: Tensor, g: Tensor | None = None) -> None:
    """Refuse tensors that do not fit together: C++ would read and write outside of them.

    Raises:
        TypeError: A dtype or device is another.
        ValueError: A shape is another.
    """
    numbers = {"Y": Y, "R": R, "x": x} | ({} if g is None else {"g": g})
    for name, tensor in numbers.items():
        if (tensor.dtype, tensor.device) != (x.dtype, x.device):
            raise TypeError(
                f"{name} must have the dtype and device of x, {x.dtype} on {x.device}; got {tensor.dtype} on "
                f"{tensor.device}: convert one of them"
            )
    for name, tensor in (("senders", senders), ("owners", owners)):
        if tensor.dtype != torch.int64 or tensor.device != x.device:
            raise TypeError(
                f"{name} must be int64 on {x.device}; got {tensor.dtype} on {tensor.device}: use {name}.long()"
            )
    (B, w), (M, _, C), L = senders.shape, x.shape, R.shape[1]
    shapes = {"Y": (Y, (B * w, L * L)), "R": (R, (B * w, L, C)), "owners": (owners, (B,))}
    if g is not None:
        shapes["g"] = (g, (L * L, M, g.shape[2], C))
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape:
            raise ValueError(
                f"{name} must have shape {shape}, which fits R {tuple(R.shape)}, x {tuple(x.shape)} and senders "
                f"{tuple(senders.shape)}; got {tuple(tensor.shape)}"
            )


def _call(name: str, inputs: tuple[Tensor, ...], *more: Tensor, size: int | None = None) -> None:
    """Call a C++ function.

    Args:
        name: Its name without the dtype.
        inputs: Y, R, x, senders and owners.
        more: Further tensors in the order of its arguments, in one piece. Of the first, (H, M, I, C), I is the number
            of receivers.
        size: The number of receivers, if the first of them has another shape.
    """
    Y, R, x, senders, owners = (tensor.contiguous() for tensor in inputs)
    (M, N, C), (B, w), L = x.shape, senders.shape, R.shape[1]
    size = more[0].shape[2] if size is None else size
    sizes = (ctypes.c_int64 * 7)(L, M, C, N, size, B, w)
    places, others = (
        [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors] for tensors in ((Y, R, x, senders, owners), more)
    )
    function = _functions()[f"{name}_{_TYPES[x.dtype]}"]
    status = function(sizes, *places, ctypes.c_int(torch.get_num_threads()), *others)
    if status == _NO_SUCH_NODE:
        raise IndexError(f"senders must be from 0 to {N - 1} and receivers from 0 to {size - 1}; some are not")
    if status:
        raise MemoryError(
            f"there is no memory for the gradients of {N} atoms in each of {torch.get_num_threads()} threads"
        )


@functools.cache
def _functions() -> dict[str, Any]:
    found = library(_SOURCE)
    names = [f"{name}_{kind}" for name in ("sums", "gradients", "second") for kind in _TYPES.values()]
    return {name: getattr(found, name) for name in names}


def _in_one_piece(like: Tensor) -> Tensor:
    """An empty tensor of the same shape and dtype, in one piece."""
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _dims(degrees: int) -> list[int]:
    return [2 * degree + 1 for degree in range(degrees)]


def _by_degree(Y: Tensor) -> tuple[Tensor, ...]:
    """Harmonics (..., H), split into those of each degree."""
    return Y.split(_dims(round(Y.shape[-1] ** 0.5)), -1)


def _save_sums(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def _gradient_of_sums(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    Y, R, x, *edges = ctx.saved_tensors
    return *torch.ops.ik_e3nn.outer_sums_gradient(g, Y, R, x, *edges), None, None, None


def _gradient_of_gradient(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
    r"""Derivatives of :math:`Q(g, y, R, x) + Q(g, Y, r, x) + Q(g, Y, R, u)` for the gradients y, r and u of outputs."""
    g, Y, R, x, *edges = ctx.saved_tensors
    second = _second_by_parts if torch.is_grad_enabled() else torch.ops.ik_e3nn.outer_sums_second
    return *second(g, Y, R, x, *directions, *edges), None, None


def _gradient_of_second(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    """By autograd through the two operators; only a function that was traced without derivatives needs it."""
    create_graph, wanted = torch.is_grad_enabled(), [tensor for tensor in ctx.saved_tensors if tensor.requires_grad]
    with torch.enable_grad():
        outputs = _second_by_parts(*ctx.saved_tensors)
        found = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=create_graph, allow_unused=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in ctx.saved_tensors)


_LIBRARY.impl("outer_sums", _sums, "CompositeExplicitAutograd")
_LIBRARY.impl("outer_sums_gradient", _gradient, "CompositeExplicitAutograd")
_LIBRARY.impl("outer_sums_second", _second, "CompositeExplicitAutograd")
torch.library.register_fake(
    "ik_e3nn::outer_sums",
    lambda Y, R, x, senders, owners, size: x.new_empty(Y.shape[1], x.shape[0], size, x.shape[2]),
    lib=_LIBRARY,
)
torch.library.register_fake(
    "ik_e3nn::outer_sums_gradient",
    lambda g, Y, R, x, senders, owners: tuple(_in_one_piece(tensor) for tensor in (Y, R, x)),
    lib=_LIBRARY,
)
torch.library.register_fake(
    "ik_e3nn::outer_sums_second",
    lambda g, Y, R, x, y, r, u, senders, owners: tuple(_in_one_piece(tensor) for tensor in (g, Y, R, x)),
    lib=_LIBRARY,
)
torch.library.register_autograd("ik_e3nn::outer_sums", _gradient_of_sums, setup_context=_save_sums, lib=_LIBRARY)
torch.library.register_autograd(
    "ik_e3nn::outer_sums_gradient", _gradient_of_gradient, setup_context=_save_all, lib=_LIBRARY
)
torch.library.register_autograd(
    "ik_e3nn::outer_sums_second", _gradient_of_second, setup_context=_save_all, lib=_LIBRARY
)
