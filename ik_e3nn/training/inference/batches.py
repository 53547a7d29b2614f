"""Evaluating a function of batches on a whole data set, in smaller batches if the memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ik_e3nn.errors import DataError
from ik_e3nn.memory import is_out_of_memory
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.sets.loader import BatchLoader, Graphs, sizes_of, to_device
from ik_e3nn.training.sets.sampler import EpochSampler, Size, pack

Result = TypeVar("Result")
Batch = dict[str, Tensor]

_log = logging.getLogger(__name__)


def in_batches(
    function: Callable[[Batch], Result], graphs: Graphs, limits: BatchLimits, device: torch.device
) -> Iterator[tuple[Batch, Result]]:
    """Evaluate a function on all graphs in their order.

    A batch for which the memory does not suffice is evaluated in parts, and no later batch has more than half of its
    edges.

    Args:
        function: The function. It may be called again with a part of a batch, so that it must change nothing before it
            has all of its results.
        graphs: The graphs.
        limits: Limits on the size of batches.
        device: The device of the batches.

    Yields:
        Batches on the device, and the function's results.

    Raises:
        DataError: The memory does not suffice for a single structure.
    """
    sizes = sizes_of(graphs)
    loader = BatchLoader(graphs, EpochSampler(sizes, limits))
    waiting = list(loader.sampler)
    while waiting:
        batch = to_device(loader.batch(waiting[0]), device)
        try:
            result = function(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:  # continue only outside of the handler, because the error keeps all tensors of the evaluation alive
            yield batch, result
            del waiting[0], result
            continue
        del batch
        limits = _smaller(limits, [sizes[index] for index in waiting[0]], first=waiting[0][0], device=device)
        waiting = pack([index for indices in waiting for index in indices], sizes, limits)


def _smaller(limits: BatchLimits, batch: list[Size], *, first: int, device: torch.device) -> BatchLimits:
    """Limits of half the size of a batch that is too large.

    Raises:
        DataError: The batch is a single structure.
    """
    atoms, edges = (sum(column) for column in zip(*batch, strict=True))
    if len(batch) == 1:
        raise DataError(
            f"structure {first} (counted from 0, with {atoms:,} atoms and {edges:,} edges) does not fit into the "
            f"memory of {device}; leave it out, use float32, or use a device with more memory"
        )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    half = replace(limits, max_edges=edges // 2) if edges else replace(limits, max_atoms=atoms // 2)
    _log.info(
        "a batch of %d structures with %d atoms and %d edges does not fit into the memory of %s; continuing with at "
        "most %d %s in a batch",
        len(batch), atoms, edges, device, *((half.max_edges, "edges") if edges else (half.max_atoms, "atoms")),
    )  # fmt: skip
    return half
