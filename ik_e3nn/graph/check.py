"""Check the tensors of a graph against the table of fields."""

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph.bonds.stored import BOND_NAMES
from ik_e3nn.graph.fields import BATCH, BOND_TYPES, EDGE_INDEX, FIELDS

_NUMBERS_OF = {EDGE_INDEX: "N", BATCH: "B", BOND_TYPES: "types"}  # fields that index atoms, structures, bond types


def check_graph(graph: Mapping[str, Tensor], names: Sequence[str]) -> None:
    """Refuse a graph whose tensors are missing or have a wrong shape, dtype or index.

    Args:
        graph: Tensors by the names of ``FIELDS``.
        names: Names of the tensors that are needed.

    Raises:
        MissingInputError: A tensor is missing.
        DataError: A tensor differs from its entry in ``FIELDS``.

    Example:
        >>> check_graph({"batch": torch.zeros(3)}, ["batch"])
        Traceback (most recent call last):
        ik_e3nn.errors.DataError: batch is torch.float32 of shape (3,); expected int64 of shape (N,): structure that \
each atom belongs to
    """
    sizes: dict[str, int] = {}
    for name in names:
        if name not in graph:
            raise MissingInputError(f"the model needs {name!r}, but the structure does not give it")
        field, tensor, before = FIELDS[name], graph[name], dict(sizes)
        symbols = _symbols(field.shape)
        right = field.dtype == str(tensor.dtype).removeprefix("torch.")
        if field.dtype == "float":
            right = tensor.is_floating_point()
        right &= len(symbols) == tensor.dim() and all(
            size == (int(symbol) if symbol.isdigit() else sizes.setdefault(symbol, size))
            for symbol, size in zip(symbols, tensor.shape, strict=True)
        )
        if not right:
            known = "".join(f", {symbol} = {before[symbol]}" for symbol in symbols if symbol in before)
            raise DataError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; expected {field.dtype} of shape "
                f"{field.shape}{known}: {field.meaning}"
            )
    sizes["types"] = len(BOND_NAMES)
    for name in names:
        most = sizes.get(_NUMBERS_OF.get(name, ""))
        if most is not None and graph[name].numel():
            low, high = torch.stack(graph[name].aminmax()).tolist()
            if low < 0 or high >= most:
                raise DataError(
                    f"{name} holds numbers from {low} to {high}; expected 0 to {most - 1}: {FIELDS[name].meaning}"
                )


@functools.cache
def _symbols(shape: str) -> tuple[str, ...]:
    """The symbols and numbers of a shape such as "(N, 3)"."""
    return tuple(shape.strip("(),").split(", "))
