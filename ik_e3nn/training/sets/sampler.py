"""Order and composition of the batches: shuffled by epoch, bounded by atoms and edges, shared among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from ik_e3nn.errors import ConfigError
from ik_e3nn.training.config.limits import BatchLimits


class Size(NamedTuple):
    """The size of a structure."""

    atoms: int
    edges: int


def pack(order: Sequence[int], sizes: Sequence[Size], limits: BatchLimits, *, processes: int = 1) -> list[list[int]]:
    """Cut a sequence of structures into batches, each for one optimizer step of all processes together.

    Args:
        order: Indices of the structures.
        sizes: Atoms and edges of every structure.
        limits: Limits on the size of batches.
        processes: No batch has fewer structures than this, so that no process is idle.

    Returns:
        Batches of indices that together hold ``order`` exactly once.

    Raises:
        ConfigError: There are fewer structures than processes.

    >>> pack(range(5), [Size(n, 2 * n) for n in (3, 3, 3, 9, 1)], BatchLimits(2, max_atoms=7))
    [[0, 1], [2], [3], [4]]
    """
    if len(order) < processes:
        raise ConfigError(f"{len(order)} structures cannot be shared by {processes} processes; use fewer processes.")
    bounds = [float("inf") if most is None else most * processes for most in (limits.max_atoms, limits.max_edges)]
    batches: list[list[int]] = [[]]
    total = Size(0, 0)
    for index in order:
        size = sizes[index]
        too_large = total.atoms + size.atoms > bounds[0] or total.edges + size.edges > bounds[1]
        if (too_large or len(batches[-1]) >= limits.batch_size) and len(batches[-1]) >= processes:
            batches.append([])
            total = Size(0, 0)
        batches[-1].append(index)
        total = Size(total.atoms + size.atoms, total.edges + size.edges)
    if len(batches) > 1 and len(batches[-1]) < processes:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


class EpochSampler:
    """The share of one process in the batches of structure indices; the same seed and epoch give the same batches.

    Args:
        sizes: Atoms and edges of every structure.
        limits: Limits on the size of batches.
        seed: Epoch ``n`` is shuffled with ``seed + n``; None keeps the order (validation).
        rank: This process, 0 <= rank < processes.
        processes: Number of processes.
    """

    def __init__(
        self,
        sizes: Sequence[Size],
        limits: BatchLimits,
        *,
        seed: int | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.sizes, self.limits = sizes, limits
        self._seed = seed
        self._rank, self._processes = rank, processes
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls this before each."""
        order = list(range(len(self.sizes)))
        if self._seed is not None:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(self._seed + epoch)).tolist()
        packed = pack(order, self.sizes, self.limits, processes=self._processes)
        self._batches = [batch[self._rank :: self._processes] for batch in packed]

    @property
    def largest(self) -> tuple[int, int, int]:
        """Most structures, atoms and edges in a batch of this epoch."""
        parts = [[self.sizes[index] for index in batch] for batch in self._batches]
        totals = [(len(part), sum(one.atoms for one in part), sum(one.edges for one in part)) for part in parts]
        structures, atoms, edges = (max(column) for column in zip(*totals, strict=True))
        return structures, atoms, edges

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)
